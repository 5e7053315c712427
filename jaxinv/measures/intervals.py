"""Intervals of shares and of means over images, and how many images settle a limit. NumPy, SciPy.

A share has the exact binomial limits of Clopper and Pearson (Biometrika 26, 1934): none of 64 is
[0, 5.6%]. A mean of scores in a known range, such as SSIM, has limits that hold for every
distribution of scores (`betting`): if one image in a hundred leaks, 64 images often show none, and
a spread that is estimated of these is too small. Both assume that images are drawn independently.

PSNR has no range that is worth betting on. It has Student's t interval (Biometrika 6, 1908), which
is exact for normal scores and approximate for others, and no limit is judged by it.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from jaxinv.measures import betting

CONFIDENCE = 0.95
"""Confidence of an interval that stands alone; both sides are missed equally often."""

_MOST = 10**9  # images; more are none
_SLACK = 1e-9  # of a count that went through a mean


class Summary(NamedTuple):
    """Statistics of the finite values over images. All NaN if there are none."""

    mean: float
    std: float  # the spread over images (population), not the error of the mean
    median: float
    low: float  # low and high: the 95% interval of the mean, NaN where there is none
    high: float


class Ends(NamedTuple):
    """Ends of an interval; None where there is none."""

    low: float | None = None
    high: float | None = None


class Share(NamedTuple):
    """Share of `number` independent images.

    Attributes:
      mean: the share.
      number: of images.
      means: whether what counts of an image may be any number in [0, 1], such as a mean over draws.
        Coins that fall with these chances have a binomial sum, whose median lies at the images' own
        sum or at a whole number next to it (Jogdeo and Samuels 1968). So the sum is in a tail at
        most twice as often as a binomial count, and limits are of half the tail, and of the next
        whole count outwards.
    """

    mean: float
    number: int
    means: bool = False

    def interval(self, confidence: float = CONFIDENCE) -> Ends:
        """Returns the limits of Clopper and Pearson."""
        if not self.number:
            return Ends()
        tail = (1 - confidence) / (4 if self.means else 2)
        fewest = math.floor(self.mean * self.number + _SLACK)
        most = math.ceil(self.mean * self.number - _SLACK)
        low = special.betaincinv(fewest, self.number - fewest + 1, tail) if fewest else 0.0
        left = self.number - most
        high = special.betaincinv(most + 1, left, 1 - tail) if left else 1.0
        return Ends(float(low), float(high))

    def needed(self, limit: float, confidence: float = CONFIDENCE) -> int | None:
        """Returns how many images with this share settle a limit; None if no number does.

        A count between two whole ones is taken to be that nearer to the limit.
        """

        def settles(count: int) -> bool:
            exact = self.mean * count
            found = math.ceil(exact - _SLACK) if self.mean < limit else math.floor(exact + _SLACK)
            low, high = self._replace(mean=found / count, number=count).interval(confidence)
            assert low is not None and high is not None
            return high < limit if self.mean < limit else low > limit

        return None if self.mean == limit else _least(settles)


class Score(NamedTuple):
    """Scores of images `[N]`, which are in `[least, most]`; the images are drawn independently.

    Nothing else is assumed of them: the interval of the mean allows for leaks that are too rare to
    be among these images (`betting`).
    """

    values: tuple[float, ...]
    least: float = -1.0
    most: float = 1.0

    @property
    def mean(self) -> float:
        """Returns the mean of the scores."""
        return math.fsum(self.values) / len(self.values)

    @property
    def number(self) -> int:
        """Returns the number of images."""
        return len(self.values)

    def interval(self, confidence: float = CONFIDENCE) -> Ends:
        """Returns limits that hold for every distribution in `[least, most]`."""
        tail, unit = (1 - confidence) / 2, self._unit
        span = self.most - self.least
        ends = (betting.lower(unit, tail), betting.upper(unit, tail))
        return Ends(*(self.least + span * end for end in ends))

    def needed(self, limit: float, confidence: float = CONFIDENCE) -> int | None:
        """Returns how many images, distributed as these are, settle a limit.

        None if no number does, and of a single image, which tells no distribution.
        """
        if self.number < 2 or self.mean == limit:
            return None
        unit, place = self._unit, (limit - self.least) / (self.most - self.least)
        tail = (1 - confidence) / 2
        return _least(lambda count: betting.rules_out(unit, place, count, tail))

    @property
    def _unit(self) -> tuple[float, ...]:
        """Returns the scores in [0, 1]."""
        span = self.most - self.least
        return tuple(min(max((each - self.least) / span, 0.0), 1.0) for each in self.values)


class Student(NamedTuple):
    """Mean of `number` images' scores, whose sample standard deviation is `std`, in any range.

    Its interval is approximate: it is too narrow where few images have most of the mean or of the
    spread. So it is shown, and proves no limit on leakage.
    """

    mean: float
    std: float
    number: int
    least: float = -math.inf
    most: float = math.inf

    def interval(self, confidence: float = CONFIDENCE) -> Ends:
        """Returns Student's interval within `[least, most]`; none of a single image."""
        if self.number < 2:
            return Ends()
        quantile = float(special.stdtrit(self.number - 1, (1 + confidence) / 2))
        reach = quantile * self.std / math.sqrt(self.number)
        return Ends(max(self.mean - reach, self.least), min(self.mean + reach, self.most))


Sample = Share | Score | Student


def score(values: ArrayLike, *, least: float, most: float) -> Score | None:
    """Returns the finite values of `[N]`, all in `[least, most]`, as a sample; None of none."""
    finite = _finite(values)
    return Score(tuple(finite.tolist()), least, most) if finite.size else None


def student(
    values: ArrayLike, *, least: float = -math.inf, most: float = math.inf
) -> Student | None:
    """Returns mean and spread of the finite values of `[N]` as a sample; None of none."""
    finite = _finite(values)
    if not finite.size:
        return None
    std = float(finite.std(ddof=1)) if finite.size > 1 else math.nan
    return Student(float(finite.mean()), std, finite.size, least, most)


def summarise(values: ArrayLike, *, least: float = -math.inf, most: float = math.inf) -> Summary:
    """Computes mean, spread, median and Student's approximate interval of finite values of `[N]`.

    Args:
      values: a score of each image.
      least, most: where the interval is cut.
    """
    return _summary(values, student(values, least=least, most=most))


def summarise_scores(values: ArrayLike, *, least: float, most: float) -> Summary:
    """Computes mean, spread, median and the interval of finite values of `[N]`; see `Score`.

    Args:
      values: a score of each image.
      least, most: between which scores are, whatever the image.
    """
    return _summary(values, score(values, least=least, most=most))


def summarise_share(values: ArrayLike) -> Summary:
    """Computes mean, spread, median and the exact 95% limits of a share.

    Args:
      values: `[N]` for each image whether, or in which share of draws, it is so.
    """
    finite = _finite(values)
    if not finite.size:
        return _summary(values, None)
    means = bool(((finite != 0) & (finite != 1)).any())
    return _summary(values, Share(float(finite.mean()), finite.size, means))


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
