"""Intervals of shares and of means over images, and how many images settle a limit. NumPy, SciPy.

A share has the exact binomial limits of Clopper and Pearson (Biometrika 26, 1934): none of 64 is
[0, 5.6%]. A mean of scores has Student's t interval (Biometrika 6, 1908), which allows for a spread
that is itself estimated of few images. Of one image there is no spread, and no interval.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

CONFIDENCE = 0.95
"""Confidence of an interval that stands alone; both sides are missed equally often."""

_MOST = 10**9  # images; more are none
_SLACK = 1e-9  # of a count that went through a mean


class Summary(NamedTuple):
    """Statistics of the finite values over images. All NaN if there are none."""

    mean: float
    std: float  # the spread over images (population), not the error of the mean
    median: float
    low: float  # low and high: the 95% interval of the mean, NaN of a single value
    high: float


class Ends(NamedTuple):
    """Ends of an interval; None where there is none."""

    low: float | None = None
    high: float | None = None


class Share(NamedTuple):
    """Share of `number` independent images.

    What is in [0, 1] for each image, such as a mean over draws, counts as a share, too: it spreads
    no more than a coin of its mean (Hoeffding 1963). Limits are of the next whole count outwards.
    """

    mean: float
    number: int

    def interval(self, confidence: float = CONFIDENCE) -> Ends:
        """Returns the limits of Clopper and Pearson."""
        if not self.number:
            return Ends()
        tail = (1 - confidence) / 2
        fewest = math.floor(self.mean * self.number + _SLACK)
        most = math.ceil(self.mean * self.number - _SLACK)
        low = special.betaincinv(fewest, self.number - fewest + 1, tail) if fewest else 0.0
        left = self.number - most
        high = special.betaincinv(most + 1, left, 1 - tail) if left else 1.0
        return Ends(float(low), float(high))

    def reach(self, confidence: float = CONFIDENCE) -> float:
        """Returns how far the interval reaches above the mean."""
        high = self.interval(confidence).high
        return 1 - self.mean if high is None else max(high - self.mean, 0.0)

    def needed(self, limit: float, confidence: float = CONFIDENCE) -> int | None:
        """Returns how many images with this share settle a limit; None if no number does.

        A count between two whole ones is taken to be that nearer to the limit.
        """

        def settles(count: int) -> bool:
            exact = self.mean * count
            found = math.ceil(exact - _SLACK) if self.mean < limit else math.floor(exact + _SLACK)
            low, high = Share(found / count, count).interval(confidence)
            assert low is not None and high is not None
            return high < limit if self.mean < limit else low > limit

        return None if self.mean == limit else _least(settles)


class Score(NamedTuple):
    """Mean of `number` images' scores, whose sample standard deviation is `std`."""

    mean: float
    std: float
    number: int
    least: float = -math.inf
    most: float = math.inf

    def interval(self, confidence: float = CONFIDENCE) -> Ends:
        """Returns Student's interval within `[least, most]`; none of a single image."""
        if self.number < 2:
            return Ends()
        reach = self._reach(self.number, confidence)
        return Ends(max(self.mean - reach, self.least), min(self.mean + reach, self.most))

    def reach(self, confidence: float = CONFIDENCE) -> float:
        """Returns how far the interval reaches above the mean, if nothing bounds it."""
        return math.inf if self.number < 2 else self._reach(self.number, confidence)

    def needed(self, limit: float, confidence: float = CONFIDENCE) -> int | None:
        """Returns how many images of this mean and spread settle a limit.

        None if no number does, or if the spread is not known.
        """
        distance = abs(self.mean - limit)
        if self.number < 2 or not distance:
            return None
        return _least(lambda count: self._reach(count, confidence) < distance, first=2)

    def _reach(self, count: int, confidence: float) -> float:
        quantile = special.stdtrit(count - 1, (1 + confidence) / 2)
        return float(quantile) * self.std / math.sqrt(count)


Sample = Share | Score


def score(values: ArrayLike, *, least: float = -math.inf, most: float = math.inf) -> Score | None:
    """Returns the mean of the finite values of `[N]`, all in `[least, most]`; None of none."""
    finite = _finite(values)
    if not finite.size:
        return None
    std = float(finite.std(ddof=1)) if finite.size > 1 else math.nan
    return Score(float(finite.mean()), std, finite.size, least, most)


def rescaled(
    mean: float, low: float, count: int, confidence: float, *, least: float, most: float
) -> Ends:
    """Returns Student's interval of another confidence.

    Args:
      mean, low: of `count` images, and the lower end of the 95% interval of the mean.
      count: number of images.
      confidence: of the interval.
      least, most: between which scores are; the interval is cut there.
    """
    if count < 2:
        return Ends()
    unit = Score(mean, 1.0, count).reach()
    return Score(mean, (mean - low) / unit, count, least, most).interval(confidence)


def summarise(values: ArrayLike, *, least: float = -math.inf, most: float = math.inf) -> Summary:
    """Computes mean, spread, median and Student's 95% interval of the finite values of `[N]`.

    Args:
      values: a score of each image.
      least, most: between which scores are; the interval is cut there.
    """
    found = score(values, least=least, most=most)
    return _summary(values, found)


def summarise_share(values: ArrayLike) -> Summary:
    """Computes mean, spread, median and the exact 95% limits of a share.

    Args:
      values: `[N]` for each image whether, or in which share of draws, it is so.
    """
    finite = _finite(values)
    return _summary(values, Share(float(finite.mean()), finite.size) if finite.size else None)


def told(mean: float | None, ends: Sequence[float | None], form: str) -> str:
    """Returns a mean and its interval as text, `0.812 [0.790, 0.834]`; a dash for no mean.

    Args:
      mean: a number, or None.
      ends: of the interval; left out where there is none, or no more than a point.
      form: of each number, such as ".3f".
    """
    if mean is None:
        return "-"
    low, high = ends
    known = low is not None and high is not None and low != high
    return f"{mean:{form}}" + (f" [{low:{form}}, {high:{form}}]" if known else "")


def _summary(values: ArrayLike, found: Sample | None) -> Summary:
    if found is None:
        return Summary(*[math.nan] * 5)
    finite, (low, high) = _finite(values), found.interval()
    ends = (math.nan if end is None else end for end in (low, high))
    return Summary(found.mean, float(finite.std()), float(np.median(finite)), *ends)


def _finite(values: ArrayLike) -> np.ndarray:
    found = np.asarray(values, np.float64)
    return found[np.isfinite(found)]


def _least(settles: Callable[[int], bool], *, first: int = 1) -> int | None:
    """Returns the least count that settles a limit, by doubling and halving."""
    high = first
    while not settles(high):
        high *= 2
        if high > _MOST:
            return None
    low = high // 2
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (low, middle) if settles(middle) else (middle, high)
    return high
