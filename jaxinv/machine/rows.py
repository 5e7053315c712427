"""Arrays whose rows are made when they are indexed, so that none is in memory as a whole. NumPy.

Such an object has the `shape`, `dtype`, `nbytes` and length of its array, makes rows by a slice or
an index array, and the array by `numpy.asarray`.
"""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

_BLOCK = 2**24  # bytes at once


def are_made(array: Any) -> bool:
    """Tells whether the rows of an array are made when they are indexed."""
    plain = isinstance(array, np.ndarray | np.generic | jax.Array)
    return not plain and hasattr(array, "__array__") and hasattr(array, "nbytes")


def blocks(array: Any) -> Iterator[np.ndarray]:
    """Yields an array in order: as a whole, or some rows at a time where these are made."""
    if not are_made(array):
        yield np.asarray(array)
        return
    step = max(1, _BLOCK * len(array) // max(array.nbytes, 1))
    for begin in range(0, len(array), step):
        yield np.asarray(array[begin : begin + step])


def mean_and_variance(array: Any, axes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Computes mean and variance over axes, the first among them, with sums in float64."""
    count = np.prod([array.shape[axis] for axis in axes])
    total: Any = 0.0
    squares: Any = 0.0
    for block in blocks(array):
        total = total + block.sum(axis=axes, dtype=np.float64)
        squares = squares + np.square(block, dtype=np.float64).sum(axis=axes)
    mean = total / count
    return mean, np.maximum(squares / count - mean**2, 0)
