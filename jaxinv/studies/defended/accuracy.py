"""Usability behind defenses, and what a judge still sees in reconstructions. JAX."""

import dataclasses
import functools
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jax import Array

from jaxinv.defenses import Defense
from jaxinv.measures import intervals, usability
from jaxinv.measures.usability import Scores
from jaxinv.networks import Network, Params
from jaxinv.studies import runs
from jaxinv.studies.defended.choices import DefenseConfig
from jaxinv.training import classification, judge


def judged(config: DefenseConfig, scene: runs.Scene, images: np.ndarray) -> dict[str, Any]:
    """Tells how often an independent classifier still sees the class in `images [S, N, ...]`.

    Without labels there is none, and its fields are None.
    """
    if not scene.dataset.has_labels:
        return {"judge_accuracy": None, "judge_ci": [None, None], "judge_accuracy_originals": None}
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
    with _JUDGING:
        return _judge(dataset, Path(config.workdir) / "learned")


@dataclasses.dataclass(frozen=True)
class _Same:
    """Value as an argument of a cache: the same if its fingerprint is."""

    fingerprint: str
    value: Any = dataclasses.field(compare=False)


_JUDGING = threading.Lock()  # several cuts that are attacked side by side ask for the same


@functools.lru_cache(maxsize=2)
def _judge(dataset: _Same, folder: Path) -> judge.Judge:
    return judge.find(dataset.value, folder)


_CLASSIFYING = threading.Lock()


def undefended(scene: runs.Scene) -> Scores:
    """Returns the usability of the undefended target image by image, `[N]`: the same at every cut.

    Where accuracy is the measure, whether it classifies them rightly.
    """
    kind = scene.usability.kind
    if kind != "accuracy":
        return Scores.perfect(kind, len(scene.dataset.test))
    return Scores(_classes_of(scene) == scene.dataset.test.labels)


def usable(
    scene: runs.Scene,
    parts: tuple[Network, Network],
    params: Params,
    family: Sequence[Defense],
    key: Array,
    *,
    count: int | None = None,
) -> Scores:
    """Returns the usability behind each defense image by image, `[L, N]`.

    Args:
      scene: the data, and the undefended target.
      parts: edge and cloud.
      params: of both, which may live with the defense.
      family: defenses that differ in their levels alone.
      key: of their randomness.
      count: test images from the first; by default all.
    """
    kind, test = scene.usability.kind, scene.dataset.test[:count]
    wanted = None
    if kind not in usability.COMPARED:
        wanted = test.labels if kind == "accuracy" else _classes_of(scene)[:count]
    whole = (scene.target.network, scene.target.params)
    return usability.scores(kind, parts, params, test.scaled, wanted, family, key, whole=whole)


def _classes_of(scene: runs.Scene) -> np.ndarray:
    """Returns the classes `[N]` that the undefended target gives the test images."""
    with _CLASSIFYING:
        return _classes(_Same(scene.key, scene))


@functools.lru_cache(maxsize=2)
def _classes(scene: _Same) -> np.ndarray:
    target, test = scene.value.target, scene.value.dataset.test
    return classification.classes(target.network, target.params, test.scaled)
