"""Means over images, with bootstrap intervals. NumPy."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

_RESAMPLES = 2000
_BLOCK = 50  # resamples at once: 10,000 values take 4 MB instead of 160 MB


class Summary(NamedTuple):
    """Statistics of the finite values over images. All NaN if there are none."""

    mean: float
    std: float  # the spread over images (population), not the error of the mean
    median: float
    low: float  # low and high: the 95% bootstrap percentile interval of the mean
    high: float


def summarise(values: ArrayLike) -> Summary:
    """Computes mean, spread, median and an interval of the mean of the finite values of `[N]`.

    The interval is reproducible: the resamples are drawn from a fixed seed.
    """
    finite = np.asarray(values, np.float64)
    finite = finite[np.isfinite(finite)]
    if not finite.size:
        return Summary(*[float("nan")] * 5)
    low, high = np.percentile(_resampled_means(finite), [2.5, 97.5])
    statistics = (finite.mean(), finite.std(), np.median(finite), low, high)
    return Summary(*map(float, statistics))


def _resampled_means(values: np.ndarray) -> np.ndarray:
    """Returns the means `[_RESAMPLES]` of bootstrap samples of `values` `[N]`."""
    rng = np.random.default_rng(0)
    means = [
        values[rng.integers(len(values), size=(_BLOCK, len(values)))].mean(axis=1)
        for _ in range(_RESAMPLES // _BLOCK)
    ]
    return np.concatenate(means)
