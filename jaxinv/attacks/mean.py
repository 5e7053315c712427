"""The mean of the surrogate images, whatever is observed: a floor for every table. NumPy."""

import dataclasses
import time
from typing import ClassVar

import numpy as np
from jax import Array

from jaxinv.attacks.attack import (
    Attack,
    CloudKnown,
    EdgeKnown,
    Features,
    LearnedAttack,
    QueriesKnown,
    Reconstruction,
)
from jaxinv.attacks.learned.queries import check_images
from jaxinv.attacks.shelf import NOWHERE, Shelf
from jaxinv.attacks.stopwatch import Stopwatch
from jaxinv.machine import rows


@dataclasses.dataclass(frozen=True)
class Mean(Attack[EdgeKnown | QueriesKnown | CloudKnown]):
    """Answers the mean surrogate image, without a look at the network or at the features."""

    knowledge: ClassVar[str] = "surrogate images"

    def learn(
        self, known: EdgeKnown | QueriesKnown | CloudKnown, key: Array, shelf: Shelf = NOWHERE
    ) -> "MeanImage":
        check_images("mean", len(known.images))
        stopwatch = Stopwatch()
        sums = (block.sum(axis=0, dtype=np.float64) for block in rows.blocks(known.images))
        mean = sum(sums) / len(known.images)
        return MeanImage(np.asarray(mean, np.float32), stopwatch.seconds)


@dataclasses.dataclass(frozen=True)
class MeanImage(LearnedAttack):
    """Attacker who knows the mean image `[*input_shape]`."""

    mean: np.ndarray
    fit_seconds: float

    def invert(self, observed: Features, member: int = 0) -> Reconstruction:
        began = time.perf_counter()
        images = np.tile(self.mean, (len(observed), *(1,) * self.mean.ndim))
        return Reconstruction(images, time.perf_counter() - began, fit_seconds=self.fit_seconds)
