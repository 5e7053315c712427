"""Rank correlation, with intervals over networks and what was measured on each. NumPy."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

_DRAWS = 1000
FEWEST = 4
"""Pairs of a rank correlation, at least."""


class Correlation(NamedTuple):
    """Spearman's rank correlation of some pairs, NaN where one side is constant.

    Attributes:
      value: in [-1, 1].
      low, high: 95% limits by the bootstrap.
      number: of pairs.
    """

    value: float
    low: float
    high: float
    number: int


def spearman(x: ArrayLike, y: ArrayLike) -> np.ndarray:
    """Computes the correlation of the ranks of `[..., N]` values, ties at their mean rank.

    It is NaN where one side is constant.
    """
    a, b = (stats.rankdata(each, axis=-1) for each in np.broadcast_arrays(x, y))
    a, b = (each - each.mean(axis=-1, keepdims=True) for each in (a, b))
    norm = np.sqrt((a * a).sum(axis=-1) * (b * b).sum(axis=-1))
    return (a * b).sum(axis=-1) / np.where(norm > 0, norm, np.nan)


def correlation(
    x: Sequence[float], y: Sequence[float], groups: Sequence[str], seed: int = 0
) -> Correlation:
    """Computes Spearman's rank correlation of all pairs, and its interval.

    Pairs of a group are alike, so the bootstrap draws groups, and then pairs of these. Percentiles
    of few groups are too narrow.

    Args:
      x, y: `[N]`, finite.
      groups: `[N]`, names; of one group pairs alone are drawn.
      seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    (a, b), names = np.asarray([x, y], np.float64), np.asarray(groups)
    places = [np.flatnonzero(names == name) for name in np.unique(names)]
    drawn = np.empty((_DRAWS, len(names)), int)
    for row in drawn:
        chosen = [places[each] for each in rng.integers(len(places), size=len(places))]
        row[:] = rng.choice(np.concatenate(chosen), len(names))
    found = spearman(a[drawn], b[drawn])
    known = found[~np.isnan(found)]
    low, high = np.percentile(known, [2.5, 97.5]) if known.size else (np.nan, np.nan)
    return Correlation(float(spearman(a, b)), float(low), float(high), len(names))


def within(x: Sequence[float], y: Sequence[float], groups: Sequence[str]) -> float:
    """Returns the mean of the rank correlations inside groups, each of as much weight; or NaN.

    Groups of fewer than `FEWEST` pairs, and those with a constant side, do not count.
    """
    own, names = np.asarray([x, y], np.float64), np.asarray(groups)
    found = [
        spearman(*own[:, names == name])
        for name in np.unique(names)
        if (names == name).sum() >= FEWEST
    ]
    known = [value for value in found if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
