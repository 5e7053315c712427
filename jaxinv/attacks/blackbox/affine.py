"""Exact recovery behind an affine edge: a query for each value of an image, and one. JAX, NumPy."""

import math
from typing import NamedTuple

import jax
import numpy as np
import scipy.linalg
from jax import Array
from jax.tree_util import Partial

from jaxinv.attacks.attack import Features
from jaxinv.attacks.learned.queries import drawn
from jaxinv.defenses import Query
from jaxinv.machine import devices

_MOST_VALUES = 2**28  # of the matrix
_TOLERANCE = 1e-4  # of features, beside their length, which an affine map has to explain
_PROBES = 2  # queries that tell most edges from affine ones, beside that of the black image
_LEAST_PIVOT = 1e-6  # of the triangular factor, beside its largest: less is no unique solution
_COLUMNS, _ROWS = 2048, 1000  # features, and images, at once in float64


class Matrix(NamedTuple):
    """An affine map, `features = x @ weight + offset`.

    Attributes:
      weight: `[D, M]` float32.
      offset: `[M]` float32.
      factor: of `weight @ weight.T`, float64, for `scipy.linalg.cho_solve`.
    """

    weight: np.ndarray
    offset: np.ndarray
    factor: tuple[np.ndarray, bool]


class AffineAttempt(NamedTuple):
    """Attempt at an affine edge.

    Attributes:
      matrix: the map that the edge may be; None where it is another or leaves images ambiguous.
      impulses: number of queries of the black image and of each value of an image; 0 if not asked.
      probes: number of queries besides.
    """

    matrix: Matrix | None
    impulses: int
    probes: int

    @property
    def queries(self) -> int:
        return self.impulses + self.probes


def ask(
    query: Query,
    features: np.ndarray,
    image_shape: tuple[int, ...],
    *,
    key: Array,
    num_queries: int,
) -> AffineAttempt:
    """Queries every value of an image by itself, unless that cannot help.

    Two probes reveal most edges that are not affine. Without queries for these, observed features
    that look rectified do.

    Args:
      query: the release, as a function.
      features: `[n, ...]`, some of those observed.
      image_shape: `(H, W, C)`.
      key: of a defense's draws.
      num_queries: at most so many.
    """
    size, values = int(np.prod(image_shape)), int(np.prod(features.shape[1:]))
    if num_queries < size + 1 or values < size or values * size > _MOST_VALUES:
        return AffineAttempt(None, 0, 0)

    query = query if isinstance(query, Partial) else Partial(query)
    probes = _PROBES if num_queries >= size + 1 + _PROBES else 0
    if not probes and features.min() >= 0 and (features == 0).mean() > 0.01:
        return AffineAttempt(None, 0, 0)
    black = np.zeros((1, *image_shape), np.float32)
    offset = np.asarray(_flat(query, key, black, np.zeros(1, np.int32)))[0]
    if probes:
        image = np.random.default_rng(0).random((1, *image_shape), np.float32)
        places = size + 1 + np.arange(probes, dtype=np.int32)
        whole, half = np.asarray(_flat(query, key, np.concatenate([image, image / 2]), places))
        bent = np.linalg.norm(half - (whole + offset) / 2)
        if not bent <= _TOLERANCE * np.linalg.norm(whole - offset):
            return AffineAttempt(None, 0, probes + 1)

    weight = devices.in_slices(
        _impulses,
        np.arange(1, size + 1, dtype=np.int32),
        static=(tuple(image_shape),),
        shared=(query, key),
    )
    weight -= offset
    return AffineAttempt(_factorised(weight, offset), size + 1, probes)


@jax.jit
def _flat(query: Query, key: Array, images: Array, places: Array) -> Array:
    """Answers `[N, M]`."""
    with devices.exact():
        return drawn(query, key, images, places).reshape(len(images), -1)


def _impulses(shape: tuple[int, ...], query: Query, key: Array, places: Array) -> Array:
    """Answers to images of which one value, at its place, is 1 and all others 0."""
    images = jax.nn.one_hot(places - 1, math.prod(shape), dtype=np.float32).reshape(-1, *shape)
    return _flat(query, key, images, places)


def _factorised(weight: np.ndarray, offset: np.ndarray) -> Matrix | None:
    gram = np.zeros((len(weight), len(weight)))
    for begin in range(0, weight.shape[1], _COLUMNS):
        columns = weight[:, begin : begin + _COLUMNS].astype(np.float64)
        gram += columns @ columns.T
    try:
        factor = scipy.linalg.cho_factor(gram, lower=True, overwrite_a=True)
    except (np.linalg.LinAlgError, ValueError):
        return None
    pivots = np.diag(factor[0])
    return Matrix(weight, offset, factor) if pivots.min() > _LEAST_PIVOT * pivots.max() else None


def solve(matrix: Matrix, features: Features, image_shape: tuple[int, ...]) -> np.ndarray | None:
    """Solves for the images `[N, H, W, C]` of features `[N, ...]`.

    Returns None if the map does not explain them.
    """
    found = []
    for begin in range(0, len(features), _ROWS):
        rows = features[np.arange(begin, min(begin + _ROWS, len(features)))]
        images = _solve_rows(matrix, rows.reshape(len(rows), -1))
        if images is None:
            return None
        found.append(images.reshape(-1, *image_shape))
    return np.concatenate(found)


def _solve_rows(matrix: Matrix, features: np.ndarray) -> np.ndarray | None:
    solution = np.zeros((len(features), len(matrix.weight)))
    _, slopes = _residual(matrix, features, solution)
    solution = scipy.linalg.cho_solve(matrix.factor, slopes.T).T
    left, slopes = _residual(matrix, features, solution)
    if not (left <= _TOLERANCE * np.linalg.norm(features, axis=1)).all():
        return None
    # Once more, for what rounding left.
    solution += scipy.linalg.cho_solve(matrix.factor, slopes.T).T
    return solution.astype(np.float32)


def _residual(
    matrix: Matrix, features: np.ndarray, solution: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Residual of features: its length `[n]`, and its product with the weights `[n, D]`."""
    squares, slopes = np.zeros(len(features)), np.zeros_like(solution)
    for begin in range(0, features.shape[1], _COLUMNS):
        part = slice(begin, begin + _COLUMNS)
        columns = matrix.weight[:, part].astype(np.float64)
        left = features[:, part] - matrix.offset[part] - solution @ columns
        squares += np.sum(left**2, axis=1)
        slopes += left @ columns.T
    return np.sqrt(squares), slopes
