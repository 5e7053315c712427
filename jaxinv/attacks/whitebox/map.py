"""Maximum a posteriori: a Gaussian prior of the attacker's images, and its weight. JAX."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jax import Array

from jaxinv.attacks.attack import Attack, EdgeKnown
from jaxinv.attacks.inversion import priors
from jaxinv.attacks.learned import inverse
from jaxinv.attacks.learned.queries import check_images
from jaxinv.attacks.shelf import NOWHERE, Shelf
from jaxinv.attacks.stopwatch import Stopwatch
from jaxinv.attacks.whitebox import trials
from jaxinv.attacks.whitebox.rmle import StagedAttack, identity_of
from jaxinv.attacks.whitebox.settings import RmleSettings, check_chunk, map_settings
from jaxinv.attacks.whitebox.stage import Stage, run_stage
from jaxinv.attacks.whitebox.trials import Chosen, Lessons
from jaxinv.defenses import Joined
from jaxinv.unit_space import Images

MOST_TRIALS = 32
"""Images to choose by, at most."""

_TAUGHT, _LEAST_TAUGHT = 2**28, 100  # bytes of images whose moments are taken; images at least

# Where the weight of the total variation may end, and the prior's beside it.
_ENDS = (1e-1, 1e-2, 1e-3, 1e-5, 1e-7)
_SHARES = (1.0, 0.03, 0.001)


@dataclasses.dataclass(frozen=True)
class MapAttack(Attack[EdgeKnown]):
    """One stage of Levenberg-Marquardt with a Gaussian prior of the attacker's images.

    Attributes:
      overrides: fields of `RmleSettings` in place of the method's own.
      chunk: as for `rmle.invert`.
    """

    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    chunk: int | None = None

    knowledge: ClassVar[str] = "the edge's layers and parameters; surrogate images"

    def __post_init__(self) -> None:
        check_chunk(self.chunk)
        map_settings().replaced(self.overrides)

    @property
    def settings(self) -> RmleSettings:
        return map_settings().replaced(self.overrides)

    @property
    def identity(self) -> dict[str, Any]:
        return identity_of(self.settings, self.chunk)

    def learn(self, known: EdgeKnown, key: Array, shelf: Shelf = NOWHERE) -> StagedAttack:
        check_images("map", len(known.images))
        stopwatch = Stopwatch()
        lessons = trials.divide_lessons(known, MOST_TRIALS)
        prior = image_prior(known, lessons.taught, inverse.split_key(key).curvature)
        stage, quality, _ = choose_ends(known, lessons, Stage(self.settings, prior.of_images))
        return StagedAttack(known, (stage,), self.chunk, stopwatch.seconds, (quality,))


class ImagePrior(NamedTuple):
    """Moments of the images that taught, and the edge's curvature about them.

    Attributes:
      mean: `[H, W, C]`.
      covariance: blocks, as `priors.second_moment` returns them.
      curvature: as `priors.mean_curvature` returns it.
    """

    mean: np.ndarray
    covariance: np.ndarray
    curvature: Any

    @property
    def of_images(self) -> priors.Gaussian:
        """The distribution of images."""
        return priors.gaussian(self.mean, self.covariance, self.curvature)

    def of_errors(self, errors: np.ndarray) -> priors.Gaussian:
        """Returns the distribution of an estimate's errors `[N, H, W, C]`, about zero.

        The fewer there are beside the values of an image, the more the covariance of the images
        themselves, scaled to the same variance, stands in for theirs.
        """
        covariance = priors.second_moment(errors)
        own = _variance(self.covariance)  # zero where all images are the same
        alike = self.covariance * (_variance(covariance) / own if own > 0 else 0)
        share = len(errors) / (len(errors) + covariance.shape[-1])
        blend = share * covariance + (1 - share) * alike
        return priors.gaussian(np.zeros(errors.shape[1:]), blend, self.curvature)


def image_prior(known: EdgeKnown, taught: Images, key: Array) -> ImagePrior:
    """Estimates the moments of images `[N, H, W, C]`."""
    own = known.edge.select(known.params)
    curvature = priors.mean_curvature(known.edge, own, taught, key)
    some = np.asarray(taught[: max(_LEAST_TAUGHT, _TAUGHT * len(taught) // taught.nbytes)])
    mean = some.mean(axis=0)
    return ImagePrior(mean, priors.second_moment(some - mean), curvature)


class Tried(NamedTuple):
    """Stage with chosen weights, their mean PSNR in dB on the trial images, and what it found."""

    stage: Stage
    quality: float
    found: np.ndarray


def choose_ends(
    known: EdgeKnown, lessons: Lessons, stage: Stage, means: np.ndarray | None = None
) -> Tried:
    """Chooses where a stage's weights end, on the trial images.

    First the weight of the total variation is chosen, then the prior's beside it.

    Args:
      known: the edge.
      lessons: the attacker's images.
      stage: whose weights are to be chosen.
      means: `[N, H, W, C]`, what its `estimate` makes of the trial images; None if it has none.
    """

    def ending(end: float, share: float) -> RmleSettings:
        return dataclasses.replace(
            stage.settings,
            tv_weight=end,
            tv_start=max(end, stage.settings.tv_start),
            prior_weight=end * share,
            prior_start=max(end * share, stage.settings.prior_start),
        )

    best = _best(known, lessons, stage, [ending(end, _SHARES[1]) for end in _ENDS], means)
    end = best.stage.settings.tv_weight
    others = [ending(end, _SHARES[0]), ending(end, _SHARES[2])]
    return max(best, _best(known, lessons, stage, others, means), key=lambda tried: tried.quality)


def _best(
    known: EdgeKnown,
    lessons: Lessons,
    stage: Stage,
    options: list[RmleSettings],
    means: np.ndarray | None,
) -> Tried:
    seen, size = trials.undefended(known, lessons.trial), len(lessons.trial)

    def attack(means: np.ndarray | None, weights: np.ndarray) -> np.ndarray:
        features = Joined([seen] * len(weights))
        each = np.repeat(weights, size, axis=0)
        return run_stage(known.edge, known.params, features, stage, means, each).images

    weights = np.stack([option.weights for option in options])[:, None]
    chosen: Chosen = trials.choose(attack, weights, means, lessons.trial)
    settings = options[int(chosen.options[0])]
    stage = dataclasses.replace(stage, settings=settings)
    return Tried(stage, float(chosen.quality[0]), chosen.images)


def _variance(blocks: np.ndarray) -> float:
    return float(np.trace(blocks, axis1=1, axis2=2).sum())
