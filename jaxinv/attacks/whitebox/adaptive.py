"""White-box attackers who know the defense, for all of its levels at once. JAX.

They know how likely a defense at the features makes what they see (its residual), and they can run
any defense on images of their own. An inverse map is trained on defended releases. From there rMLE
starts, with the right likelihood and with the distribution of the map's errors as prior. A
correction learns from what that makes of the attacker's images. Retrieval answers with an image of
its own, where few releases differ one of the same release. It answers by the one of these ways that
does best on images of its own that taught nothing, and tells what the others find. Where the
numbers of the noise tell which features were zero, releases are cleaned first (`cleaning`).

Behind a defense at the input rMLE looks for what went into the edge, the defended input, whose
distribution about the map's answer is known from the attacker's images; the correction learns the
image.
"""

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import numpy as np
from jax import Array

from jaxinv import defenses
from jaxinv.attacks.attack import (
    Attack,
    EdgeKnown,
    Features,
    LearnedAttack,
    Reconstruction,
    shared_out,
)
from jaxinv.attacks.blackbox.adaptive import FIT_STEPS, learn_map
from jaxinv.attacks.learned import correction, inverse, retrieval
from jaxinv.attacks.learned.maps import TrainedMap
from jaxinv.attacks.learned.queries import check_images
from jaxinv.attacks.shelf import NOWHERE, Shelf
from jaxinv.attacks.stopwatch import Stopwatch
from jaxinv.attacks.whitebox import trials
from jaxinv.attacks.whitebox.cleaning import Cleaning, find_cleaning
from jaxinv.attacks.whitebox.refinement import (
    LESSONS,
    TRIALS,
    DefendedEdge,
    Refinement,
    learn_refinement,
    mapped,
)
from jaxinv.defenses import Joined, Release
from jaxinv.measures.quality import scores as scores_of
from jaxinv.unit_space import Images

RMLE, CORRECTION = "rMLE", "correction"
WAYS = (inverse.WAY, RMLE, CORRECTION, retrieval.WAY)

_MOST_TRIALS, _HELD = 24, 400  # images of each level: to choose by, and to tell errors by


@dataclasses.dataclass(frozen=True)
class AdaptiveEdge(Attack[EdgeKnown]):
    """An inverse map, rMLE, a correction and retrieval, for all levels of a defense that is known.

    Attributes:
      fit_steps: of training the inverse map, and the correction.
      correction: whether to learn a correction. That takes longer than all else.
    """

    fit_steps: int = FIT_STEPS
    correction: bool = True

    knowledge: ClassVar[str] = (
        "the edge's layers and parameters; the defence and its level; surrogate images"
    )
    together: ClassVar[bool] = True

    def learn(self, known: EdgeKnown, key: Array, shelf: Shelf = NOWHERE) -> "AdaptedAttack":
        check_images("an adaptive attacker", len(known.images))
        stopwatch, keys = Stopwatch(), inverse.split_key(key)
        key_release, key_correction = jax.random.split(keys.correction)
        cleaning = find_cleaning(known, jax.random.fold_in(key, 1))
        known = known if cleaning is None else cleaning.known
        began, members = time.perf_counter(), range(len(known.family))
        trained = learn_map(known.queries(), keys.inverse, self.fit_steps, shelf)
        stopwatch.lap(began, trained)
        lessons = trials.divide_lessons(known, _MOST_TRIALS)
        defended = DefendedEdge(known, key_release)
        seen = defended.releases([lessons.trial] * len(members), TRIALS)
        found = {inverse.WAY: mapped(trained, seen, members)}
        refinement = corrected = None
        # The mean of what several inputs led to is of no single one.
        if known.releases == 1 or not defended.at_input:
            held = lessons.held[:_HELD]
            refinement = learn_refinement(defended, trained, lessons.taught, held, keys.curvature)
            refinement, refined = refinement.chosen(seen, found[inverse.WAY], lessons.trial)
            found[RMLE] = refined
        if self.correction and refinement is not None:
            taught = lessons.taught[: trials.taught_by_attacks(known.edge)]
            corrected = Corrected(
                defended,
                _learn_correction(
                    refinement, trained, taught, key_correction, self.fit_steps, shelf
                ),
            )
            found[CORRECTION] = corrected.run(seen, found[inverse.WAY], found[RMLE], members)

        def scored(images: np.ndarray) -> np.ndarray:
            return scores_of(lessons.trial, images.reshape(len(members), *lessons.trial.shape))

        scores = {way: scored(images) for way, images in found.items()}
        retrieved = Retrieved.of(known, lessons.taught)
        best = _best_of(found, scores, [len(part) for part in seen], members)
        scores[retrieval.WAY] = scored(retrieved.run(seen, best, members))
        return AdaptedAttack(
            trained,
            refinement,
            corrected,
            retrieved,
            scores,
            stopwatch.seconds,
            known.edge.output_shape,
            cleaning,
        )


@dataclasses.dataclass(frozen=True)
class Corrected:
    """Trained correction of what rMLE finds behind a family of defenses."""

    defended: DefendedEdge
    trained: TrainedMap

    def run(
        self,
        seen: Sequence[Features],
        estimates: np.ndarray,
        refined: np.ndarray,
        members: Sequence[int],
    ) -> np.ndarray:
        """Corrects what was found of the features of some members."""
        features: Any = Joined(seen)
        found = _to_correct(self.defended, estimates, refined)
        which = _one_hot(self.defended, seen, members)
        return np.clip(self.trained(*found, features, which), 0, 1)


@dataclasses.dataclass(frozen=True)
class Retrieved:
    """Images of the attacker's own behind a family of defenses.

    Attributes:
      retrieval: the images.
      released: what each member releases of them, `[G, ...]`; None where many releases differ.
    """

    retrieval: retrieval.Retrieval
    released: tuple[np.ndarray | None, ...]

    @classmethod
    def of(cls, known: EdgeKnown, images: Images) -> "Retrieved":
        """Releases the first of some images, as many as fit."""
        own = retrieval.Retrieval.of(images)
        count, most = math.prod(known.edge.output_shape), math.log2(len(own.images))
        key = jax.random.key(0)  # of few releases nothing is drawn
        released = (
            Release(known.edge, known.params, own.images, defense, key)[np.arange(len(own.images))]
            if defense.coded_bits(count) < most and not defense.is_random
            else None
            for defense in known.family
        )
        return cls(own, tuple(released))

    def run(
        self, seen: Sequence[Features], estimates: np.ndarray, members: Sequence[int]
    ) -> np.ndarray:
        """Answers with images near estimates of what some members released."""
        ends = np.cumsum([len(part) for part in seen])[:-1]
        each = zip(seen, np.split(estimates, ends), members, strict=True)
        return np.concatenate([self._of_one(*one) for one in each])

    def _of_one(self, seen: Features, estimates: np.ndarray, member: int) -> np.ndarray:
        own = self.released[member]
        if own is None:
            return self.retrieval(estimates)
        return self.retrieval(estimates, own, seen[np.arange(len(seen))])


def _best_of(
    found: Mapping[str, np.ndarray],
    scores: Mapping[str, np.ndarray],
    sizes: Sequence[int],
    members: Sequence[int],
) -> np.ndarray:
    """Returns what each member's best way found, one member after another."""
    ends = np.cumsum(sizes)[:-1]
    parts = {way: np.split(images, ends) for way, images in found.items()}
    best = [max(parts, key=lambda way: scores[way][member]) for member in members]
    return np.concatenate([parts[way][place] for place, way in enumerate(best)])


def _to_correct(
    defended: DefendedEdge, estimates: np.ndarray, refined: np.ndarray
) -> list[np.ndarray]:
    """The images to correct, and others that help.

    A defended input is no nearer to the image than the map's estimate.
    """
    return [estimates, refined] if defended.at_input else [refined, estimates]


def _one_hot(
    defended: DefendedEdge, seen: Sequence[Features], members: Sequence[int]
) -> np.ndarray:
    """Ones where a row is of a member, `[N, L]`."""
    rows = np.eye(len(defended.known.family), dtype=np.float32)[list(members)]
    return np.repeat(rows, [len(part) for part in seen], axis=0)


def _learn_correction(
    refinement: Refinement,
    trained: TrainedMap,
    images: np.ndarray,
    key: Array,
    steps: int,
    shelf: Shelf,
) -> TrainedMap:
    """Trains one correction for all members; each has its share of the images."""
    defended = refinement.defended
    count = len(defended.known.family)
    members, own = range(count), [images[member::count] for member in range(count)]
    seen = defended.releases(own, LESSONS)
    estimates = mapped(trained, seen, members)
    refined = refinement.run(seen, estimates, members).images
    return correction.learn(
        np.concatenate(own),
        _to_correct(defended, estimates, refined),
        Joined(seen)[np.arange(len(images))],
        key=key,
        which=_one_hot(defended, seen, members),
        steps=steps,
        shelf=shelf,
    )


@dataclasses.dataclass(frozen=True)
class AdaptedAttack(LearnedAttack):
    """Attacker who has learned a family of defenses.

    Attributes:
      trained: the inverse map.
      refinement: rMLE about its estimates; None where there is none.
      correction: of what that finds; None where there is none.
      retrieved: images of its own to answer with.
      scores: mean PSNR in dB of every way on images held out, `[L]`, for each member; of rMLE, and
        of what is made of it, after the fewer steps of a trial.
      fit_seconds: wall time of learning, compilation included.
      shape: of features of one input.
      cleaning: of what is seen; None where it would tell nothing.
    """

    trained: TrainedMap
    refinement: Refinement | None
    correction: Corrected | None
    retrieved: Retrieved
    scores: Mapping[str, np.ndarray]
    fit_seconds: float
    shape: tuple[int, ...]
    cleaning: Cleaning | None = None

    @property
    def ways(self) -> list[str]:
        """The best of `WAYS` for each member."""
        return [max(each, key=lambda way: each[way]) for each in self.quality]

    @property
    def quality(self) -> list[dict[str, float]]:
        """PSNR in dB of every way on images held out, for each member."""
        members = range(len(next(iter(self.scores.values()))))
        return [{way: float(own[each]) for way, own in self.scores.items()} for each in members]

    def invert(self, observed: Features, member: int = 0) -> Reconstruction:
        (found,) = self._inverted([observed], [member])
        return dataclasses.replace(found, fit_seconds=self.fit_seconds)

    def invert_each(self, observed: Sequence[Features]) -> list[Reconstruction]:
        return self._inverted(list(observed), range(len(observed)))

    def _inverted(self, seen: list[Features], members: Sequence[int]) -> list[Reconstruction]:
        for part in seen:
            defenses.check_features(part, self.shape, name="observed")
        began, compile_seconds = time.perf_counter(), 0.0
        if self.cleaning is not None:
            seen = [self.cleaning(*each) for each in zip(seen, members, strict=True)]
        found = {inverse.WAY: mapped(self.trained, seen, members)}
        if self.refinement is not None:
            refined = self.refinement.run(seen, found[inverse.WAY], members)
            compile_seconds = refined.compile_seconds
            found[RMLE] = refined.images
        if self.correction is not None:
            found[CORRECTION] = self.correction.run(seen, found[inverse.WAY], found[RMLE], members)
        best = _best_of(found, self.scores, [len(part) for part in seen], members)
        found[retrieval.WAY] = self.retrieved.run(seen, best, members)
        seconds = time.perf_counter() - began - compile_seconds
        whole = Reconstruction(found[inverse.WAY], seconds, compile_seconds, self.fit_seconds)
        ends = np.cumsum([len(part) for part in seen])[:-1]
        each = zip(*(np.split(images, ends) for images in found.values()), strict=True)
        parts = [
            self._answered(whole, dict(zip(found, own, strict=True)), member)
            for own, member in zip(each, members, strict=True)
        ]
        return shared_out(whole, parts)

    def _answered(
        self, whole: Reconstruction, found: dict[str, np.ndarray], member: int
    ) -> Reconstruction:
        """Returns what is answered of what a member released, by the best way, beside all ways."""
        way = self.ways[member]
        info = {"way": way, "held_out_psnr": self.quality[member]}
        return dataclasses.replace(whole, images=found[way], info=info, ways=found)
