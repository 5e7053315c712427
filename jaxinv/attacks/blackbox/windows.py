"""Weights of an affine edge whose features see a window each, from a few coded queries. JAX, NumPy.

Values of an image that no feature sees together can be asked in one query. Their answers are told
apart by two more, in which values weigh by their row and by their column: the answer of a feature,
beside that of the first query, is the weight, and so the place. Nothing is known of the layers:
strides, padding, dilation, groups and pooling make no difference.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jax import Array

MOST_ANSWERS = 2**29  # values of the answers to all grids
CODES = 3  # queries of a grid: plain, by row, by column
SPACINGS = (5, 9, 13, 21, 33)  # pixels; they serve windows of half as much, and one
_CHECK = 3  # the code that no place explains but the right one
_STRONG = 1e-3  # of the largest answer: places are read from no weaker one
_MATCH = 1e-2  # of an answer, by which the check may differ
_ROUNDING = 2e-7  # of a feature's offset and largest answer: less is no weight
_ROWS = 21  # grids at once, at most
_VALUES = 2**26  # of answers at once
_COLUMNS = 2**24  # values of answers of which weights are made at once


@dataclasses.dataclass(frozen=True)
class Grids:
    """Grids of values of an image `[H, W, C]`, `spacing` pixels apart, that hold each value once.

    A code of a grid is an image: its values are at most 1 on the grid, and 0 elsewhere.
    """

    shape: tuple[int, int, int]
    spacing: int

    @property
    def sides(self) -> tuple[int, int, int]:
        """Number of different first rows, first columns and channels."""
        height, width, channels = self.shape
        return min(self.spacing, height), min(self.spacing, width), channels

    @property
    def count(self) -> int:
        """Number of grids."""
        return math.prod(self.sides)

    @property
    def steps(self) -> tuple[int, int]:
        """Number of rows and columns of a grid, at most."""
        height, width, _ = self.shape
        return -(-height // self.spacing), -(-width // self.spacing)

    def codes(self) -> np.ndarray:
        """Weights `[4, rows, columns]` of a grid's values: plain, by row, by column, a check."""
        rows, columns = self.steps
        plain = np.ones((rows, columns))
        by_row = plain - np.arange(rows)[:, None] / (2 * rows)
        by_column = plain - np.arange(columns) / (2 * columns)
        check = np.random.default_rng(0).uniform(0.5, 1, plain.shape)
        return np.stack([plain, by_row, by_column, check]).astype(np.float32)

    def images(self, grids: Array, codes: Array) -> Array:
        """Makes the images `[B, H, W, C]` of some grids and codes `[B]`; traceable."""
        return jax.vmap(self._image)(grids, codes)

    def _image(self, grid: Array, code: Array) -> Array:
        height, width, channels = self.shape
        first_row, first_column, channel = jnp.unravel_index(grid, self.sides)
        rows, columns = jnp.arange(height), jnp.arange(width)
        weights = jnp.asarray(self.codes())[:, rows // self.spacing][..., columns // self.spacing]
        on_row, on_column = rows % self.spacing == first_row, columns % self.spacing == first_column
        plane = jnp.where(on_row[:, None] & on_column[None, :], weights[code], 0)
        return plane[..., None] * jax.nn.one_hot(channel, channels, dtype=np.float32)[None, None, :]


Ask = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""`(grids [n], codes [n]) -> answers [n, M]`, less that of the black image."""


def weight(grids: Grids, ask: Ask, offset: np.ndarray) -> scipy.sparse.csc_array | None:
    """Returns the weights `[D, M]` of an edge by the codes of every grid.

    Returns None, after the codes of one grid, where a feature sees two values of it.

    Args:
      grids: whose values are asked together.
      ask: asks for codes.
      offset: `[M]`, the answer to the black image.
    """
    rows, columns, channels = grids.sides
    middle = (rows // 2 * columns + columns // 2) * channels
    first = ask(np.full(CODES + 1, middle), np.arange(CODES + 1))
    if not _are_apart(grids, *first):
        return None
    plain = np.empty((grids.count, len(offset)), np.float32)
    total, centre = np.zeros(len(offset)), np.zeros((2, len(offset)))
    for part, answers in _asked(grids, ask, middle, first[:CODES]):
        plain[part], *others = answers
        size = np.abs(plain[part])
        total += size.sum(axis=0)
        places = _places(grids, plain[part], *others)
        for axis, (begin, steps) in enumerate(zip(_firsts(grids, part), places, strict=False)):
            centre[axis] += (size * (begin[:, None] + grids.spacing * steps)).sum(axis=0)
    centre /= np.where(total == 0, 1, total)
    return _assembled(grids, plain, centre, offset)


def _asked(
    grids: Grids, ask: Ask, known: int, answers: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields numbers of grids and the answers `[3, n, M]` to their codes; one is known."""
    yield np.array([known]), answers[:, None]
    others = np.delete(np.arange(grids.count), known)
    step = max(1, min(_ROWS, _VALUES // (CODES * answers.shape[1])))
    for begin in range(0, len(others), step):
        part = others[begin : begin + step]
        found = ask(np.repeat(part, CODES), np.tile(np.arange(CODES), len(part)))
        yield part, found.reshape(len(part), CODES, -1).swapaxes(0, 1)


def _are_apart(
    grids: Grids, plain: np.ndarray, by_row: np.ndarray, by_column: np.ndarray, check: np.ndarray
) -> bool:
    """Returns whether no feature sees two values of a grid, by the answers to its codes."""
    strong = np.abs(plain) > _STRONG * np.abs(plain).max()
    plain, check = plain[strong], check[strong]
    rows, columns = _places(grids, plain, by_row[strong], by_column[strong])
    expected = (
        plain * grids.codes()[_CHECK][np.rint(rows).astype(int), np.rint(columns).astype(int)]
    )
    return bool((np.abs(check - expected) <= _MATCH * np.abs(plain)).all())


def _firsts(grids: Grids, numbers: Any) -> tuple[np.ndarray, ...]:
    """Returns first rows, first columns and channels of grids."""
    return np.unravel_index(numbers, grids.sides)


def _places(
    grids: Grids, plain: np.ndarray, by_row: np.ndarray, by_column: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Reads rows and columns of a grid off the answers to its codes."""
    safe = np.where(plain == 0, 1, plain)
    read = (
        np.clip((1 - answer / safe) * 2 * steps, 0, steps - 1)
        for answer, steps in zip((by_row, by_column), grids.steps, strict=True)
    )
    rows, columns = read
    return rows, columns


def _assembled(
    grids: Grids, plain: np.ndarray, centre: np.ndarray, offset: np.ndarray
) -> scipy.sparse.csc_array:
    """Gives each answer to the value of its grid that is nearest to the centre of a window."""
    step = max(1, _COLUMNS // len(plain))
    parts = []
    for begin in range(0, len(offset), step):
        part = slice(begin, begin + step)
        parts.append(_of_features(grids, plain[:, part], centre[:, part], offset[part]))
    return scipy.sparse.hstack(parts, format="csc")


def _of_features(
    grids: Grids, plain: np.ndarray, centre: np.ndarray, offset: np.ndarray
) -> scipy.sparse.csc_array:
    """Returns the weights `[D, m]` of some features."""
    least = _ROUNDING * (np.abs(offset) + np.abs(plain).max(axis=0))
    rows, columns, values = [], [], []
    for number, answers in enumerate(plain):
        *firsts, channel = _firsts(grids, number)
        (seen,) = np.nonzero(np.abs(answers) > least)
        place = [
            first + grids.spacing * _nearest(middle[seen] - first, grids.spacing, side - first)
            for first, middle, side in zip(firsts, centre, grids.shape, strict=False)
        ]
        row = np.ravel_multi_index((*place, np.full(len(seen), channel)), grids.shape)
        rows.append(row.astype(np.int32))
        columns.append(seen.astype(np.int32))
        values.append(answers[seen])
    places = np.concatenate(rows), np.concatenate(columns)
    shape = (math.prod(grids.shape), len(offset))
    return scipy.sparse.csc_array((np.concatenate(values), places), shape)


def _nearest(distance: np.ndarray, spacing: int, left: Any) -> np.ndarray:
    """Returns which steps of a grid lie nearest, of those within `left` pixels."""
    return np.clip(np.rint(distance / spacing), 0, (left - 1) // spacing).astype(int)
