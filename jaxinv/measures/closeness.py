"""Closeness of reconstructed series and rows of tables to their originals. NumPy.

Both are `[N, H, W, C]` in unit space, on their grid (`constants.kinds`): a difference of 1 is the
range of a column.
"""

import numpy as np

from jaxinv.constants import kinds
from jaxinv.inputs.columns import Columns

_ROUNDING = 1e-10  # squared length that float32 leaves of what does not vary


def rmse(originals: np.ndarray, reconstructions: np.ndarray) -> np.ndarray:
    """Computes the root of each example's mean squared error, `[N]`, in shares of the range."""
    error = np.clip(reconstructions, 0, 1).astype(np.float64) - originals
    return np.sqrt((error**2).mean(axis=tuple(range(1, error.ndim))))


def rmse_by_column(
    originals: np.ndarray, reconstructions: np.ndarray, columns: Columns
) -> np.ndarray:
    """Computes the root of the mean squared error of each column, `[C]`, in its unit."""
    error = np.clip(reconstructions, 0, 1).astype(np.float64) - originals
    return np.sqrt((error**2).mean(axis=tuple(range(error.ndim - 1)))) * columns.width


def correlation(originals: np.ndarray, reconstructions: np.ndarray, columns: Columns) -> np.ndarray:
    """Computes how much each reconstruction varies with its original, `[N]` in [-1, 1].

    Of series it is Pearson's correlation over time, averaged over channels. Of a row it is the
    cosine between its deviations from the mean row, each in standard deviations of its column: who
    answers the mean row has 0. What does not vary has 0, unless it is the same.
    """
    found = np.clip(reconstructions, 0, 1).astype(np.float64)
    wanted = np.asarray(originals, np.float64)
    same = (found == wanted).all(axis=(1, 2, 3))
    if columns.kind == kinds.TABLE.name:
        center, spread = np.asarray(columns.center), np.asarray(columns.spread)
        a, b = ((each - center) / spread for each in (wanted, found))
        return np.where(same, 1.0, _cosine(a, b, (1, 2, 3)))
    a, b = (each - each.mean(axis=(1, 2), keepdims=True) for each in (wanted, found))
    return np.where(same, 1.0, _cosine(a, b, (1, 2)).mean(axis=-1))


def _cosine(a: np.ndarray, b: np.ndarray, axis: tuple[int, ...]) -> np.ndarray:
    squares = (a**2).sum(axis), (b**2).sum(axis)
    varies = np.minimum(*squares) > _ROUNDING
    lengths = np.sqrt(np.where(varies, squares[0] * squares[1], 1))
    return np.where(varies, np.clip((a * b).sum(axis) / lengths, -1, 1), 0)
