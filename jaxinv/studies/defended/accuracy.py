"""Accuracy behind defenses, and what a judge still sees in reconstructions. JAX."""

import dataclasses
import functools
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import Array

from jaxinv.defenses import Defense, release_levels
from jaxinv.inputs.data import Samples
from jaxinv.machine import devices
from jaxinv.measures import intervals
from jaxinv.networks import Network, Params
from jaxinv.studies import runs
from jaxinv.studies.defended.choices import DefenseConfig
from jaxinv.training import classification, judge


def judged(config: DefenseConfig, scene: runs.Scene, images: np.ndarray) -> dict[str, Any]:
    """Tells how often an independent classifier still sees the class in `images [S, N, ...]`."""
    trained = judge_of(config, scene)
    labels = scene.dataset.test.labels[: scene.num_images(config)]
    right = np.mean([trained.correct(own, labels) for own in images], axis=0)
    summary = intervals.summarise_share(right)
    return {
        "judge_accuracy": summary.mean,
        "judge_ci": [summary.low, summary.high],
        "judge_accuracy_originals": trained.accuracy,
    }


def judge_of(config: DefenseConfig, scene: runs.Scene) -> judge.Judge:
    """Returns the judge of a study, trained when it is first asked for."""
    dataset = _Same(scene.key, scene.dataset)
    return _judge(dataset, Path(config.workdir) / "learned")


@dataclasses.dataclass(frozen=True)
class _Same:
    """Value as an argument of a cache: the same if its fingerprint is."""

    fingerprint: str
    value: Any = dataclasses.field(compare=False)


@functools.lru_cache(maxsize=2)
def _judge(dataset: _Same, folder: Path) -> judge.Judge:
    return judge.find(dataset.value, folder)


_AT_ONE_PLACE = threading.Lock()  # several cuts that are attacked side by side ask the same


def undefended(scene: runs.Scene) -> np.ndarray:
    """Tells which test images the target classifies rightly, `[N]` bool: the same at every cut."""
    with _AT_ONE_PLACE:
        return _undefended(_Same(scene.key, scene))


@functools.lru_cache(maxsize=2)
def _undefended(scene: _Same) -> np.ndarray:
    target, test = scene.value.target, scene.value.dataset.test
    return classification.correct(target.network, target.params, test.images, test.labels)


def classified(
    edge: Network,
    cloud: Network,
    params: Params,
    samples: Samples,
    family: Sequence[Defense],
    key: Array,
) -> np.ndarray:
    """Tells which examples are classified rightly behind each defense, `[L, N]` bool.

    The features are those of a `Release` of the images with this key, but for rounding. They never
    leave the device, and the edge is computed once for all defenses at its features.

    Args:
      edge, cloud: the two parts of a network.
      params: its parameters.
      samples: images and labels.
      family: defenses that differ in their levels alone.
      key: of their randomness.
    """
    (structure,) = {defense.structure for defense in family}
    classes = devices.in_slices(
        _classes,
        np.arange(len(samples), dtype=np.int32),
        samples.images,
        static=(edge, cloud, structure),
        shared=(
            edge.select(params),
            cloud.select(params),
            key,
            np.stack([defense.levels for defense in family]),
        ),
    )
    return np.equal(classes.T, samples.labels)


def _classes(edge, cloud, structure, edge_params, cloud_params, key, levels, places, images):
    """Classes `[B, L]`."""

    def classify(features: Array) -> Array:
        return cloud.apply(cloud_params, features).argmax(-1)

    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, places)
    return release_levels(edge, structure, edge_params, keys, images, levels, classify).T
