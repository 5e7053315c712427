"""Limits of the mean of scores in [0, 1] that hold for every distribution of them. NumPy.

Somebody who doubts that the mean is q bets on scores x: each multiplies a stake by 1 + b (x/q - 1),
with a fixed b in (0, 1]. If the mean is q or less and scores are independent, the stake is expected
not to grow, so that it exceeds 1/a in at most a share a of all samples (Markov). Stakes are spread
evenly over several b, and all q at which these together exceed 1/a are ruled out. Bets depend on
nothing but the number of scores: the order of scores does not matter, and a greater confidence
gives a wider interval.

Source: the hedged capital on a grid of bets of Waudby-Smith & Ramdas, "Estimating means of bounded
random variables by betting", Journal of the Royal Statistical Society B 86, 2024.
"""

import functools
import math

import numpy as np

_STEPS = 36  # of bisection: the limit is known to 2e-11
_AT_ONCE = 16  # factors that are multiplied before a logarithm is taken


@functools.lru_cache(maxsize=4096)
def lower(scores: tuple[float, ...], tail: float) -> float:
    """Returns a limit that the mean is below in at most a share `tail` of all samples.

    Args:
      scores: `[N]` in [0, 1], of independent draws.
      tail: in (0, 1).
    """
    values = np.array(scores)
    low, high = 0.0, float(values.mean())
    for _ in range(_STEPS if high else 0):
        middle = (low + high) / 2
        low, high = (middle, high) if _is_out(values, middle, len(values), tail) else (low, middle)
    return low


def upper(scores: tuple[float, ...], tail: float) -> float:
    """Returns a limit that the mean is above in at most a share `tail` of all samples."""
    return 1 - lower(tuple(1 - score for score in scores), tail)


def rules_out(scores: tuple[float, ...], mean: float, number: int, tail: float) -> bool:
    """Tells whether so many scores, distributed as these are, show that their mean is another.

    Args:
      scores: `[N]` in [0, 1].
      mean: that is doubted.
      number: of scores, N or another.
      tail: as for `lower`.
    """
    values = np.array(scores)
    if mean > values.mean():
        values, mean = 1 - values, 1 - mean
    return mean <= 0 or _is_out(values, mean, number, tail)


def _is_out(values: np.ndarray, mean: float, number: int, tail: float) -> bool:
    """Tells whether stakes on a greater mean exceed 1 / tail."""
    bets = _bets(number)
    gains = np.pad(values / mean - 1, (0, -len(values) % _AT_ONCE))
    with np.errstate(divide="ignore"):  # a stake may be lost whole
        grown = np.log((1 + bets[:, None] * gains).reshape(len(bets), -1, _AT_ONCE).prod(axis=2))
    stakes = number / len(values) * grown.sum(axis=1)
    return bool(np.logaddexp.reduce(stakes) - math.log(len(bets)) >= -math.log(tail))


def _bets(number: int) -> np.ndarray:
    """Returns bets from those on scores that spread as widely as may be to the boldest."""
    least = min(1.0, 2 / math.sqrt(number))
    return np.geomspace(least, 1.0, 1 + round(-2 * math.log2(least)))
