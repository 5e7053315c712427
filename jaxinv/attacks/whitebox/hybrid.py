"""Map, then stages that start from an inverse map and from corrections of what they find. JAX."""

import dataclasses
import time
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import numpy as np
from jax import Array

from jaxinv import arguments
from jaxinv.attacks.attack import Attack, EdgeKnown, Features
from jaxinv.attacks.learned import correction, inverse, maps
from jaxinv.attacks.learned.queries import check_images
from jaxinv.attacks.shelf import NOWHERE, Shelf
from jaxinv.attacks.stopwatch import Stopwatch
from jaxinv.attacks.whitebox import trials
from jaxinv.attacks.whitebox.map import MOST_TRIALS, ImagePrior, choose_ends, image_prior
from jaxinv.attacks.whitebox.rmle import StagedAttack, identity_of
from jaxinv.attacks.whitebox.settings import (
    RmleSettings,
    check_chunk,
    hybrid_settings,
    kept_settings,
    map_settings,
)
from jaxinv.attacks.whitebox.stage import Estimate, Stage, run_stage
from jaxinv.attacks.whitebox.trials import Lessons
from jaxinv.measures.quality import scores

_CORRECTIONS = 3  # rounds of them, of which the last is kept as it is
_TAUGHT = 2500  # images that a correction learns from, at most: a stage attacks each of them
_SOLVED = 60.0  # dB at which there is nothing left to learn


@dataclasses.dataclass(frozen=True)
class HybridAttack(Attack[EdgeKnown]):
    """Map, and where that leaves something, stages about trained estimates.

    The first starts from an inverse map, with the distribution of its errors as prior; each of the
    others from a trained correction of what the stage before finds. The last estimate may be kept
    as it is: what it adds is not in the features, and a solver brings noise back in.

    Attributes:
      overrides: fields of `RmleSettings` in place of the method's own, in every stage.
      fit_steps: of training the inverse map; each correction takes half as many.
      chunk: as for `rmle.invert`.
    """

    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    fit_steps: int = maps.STEPS
    chunk: int | None = None

    knowledge: ClassVar[str] = (
        "the edge's layers and parameters; surrogate images and the edge's features of them"
    )

    def __post_init__(self) -> None:
        check_chunk(self.chunk)
        arguments.check_whole("fit_steps", self.fit_steps, least=1)
        map_settings().replaced(self.overrides)

    @property
    def identity(self) -> dict[str, Any]:
        settings = map_settings().replaced(self.overrides)
        return identity_of(settings, self.chunk, fit_steps=self.fit_steps)

    @property
    def settings(self) -> RmleSettings:
        """Settings of the stages behind the first."""
        return hybrid_settings().replaced(self.overrides)

    def learn(self, known: EdgeKnown, key: Array, shelf: Shelf = NOWHERE) -> StagedAttack:
        check_images("hybrid", len(known.images))
        stopwatch, keys = Stopwatch(), inverse.split_key(key)
        lessons = trials.divide_lessons(known, MOST_TRIALS)
        prior = image_prior(known, lessons.taught, keys.curvature)
        settings = map_settings().replaced(self.overrides)
        stage, quality, _ = choose_ends(known, lessons, Stage(settings, prior.of_images))
        end = _End().then(stage, quality)
        if quality < _SOLVED:
            course = _Course(self, known, lessons, prior, keys, shelf, stopwatch)
            end = max(end, course.run(), key=lambda end: end.qualities[-1])
        return StagedAttack(known, end.stages, self.chunk, stopwatch.seconds, end.qualities)


class _End(NamedTuple):
    """Stages in turn, and the mean PSNR in dB on the trial images after each."""

    stages: tuple[Stage, ...] = ()
    qualities: tuple[float, ...] = ()

    def then(self, stage: Stage, quality: float) -> "_End":
        """Returns these and one more."""
        return _End((*self.stages, stage), (*self.qualities, quality))


class _Course:
    """Lessons in turn, each about what the stages before it find in the attacker's images."""

    def __init__(
        self,
        attack: HybridAttack,
        known: EdgeKnown,
        lessons: Lessons,
        prior: ImagePrior,
        keys: inverse.AttackerKeys,
        shelf: Shelf,
        stopwatch: Stopwatch,
    ):
        self._attack, self._known, self._lessons = attack, known, lessons
        self._prior, self._keys = prior, keys
        self._shelf, self._stopwatch = shelf, stopwatch

    def run(self) -> "_End":
        """Learns stages until one adds nothing.

        Returns:
          Of all ends, with a stage that solves or with an estimate that is kept, the one that does
          best on the trial images.
        """
        known, lessons = self._known, self._lessons
        inverse_map = self._inverse_map()

        def from_features(features: Features, found: np.ndarray | None) -> np.ndarray:
            del found
            return inverse_map(features)

        estimate: Estimate = from_features
        errors = estimate(trials.undefended(known, lessons.held), None) - lessons.held
        # Corrections learn from attacks on images that taught; their errors are taken on others.
        count = min(trials.taught_by_attacks(known.edge), _TAUGHT)
        taught, held = lessons.taught[:count], lessons.held[: max(1, count // 4)]
        found_taught = found_held = found_trial = None
        solved, ends = _End(), []
        for number in range(_CORRECTIONS + 1):
            if found_taught is not None:
                estimate = self._correct(inverse_map, taught, found_taught, number)
            means = estimate(trials.undefended(known, lessons.trial), found_trial)
            ends.append(solved.then(*self._kept(estimate, means)))
            if found_taught is not None and number == _CORRECTIONS:
                break
            if found_held is not None:
                errors = estimate(trials.undefended(known, held), found_held) - held
            stage = Stage(self._attack.settings, self._prior.of_errors(errors), estimate)
            stage, quality, found_trial = choose_ends(known, lessons, stage, means)
            if solved.qualities and quality <= solved.qualities[-1]:
                break
            solved = solved.then(stage, quality)
            ends.append(solved)
            if number < _CORRECTIONS:
                found_taught = self._found(stage, taught, found_taught)
            if number < _CORRECTIONS - 1:  # the last correction is kept, and needs no prior
                found_held = self._found(stage, held, found_held)
        return max(ends, key=lambda end: end.qualities[-1])

    def _kept(self, estimate: Estimate, means: np.ndarray) -> tuple[Stage, float]:
        """Returns a stage that keeps an estimate, and its mean PSNR in dB on the trial images."""
        stage = Stage(kept_settings(self._attack.settings), estimate=estimate)
        return stage, float(scores(self._lessons.trial, means[None])[0])

    def _inverse_map(self) -> maps.TrainedMap:
        """The map that a black-box attacker with the same key trains, too."""
        known = dataclasses.replace(self._known, images=self._lessons.taught).queries(0)
        began = time.perf_counter()
        learned = inverse.learn(
            known,
            key=self._keys.inverse,
            num_queries=self._lessons.num_queries,
            steps=self._attack.fit_steps,
            shelf=self._shelf,
        )
        return self._stopwatch.lap(began, learned)

    def _correct(
        self, inverse_map: maps.TrainedMap, images: np.ndarray, found: np.ndarray, number: int
    ) -> Estimate:
        """Trains a correction of what stages found; it sees the features and their map, too."""
        features = trials.undefended(self._known, images)
        began = time.perf_counter()
        learned = correction.learn(
            images,
            [found, inverse_map(features)],
            features[np.arange(len(images))],
            key=jax.random.fold_in(self._keys.correction, number),
            steps=max(1, self._attack.fit_steps // 2),
            shelf=self._shelf,
        )
        self._stopwatch.lap(began, learned)

        def estimate(features: Features, found: np.ndarray | None) -> np.ndarray:
            assert found is not None
            return np.clip(learned(found, inverse_map(features), features), 0, 1)

        return estimate

    def _found(self, stage: Stage, images: np.ndarray, found: np.ndarray | None) -> np.ndarray:
        """Runs a stage on images of one's own; `found` is from the stage before."""
        features = trials.undefended(self._known, images)
        assert stage.estimate is not None
        means = stage.estimate(features, found)
        weights = np.broadcast_to(stage.settings.weights, (len(images), 2, 2))
        known = self._known
        made = run_stage(known.edge, known.params, features, stage, means, weights).images
        return np.where(np.isfinite(made), made, means)
