"""Targets trained further behind a defense: the cloud alone, or edge and cloud together. JAX.

A deployer would do so, and some defenses consist of it (`Mechanism.training`). One compiled program
trains all levels of a defense. Networks are in evaluation: statistics of BatchNorm stay as they
are. Inputs of several channels are augmented (`augmentation.crop`).
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxinv import defenses, unit_space
from jaxinv.defenses import Defense, Lesson, Plan, Shapes, Training
from jaxinv.defenses.training import FIXED
from jaxinv.inputs.data import Samples
from jaxinv.machine import devices, environment, source
from jaxinv.networks import Network, Params
from jaxinv.store import checkpoints
from jaxinv.training import batch_statistics
from jaxinv.training.augmentation import crop
from jaxinv.training.classification import check, loss_and_accuracy
from jaxinv.training.fit import fit, for_each, losses_of_each, one_cycle, whole_epochs

STEPS = 1500
"""Default steps of training."""

Part = Literal["cloud", "both"]
PARTS: tuple[Part, ...] = ("cloud", "both")

_BATCH_SIZE, _LEARNING_RATE = 64, 1e-3
_START_IMAGES, _START_BYTES = 2000, 2**29  # by which layers of defenses begin; of their features


class Retrained(NamedTuple):
    """Retrained targets, one for each defense.

    Attributes:
      params: of the whole network, for each.
      seconds: wall time of the training.
      compile_seconds: wall time of compiling it.
    """

    params: tuple[Params, ...]
    seconds: float
    compile_seconds: float


def retrain(
    network: Network,
    params: Params,
    cut: str,
    family: Sequence[Defense],
    samples: Samples,
    *,
    part: Part,
    key: Array,
    steps: int = STEPS,
    folder: Path | None = None,
) -> Retrained:
    """Trains a target further behind each of several defenses that differ in their levels alone.

    Args:
      network: the whole target.
      params: its parameters, where training starts.
      cut: place of the defenses.
      family: the defenses.
      samples: images and labels of the target's own part.
      part: "cloud" trains the cloud alone, "both" edge and cloud. A layer of the defense is trained
        whatever the part.
      key: of the order of images and of the defenses' draws.
      steps: of training, about: epochs are whole.
      folder: keeps the targets, in a file named by everything they depend on; a killed training
        continues. None keeps nothing.

    Returns:
      Parameters of `defenses.plan(network, cut, ...)`, which has the layer of the defense.

    Raises:
      UsageError: the network takes other images, or has too few logits.
      ValueError: the defenses differ in more than their levels.
      UserError: the loss became non-finite.
    """
    check(network, samples)
    key_start, key_helpers, key_fit = _keys(key)
    course = _Course.of(network, params, cut, family, samples, key_start)
    own = course.trained(part)
    if not jax.tree.leaves(own):  # nothing to train behind the last layer
        return Retrained((params,) * len(family), 0.0, 0.0)
    batch_size = min(_BATCH_SIZE, len(samples))
    epochs, steps = whole_epochs(steps, len(samples), batch_size)
    checkpoint = None
    if folder is not None:
        known = {
            "params": course.starts,
            # Features and logits of some images stand for layers and defenses, which have no hash.
            "behaviour": course.behaviour(samples[:8].images),
            "pixels": samples.pixels,
            "labels": samples.labels,
            "key": jax.random.key_data(key),
            "family": np.array([repr(defense.describe()) for defense in family]),
            "recipe": np.array([cut, part, str(steps), source.digest(__name__)]),
            **environment.numeric_mode(),
        }
        checkpoint = folder / f"{cut}-{checkpoints.fingerprint(known)}-retrained.safetensors"
    done = fit(
        course.loss,
        {"target": own, "helpers": course.helpers(key_helpers)},
        samples.arrays,
        optimizer=for_each(_optimizer(steps)),
        epochs=epochs,
        batch_size=batch_size,
        key=key_fit,
        seeds=len(family),
        checkpoint=checkpoint,
        description=f"retraining {cut}",
    )
    rows = [
        jax.tree.map(lambda leaf, row=row: leaf[row], done.params["target"])
        for row in range(len(family))
    ]
    targets = [{**start, **row} for start, row in zip(course.starts, rows, strict=True)]
    return Retrained(tuple(targets), done.seconds, done.compile_seconds)


def _keys(key: Array) -> tuple[Array, Array, Array]:
    """Returns keys of what begins, of helpers, and of the training itself."""
    return jax.random.fold_in(key, 1), jax.random.fold_in(key, 2), key


def _optimizer(steps: int) -> optax.GradientTransformation:
    """Returns the optimizer of a target and of its helpers, each with its own clipped gradient."""
    cycle = one_cycle(steps, _LEARNING_RATE)
    return optax.partition(
        {"target": batch_statistics.kept(cycle, FIXED), "helpers": cycle},
        {"target": "target", "helpers": "helpers"},
    )


@dataclasses.dataclass(frozen=True)
class _Course:
    """Training behind each of a family of defenses, as one loss.

    Attributes:
      plan: the network with the layer of the defense, if it has one.
      host: edge before that layer.
      family: the defenses.
      starts: parameters of each, where training starts.
      release: of the family, as `defenses.release_function` returns it.
    """

    plan: Plan
    host: Network
    family: Sequence[Defense]
    starts: Sequence[Params]
    release: Callable[..., Array]

    @classmethod
    def of(
        cls,
        network: Network,
        params: Params,
        cut: str,
        family: Sequence[Defense],
        samples: Samples,
        key: Array,
    ) -> "_Course":
        plan = defenses.plan(network, cut, family[0].structure)
        release = defenses.release_function(plan.network.split(plan.cut)[0], family)
        host, rest = network.split(cut)
        seen = (np.zeros((0, *host.output_shape), np.float32),) * 2
        if plan.layer:
            fitting = _START_BYTES // (4 * math.prod(host.output_shape))
            pixels = samples[: max(1, min(_START_IMAGES, fitting))].pixels
            mixtures = _mixtures(jax.random.fold_in(key, 1), len(pixels), *rest.output_shape)
            seen = devices.in_slices(
                _beginning, pixels, mixtures, static=(host, rest), shared=(params,)
            )
        levels = np.stack([defense.levels for defense in family])
        return cls(plan, host, family, plan.start(params, *seen, levels, key), release)

    @functools.cached_property
    def parts(self) -> tuple[Network, Network]:
        """Edge and cloud."""
        return self.plan.network.split(self.plan.cut)

    @functools.cached_property
    def trainings(self) -> list[tuple[int, Training]]:
        """Number of each step that is trained in, and its training."""
        return [
            (number, mechanism.training)
            for number, (mechanism, _) in enumerate(self.family[0].structure)
            if mechanism.training
        ]

    def trained(self, part: Part) -> Params:
        """Returns what is trained of the target, `[L, ...]`."""
        learns = self.parts[1] if part == "cloud" else self.plan.network
        rows = [
            {
                **learns.select(start),
                **({self.plan.cut: self.plan.layer_of(start)} if self.plan.layer else {}),
            }
            for start in self.starts
        ]
        return _stacked(rows)

    def helpers(self, key: Array) -> Params:
        """Returns the helpers of all defenses, `[L, ...]`, by the number of their step."""
        edge, cloud = self.parts
        shapes = Shapes(edge.input_shape, edge.output_shape, cloud.output_shape[-1])
        own = {
            str(number): training.helpers.init(jax.random.fold_in(key, number), shapes)
            for number, training in self.trainings
            if training.helpers
        }
        return _stacked([own] * len(self.family))

    def loss(self, trained: Params, batch: dict[str, Array], key: Array) -> Any:
        """Computes the sum of the losses of all targets."""
        count = len(self.family)
        key_images, key_draws = jax.random.split(key)
        images = unit_space.from_stored(batch["pixels"])
        images = crop(key_images, images) if images.shape[-1] > 1 else images
        same = jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (count, *leaf.shape)), (images, batch["labels"])
        )
        rows = (*same, jax.random.split(key_draws, count), jnp.arange(count))
        # The sum: the gradient of one must not depend on their number.
        return losses_of_each(self._loss_of_one, trained, rows).sum(), {}

    def _loss_of_one(
        self, trained: Params, images: Array, labels: Array, key: Array, which: Array
    ) -> Array:
        """Computes cross-entropy, the losses of the defenses, and those of their helpers."""
        params = {**self.starts[0], **trained["target"]}
        edge, cloud = self.parts
        keys = jax.random.split(key, len(images))
        released = self.release(params, keys, images, jnp.broadcast_to(which, len(images)))
        total, _ = loss_and_accuracy(cloud.apply(params, released), labels)
        if not self.trainings:
            return total
        clean = edge.apply(params, images)
        features = self.host.apply(params, images) if self.plan.layer else clean
        lesson = Lesson(images, labels, features, clean, released, self.plan.layer_of(params))
        levels = np.stack([defense.levels for defense in self.family])
        return total + self._of_defenses(lesson, trained["helpers"], jnp.asarray(levels)[which])

    def _of_defenses(self, lesson: Lesson, helpers: Params, levels: Array) -> Array:
        total = jnp.float32(0)
        for number, training in self.trainings:
            own = helpers.get(str(number), {})
            total += training.loss(lesson, jax.lax.stop_gradient(own), levels[number])
            if training.helpers:
                total += training.helpers.loss(jax.lax.stop_gradient(lesson), own)
        return total

    def behaviour(self, images: Any) -> Any:
        """Computes features of each of a family, and the logits, for a few images."""
        cloud = self.parts[1]

        @jax.jit
        def behave(params: Params, which: Array) -> tuple[Array, Array]:
            keys = jax.random.split(jax.random.key(0), len(images))
            features = self.release(params, keys, images, jnp.broadcast_to(which, len(images)))
            return features, cloud.apply(params, features)

        return [behave(start, jnp.int32(which)) for which, start in enumerate(self.starts)]


def _mixtures(key: Array, count: int, classes: int) -> np.ndarray:
    """Draws weights of logits `[N, classes]`, normal ones that add up to zero.

    What is added to all logits alike changes no probability.
    """
    weights = np.asarray(jax.random.normal(key, (count, classes)))
    return weights - weights.mean(axis=1, keepdims=True)


def _beginning(
    edge: Network, cloud: Network, params: Params, pixels: Array, mixtures: Array
) -> tuple[Array, Array]:
    """Computes features, and the slopes of mixed outputs by them, `[B, ...]` each."""
    features = edge.apply(params, unit_space.from_stored(pixels))

    def mixed(features: Array) -> Array:
        return jnp.sum(cloud.apply(params, features) * mixtures)

    return features, jax.grad(mixed)(features)


def _stacked(rows: Sequence[Params]) -> Params:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows)
