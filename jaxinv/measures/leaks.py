"""Measures of what attacks leak, and the samples behind each in records. NumPy."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jaxinv.constants.threats import SHADOW
from jaxinv.constants.verdicts import GALLERY, SAFE_REID, SAFE_SSIM
from jaxinv.measures import crossed, intervals
from jaxinv.measures.intervals import Ends, Sample, Share, Student, Summary
from jaxinv.store.record import AttackRecord, Way


class Leak(NamedTuple):
    """A measure of what attacks leak.

    Attributes:
      name: of its mean in records.
      scores: name of the scores of images in records, which are in `[least, most]`; "" of a share.
      limit: the constraint on it, "" where there is none.
      safe: the limit below which nothing is given away.
      noise: by which two machines may differ in the mean.
      approximate: whether its intervals are Student's, by which no limit is judged.
    """

    name: str
    scores: str = ""
    least: float = 0.0
    most: float = 1.0
    limit: str = ""
    safe: float = math.inf
    noise: float = 0.0
    approximate: bool = False

    @property
    def interval_name(self) -> str:
        """The name of its interval in records."""
        return f"{self.name.partition('_')[0]}_ci"

    def summarise(self, by_image: ArrayLike) -> Summary:
        """Computes the statistics of scores of images `[N]`, with their 95% interval."""
        kind = intervals.summarise if self.approximate else intervals.summarise_scores
        return kind(by_image, least=self.least, most=self.most)

    def over_shadows(self, by_shadow: np.ndarray, by_image: np.ndarray) -> Ends:
        """Returns the 95% interval over shadows `[S]` and images `[N]`, of means over the other."""
        ends = {"least": self.least, "most": self.most}
        if self.approximate:
            return crossed.interval(by_shadow, by_image, **ends)
        return crossed.widened(self._sample(by_image.tolist()), by_shadow, **ends)

    def highest(self, record: AttackRecord) -> float | None:
        """Returns the mean of an attack by its best way; None if all images diverged by each."""
        ways = record.ways.values() if self.scores else ()
        means = (getattr(record, self.name), *(getattr(way, self.name) for way in ways))
        return max((mean for mean in means if mean is not None), default=None)

    def samples(self, record: AttackRecord) -> list[Sample]:
        """Returns what an attack's ways were measured on; none where that was not, or all diverged.

        Linkage is measured by the release, too. Older versions kept no scores of single ways.
        """
        if self.highest(record) is None:
            return []
        if not self.scores:
            return linked(record)
        ways = list(record.ways.values())
        if ways and not self.approximate and not all(way.ssim for way in ways):
            return []
        found = [self._of_way(way, record.num_images) for way in ways]
        found = found or [self._sample(getattr(record, self.scores))]
        return [sample for sample in found if sample is not None]

    def over_seeds(self, record: AttackRecord, sure: float = intervals.CONFIDENCE) -> float:
        """Returns the upper end over shadows of all seeds; the least value without shadows.

        Shadows of other seeds might do better than these. So it is that of what a shadow finds on
        average and of what they find together, over images and shadows (`crossed.widened`).
        """
        shadows = self._ways(record, shadows=True)
        alone = self._of_ways(shadows, record.num_images)
        if len(alone) < 2:
            return self._over_seeds_alone(record)
        means = [sample.mean for sample in alone]
        found = [self._average(shadows, alone)]
        found += self._of_ways(self._ways(record, shadows=False), record.num_images)
        if not self.scores:
            found += shares((record.reid_likelihood, record.reid_likelihood_images))
        ends = (
            crossed.widened(each, means, least=self.least, most=self.most, confidence=sure).high
            for each in found
        )
        return max(self.most if end is None else end for end in ends)

    def _over_seeds_alone(self, record: AttackRecord) -> float:
        """Returns the upper end of a record that tells of shadows no more than their seeds."""
        if len(record.psnr_by_seed) < 2:
            return self.least
        own = getattr(record, self.interval_name) if self.scores else record.reid_top1_ci
        return self.most if own[1] is None else own[1]

    def _ways(self, record: AttackRecord, *, shadows: bool) -> list[Way]:
        """Returns the ways of shadows alone, or other ways."""
        ways = record.ways.items()
        return [way for name, way in ways if name.startswith(SHADOW) == shadows]

    def _of_ways(self, ways: Sequence[Way], images: int) -> list[Sample]:
        """Returns what ways find, of so many images."""
        if not self.scores:
            return shares(*((way.reid_top1, min(images, GALLERY)) for way in ways))
        scores = (self._of_way(way, images) for way in ways)
        return [sample for sample in scores if sample is not None]

    def _of_way(self, way: Way, images: int) -> Sample | None:
        if not self.approximate:
            return self._sample(way.ssim)
        number = images - way.diverged
        if way.psnr_mean is None or way.psnr_std is None or not number:
            return None
        std = way.psnr_std * math.sqrt(number / (number - 1)) if number > 1 else math.nan
        return Student(way.psnr_mean, std, number, self.least, self.most)

    def _average(self, ways: Sequence[Way], alone: Sequence[Sample]) -> Sample | None:
        """Returns what ways find on average, image by image where their scores are known."""
        if self.scores and not self.approximate:
            scores = np.array([way.ssim for way in ways], np.float64)
            return self._sample(scores.mean(axis=0).tolist())
        mean = sum(sample.mean for sample in alone) / len(alone)
        widest = max(alone, key=lambda sample: sample.interval().high or math.inf)
        if isinstance(widest, Share):
            return widest._replace(mean=mean, means=True)
        assert isinstance(widest, Student)
        return widest._replace(mean=mean)

    def _sample(self, scores: Sequence[float | None]) -> Sample | None:
        """Returns the scores of images `[N]` as a sample; None of none."""
        known = [score for score in scores if score is not None and math.isfinite(score)]
        kind = intervals.student if self.approximate else intervals.score
        return kind(known, least=self.least, most=self.most)

    def is_known(self, attacks: Sequence[AttackRecord]) -> bool:
        """Tells whether attacks measure all of it: one must compare releases with candidates."""
        return bool(self.scores) or any(each.reid_likelihood_way != "none" for each in attacks)

    def needed(self, sample: Sample, limit: float, sure: float) -> int | None:
        """Returns how many images settle a limit for one attack; see `Score.needed`."""
        if isinstance(sample, Student) or abs(sample.mean - limit) <= self.noise:
            return None
        return sample.needed(limit + (self.noise if sample.mean > limit else -self.noise), sure)


PSNR = Leak("psnr_mean", "psnr", 0.0, 100.0, approximate=True)
SSIM = Leak("ssim_mean", "ssim", -1.0, 1.0, "max_ssim", SAFE_SSIM, 1e-4)
REID = Leak("reid", limit="max_reid", safe=SAFE_REID)
LEAKS = (SSIM, REID)
"""Measures that limits are about: reconstruction, and telling which input it was of."""


def linked(record: AttackRecord) -> list[Sample]:
    """Returns the shares that an attack identifies: by every way's answers, and by the release."""
    images = min(record.num_images, GALLERY)
    ways = [way.reid_top1 for way in record.ways.values()]
    seeds = len(record.psnr_by_seed)
    return [
        *answered(ways, record.reid_top1, images, draws=record.draws, attackers=seeds),
        *shares((record.reid_likelihood, record.reid_likelihood_images)),
    ]


def answered(
    ways: Sequence[float | None], alone: float | None, images: int, *, draws: int, attackers: int
) -> list[Sample]:
    """Returns the shares that reconstructions identify.

    Args:
      ways: share that each way of an attack identifies; empty where there is one answer.
      alone: share that this answer identifies.
      images: how many were looked at.
      draws: of a defense, over which shares are means.
      attackers: whose answers a share without ways is the mean of; 0 or 1 for one.
    """
    means = draws > 1 or (not ways and attackers > 1)
    return shares(*((share, images) for share in ways or [alone]), means=means)


def shares(*measured: tuple[float | None, int | None], means: bool = False) -> list[Sample]:
    """Returns the shares that were measured, each with its number of images; `means` as `Share`."""
    return [Share(mean, number or 0, means) for mean, number in measured if mean is not None]
