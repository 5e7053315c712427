"""The strong query-free attack: shadows that meet a stream, inverted by trained maps. JAX."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import jax
import numpy as np
from jax import Array

from jaxinv import arguments, defenses
from jaxinv.attacks.attack import Attack, CloudKnown, Features, QueriesKnown, Reconstruction
from jaxinv.attacks.learned import inverse
from jaxinv.attacks.learned.maps import TrainedMap
from jaxinv.attacks.learned.queries import check_images, divide
from jaxinv.attacks.queryfree import agreement, shadow
from jaxinv.attacks.queryfree.shadow import Recipe
from jaxinv.attacks.queryfree.shadowed import ShadowedEdge, designed, look_rectified
from jaxinv.attacks.queryfree.stream import classes_of, observe
from jaxinv.attacks.shelf import NOWHERE, Shelf
from jaxinv.attacks.stopwatch import Stopwatch

RECIPE = Recipe(steps=600, batch_size=256, cross_entropy=0.1, means=10.0)
WIDTH = 16  # more filters than needed are found more easily

FIT_STEPS = 1000
"""Default steps of training each inverse map."""


@dataclasses.dataclass(frozen=True)
class StrongShadows(Attack[CloudKnown]):
    """Shadows that also meet the stream's class means and the spread of its channels.

    Without labels they meet the means of groups of the cloud's outputs. They are inverted by maps
    that are trained on pairs of theirs, and what these answer is corrected (`agreement`). The
    attacker knows the defense that stands behind the edge.

    Attributes:
      num_shadows: number of shadows, which differ in their seeds.
      shadow_steps: of training them.
      fit_steps: of training each inverse map.
    """

    num_shadows: int = 3
    shadow_steps: int = RECIPE.steps
    fit_steps: int = FIT_STEPS

    knowledge: ClassVar[str] = (
        "the cloud's layers and parameters; surrogate images and the labels they have; a stream of "
        "features"
    )

    def learn(self, known: CloudKnown, key: Array, shelf: Shelf = NOWHERE) -> ShadowedEdge:
        check_images("strong", len(known.samples))
        arguments.check_key("key", key)
        stopwatch = Stopwatch()
        rectified = look_rectified(known.stream, known.defense)
        key_shadows, key_maps = jax.random.split(key)
        labelled = known.samples.has_labels
        stream = observe(known.cloud, known.params, known.stream, labelled=labelled)
        behind: dict[str, Any] = {"defense": known.defense, "releases": known.releases}
        began = time.perf_counter()
        shadows = shadow.fit(
            known.cloud,
            known.params,
            known.samples,
            network=designed(known, rectified=rectified, width=WIDTH),
            recipe=dataclasses.replace(RECIPE, steps=self.shadow_steps),
            seeds=self.num_shadows,
            key=key_shadows,
            stream=stream,
            shelf=shelf,
            **behind,
        )
        stopwatch.lap(began, shadows)
        shadows = shadow.calibrated(shadows, known.samples.scaled, stream, **behind)
        inverters: list[Callable[[Features], Reconstruction]] = []
        for number, params in enumerate(shadows.params):
            query = defenses.query_function(
                shadows.network, params, known.defense, releases=known.releases
            )
            began = time.perf_counter()
            trained = inverse.learn(
                QueriesKnown(query, divide(known.images, inverse.NUM_QUERIES).taught),
                key=jax.random.fold_in(key_maps, number),
                steps=self.fit_steps,
                shelf=shelf.part(f"shadow{number}"),
            )
            inverters.append(partial(_mapped, stopwatch.lap(began, trained)))
        return ShadowedEdge(shadows, inverters, stopwatch.seconds, _correction(known, inverters))


def _correction(
    known: CloudKnown, inverters: Sequence[Callable[[Features], Reconstruction]]
) -> Callable[[np.ndarray, Features], tuple[np.ndarray, np.ndarray]] | None:
    """Returns a correction of answers by what is answered to the stream; None if that diverges."""
    count = agreement.seen(known.stream.shape, known.images.shape[1:], len(inverters))
    shown = known.stream[np.arange(count)]
    answers = np.stack([inverter(shown).images for inverter in inverters])
    finite = np.isfinite(answers).reshape(*answers.shape[:2], -1).all(axis=(0, 2))
    if finite.sum() < 2:
        return None
    taken_for = partial(classes_of, known.cloud, known.params)
    agreed = agreement.measured(answers[:, finite], taken_for(shown)[finite], known.samples)

    def correct(images: np.ndarray, observed: Features) -> tuple[np.ndarray, np.ndarray]:
        return agreement.corrected(agreed, images, taken_for(observed))

    return correct


def _mapped(trained: TrainedMap, observed: Features) -> Reconstruction:
    images, compile_seconds, seconds = trained.timed(observed)
    return Reconstruction(images, seconds, compile_seconds)


@dataclasses.dataclass(frozen=True)
class AdaptiveShadows(StrongShadows):
    """Strong shadows of an attacker who is told the defense and its level."""

    knowledge: ClassVar[str] = f"{StrongShadows.knowledge}; the defence and its level"
