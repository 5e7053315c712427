"""Verdicts on limits: a limit is kept or broken only where a whole interval says so.

What several attackers do at most is judged by the intervals of all of them. Each of A intervals is
taken at 1 - 5% / A (Bonferroni), so that all of them hold together in 95% of cases, and with them
whatever is chosen by looking at their means.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from jaxinv.constants.verdicts import (
    FAILS,
    GALLERY,
    HOLDS,
    SAFE_REID,
    SAFE_SSIM,
    UNDECIDED,
    Verdict,
)
from jaxinv.measures import intervals
from jaxinv.measures.intervals import Ends, Sample, Share
from jaxinv.store.record import AttackRecord


class Leak(NamedTuple):
    """A measure of what attacks leak.

    Attributes:
      name: of its mean in records.
      scores: name of the scores of images in records, which are in `[least, most]`; "" of a share.
      limit: the constraint on it, "" where there is none.
      safe: the limit below which nothing is given away.
      noise: by which two machines may differ in the mean.
    """

    name: str
    scores: str = ""
    least: float = 0.0
    most: float = 1.0
    limit: str = ""
    safe: float = math.inf
    noise: float = 0.0

    @property
    def interval_name(self) -> str:
        """The name of its interval in records."""
        return f"{self.name.partition('_')[0]}_ci"

    def samples(self, record: AttackRecord) -> list[Sample]:
        """Returns what an attack was measured on; none where it was not, or all diverged.

        Linkage is measured twice, by the reconstruction and by the release.
        """
        if getattr(record, self.name) is None:
            return []
        if self.scores:
            values = [value for value in getattr(record, self.scores) if value is not None]
            found = intervals.score(values, least=self.least, most=self.most)
            return [] if found is None else [found]
        measured = shares(
            (record.reid_top1, min(record.num_images, GALLERY)),
            (record.reid_likelihood, record.reid_likelihood_images),
        )
        # An attacker with nothing to compare releases with proves nothing of linkage.
        return [*measured, Share(0.0, 0)] if record.reid_likelihood_way == "none" else measured

    def needed(self, sample: Sample, limit: float, sure: float) -> int | None:
        """Returns how many images settle a limit for one attack; see `Sample.needed`."""
        if abs(sample.mean - limit) <= self.noise:
            return None
        return sample.needed(limit + (self.noise if sample.mean > limit else -self.noise), sure)


PSNR = Leak("psnr_mean", "psnr", 0.0, 100.0)
SSIM = Leak("ssim_mean", "ssim", -1.0, 1.0, "max_ssim", SAFE_SSIM, 1e-4)
REID = Leak("reid", limit="max_reid", safe=SAFE_REID)
LEAKS = (SSIM, REID)
"""Measures that limits are about: reconstruction, and telling which input it was of."""


def shares(*measured: tuple[float | None, int | None]) -> list[Sample]:
    """Returns the shares that were measured, each with its number of images."""
    return [Share(mean, number or 0) for mean, number in measured if mean is not None]


def at_most(ends: Sequence[float | None], limit: float, *, noise: float = 0.0) -> Verdict:
    """Judges that a value is at most a limit.

    Args:
      ends: of its interval; None where there is none.
      limit: that it must keep.
      noise: by which the interval's ends may be off.
    """
    low, high = ends
    if low is None or high is None:
        return UNDECIDED
    if high + noise <= limit:
        return HOLDS
    return FAILS if low - noise > limit else UNDECIDED


def at_least(ends: Sequence[float | None], limit: float) -> Verdict:
    """Judges that a value is at least a limit; see `at_most`."""
    low, high = ends
    negative = (None if end is None else -end for end in (high, low))
    return at_most(tuple(negative), -limit)


def together(found: Iterable[Verdict]) -> Verdict:
    """Returns the verdict on several limits: all must hold, and one that fails is enough."""
    told = set(found)
    return FAILS if FAILS in told else UNDECIDED if UNDECIDED in told else HOLDS


def confidence(attacks: int) -> float:
    """Returns the confidence of each interval of so many, which hold together in 95% of cases."""
    return 1 - (1 - intervals.CONFIDENCE) / max(attacks, 1)


def highest(attacks: Sequence[AttackRecord], leak: Leak) -> float | None:
    """Returns the highest mean of several attacks; None if all images of all diverged."""
    means = (getattr(each, leak.name) for each in attacks)
    return max((mean for mean in means if mean is not None), default=None)


def greatest(attacks: Sequence[AttackRecord], leak: Leak) -> Ends:
    """Returns an interval of the greatest leakage of several attacks on one release.

    It ends where the highest of their intervals end. There is none if one of them has none, such as
    an attack on a single image, or one that was not measured. Attacks in which every image diverged
    are passed over.
    """
    measured = [each for each in attacks if each.diverged < each.num_images]
    samples = [leak.samples(each) for each in measured]
    if not all(samples):
        return Ends()
    return greatest_of([sample for own in samples for sample in own])


def greatest_of(samples: Sequence[Sample]) -> Ends:
    """Returns an interval of the greatest of several means; see `greatest`."""
    sure = confidence(len(samples))
    ends = [sample.interval(sure) for sample in samples]
    lows = [low for low, _ in ends if low is not None]
    highs = [high for _, high in ends if high is not None]
    if not ends or len(highs) < len(ends):
        return Ends()
    return Ends(max(lows), max(highs))


def kept(attacks: Sequence[AttackRecord], leak: Leak, limit: float) -> Verdict:
    """Judges that no attack leaks more than a limit; one that diverged proves nothing."""
    found = at_most(greatest(attacks, leak), limit, noise=leak.noise)
    spoilt = any(each.diverged for each in attacks)
    return UNDECIDED if found == HOLDS and spoilt else found


def safe(attacks: Sequence[AttackRecord]) -> Verdict:
    """Judges that attacks give nothing away: neither a picture nor whose it is."""
    return together(kept(attacks, leak, leak.safe) for leak in LEAKS)


def images_needed(attacks: Sequence[AttackRecord], leak: Leak, limit: float) -> int | None:
    """Returns how many images settle a limit if all attacks go on as they did on theirs.

    One attack that leaks more settles it; else all must be seen to leak less. None if no number of
    images settles it, or if an attack was on too few images to tell.
    """
    samples = [sample for each in attacks for sample in leak.samples(each)]
    sure = confidence(len(samples))
    above = [sample for sample in samples if sample.mean > limit]
    counts = [leak.needed(sample, limit, sure) for sample in above or samples]
    known = [count for count in counts if count is not None]
    if above:
        return min(known, default=None)
    return max(known) if known and len(known) == len(counts) else None


def images_to_be_safe(attacks: Sequence[AttackRecord]) -> int | None:
    """Returns how many images settle whether attacks give nothing away; see `images_needed`."""
    counts = [
        images_needed(attacks, leak, leak.safe)
        for leak in LEAKS
        if kept(attacks, leak, leak.safe) == UNDECIDED
    ]
    known = [count for count in counts if count is not None]
    spoilt = len(known) < len(counts) or any(each.diverged for each in attacks)
    return None if spoilt else max(known, default=None)
