"""Systems of equations whose solutions are images: affine maps of pixels to features. NumPy."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
import scipy.sparse

from jaxinv.attacks.attack import Features

MOST_VALUES = 2**28
"""Values of any matrix that is kept."""

MOST_BANDS = 2**28
"""Values of a factorised matrix; larger systems are solved by conjugate gradients."""

AMBIGUOUS = "affine, and maps several images to about the same features"

_TOLERANCE = 1e-4  # of features, beside their length, which the map has to explain
_LEAST_PIVOT = 1e-6  # of the triangular factor, beside its largest: less is no unique solution
_LEAST_RESIDUAL, _MOST_STEPS = 1e-8, 1000  # of conjugate gradients, beside the right-hand side
_COLUMNS, _ROWS = 2048, 2**24  # features, and values of images and features, at once in float64

Weight = Any  # `[D, M]` float32: a NumPy array, or a `scipy.sparse.csc_array`


class UnsolvedError(Exception):
    """Images cannot be solved for; the message says why."""


class System(NamedTuple):
    """An affine map, `features = x @ weight + offset`, that can be solved for x.

    Attributes:
      weight: `[D, M]` float32, dense or sparse.
      offset: `[M]` float32.
      invert: multiplies `[n, D]` by the inverse of `weight @ weight.T`, in float64.
    """

    weight: Weight
    offset: np.ndarray
    invert: Callable[[np.ndarray], np.ndarray]

    def solve(self, features: Features) -> np.ndarray | None:
        """Solves for the images `[N, D]` of features `[N, ...]`.

        Returns None if the map does not explain them.
        """
        found, step = [], max(1, _ROWS // sum(self.weight.shape))
        for begin in range(0, len(features), step):
            rows = features[np.arange(begin, min(begin + step, len(features)))]
            images = _solve_rows(self, rows.reshape(len(rows), -1))
            if images is None:
                return None
            found.append(images)
        return np.concatenate(found)


def factorised(weight: Weight, offset: np.ndarray) -> System:
    """Prepares to solve.

    Args:
      weight, offset: as `System` has them.

    Raises:
      UnsolvedError: no solution is unique, or it takes too much memory.
    """
    factorise = _dense if isinstance(weight, np.ndarray) else _sparse
    return System(weight, offset, factorise(weight))


def _dense(weight: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the product with the inverse of `weight @ weight.T`."""
    gram = np.zeros((len(weight), len(weight)))
    for begin in range(0, weight.shape[1], _COLUMNS):
        columns = weight[:, begin : begin + _COLUMNS].astype(np.float64)
        gram += columns @ columns.T
    with _unique():
        factor = scipy.linalg.cho_factor(gram, lower=True, overwrite_a=True)
        _check_pivots(np.diag(factor[0]))
    return lambda rows: scipy.linalg.cho_solve(factor, rows.T).T


def _sparse(weight: scipy.sparse.csc_array) -> Callable[[np.ndarray], np.ndarray]:
    """Does as `_dense`, by bands where these are few, else by conjugate gradients."""
    if weight.nnz > MOST_VALUES:
        raise UnsolvedError("affine, of too many weights to be solved for")
    # Values of an image that a feature sees together are near each other.
    begins = weight.indptr[:-1][np.diff(weight.indptr) > 0]
    first, last = (each.reduceat(weight.indices, begins) for each in (np.minimum, np.maximum))
    width = int((last - first).max(initial=0)) + 1
    if width * weight.shape[0] > MOST_BANDS:
        return _conjugate(weight)
    return _banded(weight, width)


def _conjugate(weight: scipy.sparse.csc_array) -> Callable[[np.ndarray], np.ndarray]:
    """Does as `_dense`, step by step: the method of conjugate gradients (Hestenes & Stiefel 1952).

    Residuals are scaled by the diagonal.
    """
    gram = (weight @ weight.T).astype(np.float64)
    diagonal = gram.diagonal()[:, None]
    with _unique():
        _check_pivots(np.sqrt(np.maximum(diagonal, 0)))

    def solve(rows: np.ndarray) -> np.ndarray:
        found, left = np.zeros(rows.shape[::-1]), rows.T.copy()
        least = _LEAST_RESIDUAL * np.linalg.norm(left, axis=0)
        ahead = left / diagonal
        along, length = ahead.copy(), (left * ahead).sum(axis=0)
        for _ in range(_MOST_STEPS):
            if (np.linalg.norm(left, axis=0) <= least).all():
                break
            slopes = gram @ along
            step = length / np.maximum((along * slopes).sum(axis=0), 1e-300)
            found += step * along
            left -= step * slopes
            ahead = left / diagonal
            before, length = length, (left * ahead).sum(axis=0)
            along = ahead + length / np.maximum(before, 1e-300) * along
        return found.T

    return solve


def _banded(weight: scipy.sparse.csc_array, width: int) -> Callable[[np.ndarray], np.ndarray]:
    """Does as `_dense`, for a product whose values are no further than a width off the diagonal."""
    exact = weight.astype(np.float64)
    gram = scipy.sparse.tril(exact @ exact.T, format="coo")
    below = gram.row - gram.col
    bands = np.zeros((width, weight.shape[0]))
    bands[below, gram.col] = gram.data
    with _unique():
        bands = scipy.linalg.cholesky_banded(bands, overwrite_ab=True, lower=True)
        _check_pivots(bands[0])
    return lambda rows: scipy.linalg.cho_solve_banded((bands, True), rows.T).T


@contextlib.contextmanager
def _unique() -> Iterator[None]:
    """Says that several images have the same features where a factorisation fails."""
    try:
        yield
    except (np.linalg.LinAlgError, ValueError) as error:
        raise UnsolvedError(AMBIGUOUS) from error


def _check_pivots(pivots: np.ndarray) -> None:
    if not pivots.min() > _LEAST_PIVOT * pivots.max():
        raise ValueError("A pivot is as good as zero.")


def _solve_rows(system: System, features: np.ndarray) -> np.ndarray | None:
    solution = np.zeros((len(features), system.weight.shape[0]))
    _, slopes = _residual(system, features, solution)
    solution = system.invert(slopes)
    left, slopes = _residual(system, features, solution)
    if not (left <= _TOLERANCE * np.linalg.norm(features, axis=1)).all():
        return None
    # Once more, for what rounding left.
    solution += system.invert(slopes)
    return solution.astype(np.float32)


def _residual(
    system: System, features: np.ndarray, solution: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Residual of features: its length `[n]`, and its product with the weights `[n, D]`."""
    squares, slopes = np.zeros(len(features)), np.zeros_like(solution)
    for begin in range(0, features.shape[1], _COLUMNS):
        part = slice(begin, begin + _COLUMNS)
        columns = system.weight[:, part].astype(np.float64)
        left = features[:, part] - system.offset[part] - solution @ columns
        squares += np.sum(left**2, axis=1)
        slopes += left @ columns.T
    return np.sqrt(squares), slopes
