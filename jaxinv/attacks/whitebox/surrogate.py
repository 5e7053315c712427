"""What a white-box attacker learns from images of its own before it attacks. JAX.

The images are split: most of them teach (a covariance, an inverse map, a correction), the last are
held out to tell how far a lesson can be trusted and to choose settings. Images that will be
attacked are never seen.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from jaxinv import defenses
from jaxinv.attacks.inversion import priors
from jaxinv.attacks.learned import inverse
from jaxinv.attacks.learned.queries import check_images, divide
from jaxinv.attacks.whitebox import rmle as whitebox
from jaxinv.attacks.whitebox.rmle import Estimate, Features, Settings, Stage
from jaxinv.errors import UsageError
from jaxinv.machine import source
from jaxinv.measures import quality
from jaxinv.networks import Network, Params
from jaxinv.store import checkpoints, records

# What an attack's trials may cost: this number of activations of the edge, within bounds of images.
_TRIAL_ACTIVATIONS, _TRIAL_IMAGES = 3_000_000, (8, 32)
_CORRECTION_ACTIVATIONS, _CORRECTION_IMAGES = 40_000_000, (200, 4000)
_CORRECTIONS = 2  # rounds of them
_SOLVED = 60.0  # dB at which there is nothing left to learn
# Where the weight of the total variation may end, and the prior's beside it.
_ENDS = (1e-1, 1e-2, 1e-3, 1e-5, 1e-7)
_SHARES = (1.0, 0.03, 0.001)


METHODS = {
    "map": "the edge's layers and parameters; surrogate images",
    "hybrid": "the edge's layers and parameters; surrogate images and the edge's features of them",
}
"""What `learn` offers, and what each knows."""


class Lesson(NamedTuple):
    """What was learned.

    Attributes:
      stages: the attack, for `whitebox.invert`.
      seconds: wall time of learning it.
      quality: mean PSNR in dB on held-out images, after each stage.
    """

    stages: tuple[Stage, ...]
    seconds: float
    quality: tuple[float, ...]


def learn(
    method: str,
    edge: Network,
    params: Params,
    images: np.ndarray,
    *,
    key: Array,
    overrides: Mapping[str, Any] | None = None,
    fit_steps: int = inverse.STEPS,
    folder: Path | None = None,
) -> Lesson:
    """Learns an attack on one edge.

    Args:
      method: "map", a Gaussian prior of the images; or "hybrid", which goes on from there with an
        inverse map, the distribution of its errors, and a correction of what those lead to.
      edge: the part of the network on the device.
      params: its parameters.
      images: `[N, H, W, C]`, the attacker's own.
      key: of all randomness.
      overrides: settings that replace the method's own, in every stage.
      fit_steps: of training an inverse map, and each correction.
      folder: keeps what is trained, named by all that it depends on: it is read where it is
        complete, and gone on with where its training was killed. None keeps nothing.

    Raises:
      UsageError: there is no such method.
      UserError: there are too few images.
    """
    if method not in METHODS:
        raise UsageError(f"method={method}: expected one of {', '.join(METHODS)}.")
    check_images(method, len(images))
    return _Learner(edge, params, images, key, overrides or {}, fit_steps, folder).learn(method)


@dataclasses.dataclass(frozen=True)
class _Repeated:
    """Features of the same images, over and over."""

    features: Features
    number: int

    def __len__(self) -> int:
        return len(self.features) * self.number

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        return self.features[indices % len(self.features)]


class _Learner:
    """An attacker, its images, and what it has learned of an edge."""

    def __init__(self, edge, params, images, key, overrides, fit_steps, folder):
        self._edge, self._params, self._overrides = edge, edge.select(params), dict(overrides)
        key_data = jax.random.key_data(key)
        self._fit_steps, self._folder, self._seconds = fit_steps, folder, 0.0
        self._keys = inverse.split_key(key)
        # As a black-box attacker divides them, so that the two can share an inverse map.
        self._taught, rest, self._num_queries = divide(images, inverse.NUM_QUERIES)
        held = len(rest)
        trial = min(affordable(edge, _TRIAL_ACTIVATIONS, _TRIAL_IMAGES), -(-held // 2))
        self._held, self._trial = rest[: held - trial], rest[held - trial :]
        # The features stand for the layers, which cannot be hashed.
        behaviour = edge.apply(self._params, images[:2])
        self._name = checkpoints.fingerprint(
            {
                "edge": self._params,
                "features": behaviour,
                "images": images,
                "key": key_data,
                "steps": fit_steps,
                "code": source.digest(__name__),
            }
        )

    def learn(self, method: str) -> Lesson:
        began = time.perf_counter()
        attack, qualities = self._map()
        if method == "hybrid" and qualities[-1] < _SOLVED:
            learned = self._hybrid()
            if learned[1][-1] > qualities[-1]:
                attack, qualities = learned
        elapsed = time.perf_counter() - began
        return Lesson(attack, self._seconds + elapsed, qualities)

    def _map(self) -> tuple[tuple[Stage, ...], tuple[float, ...]]:
        self._curvature = priors.mean_curvature(
            self._edge, self._params, self._taught, self._keys.curvature
        )
        mean = self._taught.mean(axis=0)
        self._covariance = priors.second_moment(self._taught - mean)
        settings = dataclasses.replace(whitebox.map_settings(), **self._overrides)
        prior = priors.gaussian(mean, self._covariance, self._curvature)
        stage, quality, _ = self._choose(Stage(settings, prior), None)
        return (stage,), (quality,)

    def _hybrid(self) -> tuple[tuple[Stage, ...], tuple[float, ...]]:
        settings = dataclasses.replace(whitebox.hybrid_settings(), **self._overrides)
        inverse_map = self._trained(
            partial(
                inverse.learn,
                defenses.query_function(self._edge, self._params),
                self._taught,
                key=self._keys.inverse,
                num_queries=self._num_queries,
                steps=self._fit_steps,
                folder=self._folder,
                label=self._edge.cuts[-1],
            )
        )

        def from_features(features: Features, found: np.ndarray | None) -> np.ndarray:
            del found
            return inverse_map(features)

        # Corrections learn from attacks on images that taught; their errors are taken on others.
        count = affordable(self._edge, _CORRECTION_ACTIVATIONS, _CORRECTION_IMAGES)
        taught, held = self._taught[:count], self._held[: max(1, count // 4)]
        errors = from_features(self._release(self._held), None) - self._held
        estimate: Estimate = from_features
        found_taught, found_held, found_trial = None, None, None
        stages: list[Stage] = []
        qualities: list[float] = []
        for number in range(_CORRECTIONS + 1):
            if found_taught is not None and found_held is not None:
                estimate = self._correct(inverse_map, taught, found_taught, stages)
                errors = estimate(self._release(held), found_held) - held
            stage = Stage(settings, self._errors(errors), estimate)
            means = estimate(self._release(self._trial), found_trial)
            stage, quality, found_trial = self._choose(stage, means)
            if qualities and quality <= qualities[-1]:
                break
            stages.append(stage)
            qualities.append(quality)
            if number < _CORRECTIONS:
                found_taught = self._attack(stage, taught, found_taught)
                found_held = self._attack(stage, held, found_held)
        return tuple(stages), tuple(qualities)

    def _correct(
        self,
        inverse_map: inverse.Learned,
        images: np.ndarray,
        found: np.ndarray,
        stages: list[Stage],
    ) -> Estimate:
        """Trains a correction of what stages found; it sees the features and their map, too."""
        features, number = self._release(images), len(stages)
        led_to = [dataclasses.asdict(stage.settings) for stage in stages]
        everything = np.arange(len(images))
        correction = self._trained(
            partial(
                inverse.fit_correction,
                images,
                [found, inverse_map(features)],
                features[everything],
                key=jax.random.fold_in(self._keys.correction, number),
                steps=self._fit_steps,
                checkpoint=self._checkpoint(
                    f"correction{number}-{records.config_hash({'stages': led_to})}"
                ),
                description=f"correction {number} {self._edge.cuts[-1]}",
            )
        )

        def estimate(features: Features, found: np.ndarray | None) -> np.ndarray:
            assert found is not None
            return np.clip(correction(found, inverse_map(features), features), 0, 1)

        return estimate

    def _errors(self, errors: np.ndarray) -> priors.Gaussian:
        """The distribution of an estimate's errors, about zero.

        The fewer there are beside the values of an image, the more the covariance of the images
        themselves, scaled to the same variance, stands in for theirs.
        """
        covariance = priors.second_moment(errors)
        alike = self._covariance * (_variance(covariance) / _variance(self._covariance))
        share = len(errors) / (len(errors) + covariance.shape[-1])
        blend = share * covariance + (1 - share) * alike
        return priors.gaussian(np.zeros(errors.shape[1:]), blend, self._curvature)

    def _choose(self, stage: Stage, means: np.ndarray | None) -> tuple[Stage, float, np.ndarray]:
        """Chooses a stage's weights on the trial images; returns their mean PSNR and images too."""

        def ending(end: float, share: float) -> Settings:
            return dataclasses.replace(
                stage.settings,
                tv_weight=end,
                tv_start=max(end, stage.settings.tv_start),
                prior_weight=end * share,
                prior_start=max(end * share, stage.settings.prior_start),
            )

        best = self._best(stage, [ending(end, _SHARES[1]) for end in _ENDS], means)
        end = best[0].settings.tv_weight
        others = self._best(stage, [ending(end, _SHARES[0]), ending(end, _SHARES[2])], means)
        return max(best, others, key=lambda chosen: chosen[1])

    def _best(
        self, stage: Stage, options: list[Settings], means: np.ndarray | None
    ) -> tuple[Stage, float, np.ndarray]:
        size, number = len(self._trial), len(options)
        found = whitebox.run_stage(
            self._edge,
            self._params,
            _Repeated(self._release(self._trial), number),
            stage,
            None if means is None else np.tile(means, (number, 1, 1, 1)),
            np.repeat(np.stack([option.weights for option in options]), size, axis=0),
        )
        images = found.images.reshape(number, *self._trial.shape)
        scores = quality.scores(self._trial, images)
        best = int(np.argmax(scores))
        return dataclasses.replace(stage, settings=options[best]), scores[best], images[best]

    def _attack(self, stage: Stage, images: np.ndarray, found: np.ndarray | None) -> np.ndarray:
        """What a stage makes of images of one's own, and of what was found of them before."""
        features = self._release(images)
        assert stage.estimate is not None
        means = stage.estimate(features, found)
        weights = np.broadcast_to(stage.settings.weights, (len(images), 2, 2))
        images = whitebox.run_stage(
            self._edge, self._params, features, stage, means, weights
        ).images
        return np.where(np.isfinite(images), images, means)

    def _release(self, images: np.ndarray) -> defenses.Release:
        return defenses.Release(self._edge, self._params, images, defenses.NONE, jax.random.key(0))

    def _trained(self, train: Callable[[], inverse.Learned]) -> inverse.Learned:
        """Trains; time that was spent before a kill counts, too."""
        began = time.perf_counter()
        learned = train()
        earlier = learned.seconds + learned.compile_seconds - (time.perf_counter() - began)
        self._seconds += max(0.0, earlier)
        return learned

    def _checkpoint(self, name: str) -> Path | None:
        file = f"{self._edge.cuts[-1]}-{self._name}-{name}.safetensors"
        return self._folder / file if self._folder else None


def affordable(edge: Network, activations: int, bounds: tuple[int, int]) -> int:
    """How many images may be attacked for a lesson, a compromise with its cost, within bounds."""
    each = max(1, sum(math.prod(shape) for shape in edge.shapes.values()))
    return max(bounds[0], min(bounds[1], activations // each))


def _variance(blocks: np.ndarray) -> float:
    return float(np.trace(blocks, axis1=1, axis2=2).sum())
