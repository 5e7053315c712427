"""Targets trained further behind a defense: the cloud alone, or edge and cloud together. JAX.

A deployer would do so, and some defenses consist of it (`Mechanism.penalty`). One compiled program
trains all levels of a defense. Networks are in evaluation: statistics of BatchNorm stay as they
are.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxinv import defenses, unit_space
from jaxinv.defenses import Defense
from jaxinv.inputs.data import Samples
from jaxinv.machine import environment, source
from jaxinv.networks import Network, Params
from jaxinv.store import checkpoints
from jaxinv.training import batch_statistics
from jaxinv.training.augmentation import augment
from jaxinv.training.classification import check, loss_and_accuracy
from jaxinv.training.fit import fit, for_each, losses_of_each, one_cycle, whole_epochs

STEPS = 1500
"""Default steps of training."""

Part = Literal["cloud", "both"]
PARTS: tuple[Part, ...] = ("cloud", "both")

_BATCH_SIZE, _LEARNING_RATE = 64, 1e-3


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
      part: "cloud" trains the cloud alone, "both" edge and cloud.
      key: of the order of images and of the defenses' draws.
      steps: of training, about: epochs are whole.
      folder: keeps the targets, in a file named by everything they depend on; a killed training
        continues. None keeps nothing.

    Raises:
      UsageError: the network takes other images, or has too few logits.
      ValueError: the defenses differ in more than their levels.
      UserError: the loss became non-finite.
    """
    check(network, samples)
    edge, cloud = network.split(cut)
    own = (cloud if part == "cloud" else network).select(params)
    if not own:  # nothing to train behind the last layer
        return Retrained((params,) * len(family), 0.0, 0.0)
    release = defenses.release_function(edge, family)
    batch_size = min(_BATCH_SIZE, len(samples))
    epochs, steps = whole_epochs(steps, len(samples), batch_size)
    checkpoint = None
    if folder is not None:
        known = {
            "params": params,
            # Features and logits of some images stand for layers and defenses, which have no hash.
            "behaviour": _behaviour(release, cloud, params, len(family), samples[:8].images),
            "pixels": samples.pixels,
            "labels": samples.labels,
            "key": jax.random.key_data(key),
            "family": np.array([repr(defense.describe()) for defense in family]),
            "recipe": np.array([cut, part, str(steps), source.digest(__name__)]),
            **environment.numeric_mode(),
        }
        checkpoint = folder / f"{cut}-{checkpoints.fingerprint(known)}-retrained.safetensors"
    done = fit(
        _loss(release, cloud, params, family),
        jax.tree.map(lambda leaf: jnp.stack([leaf] * len(family)), own),
        samples.arrays,
        optimizer=for_each(batch_statistics.kept(one_cycle(steps, _LEARNING_RATE))),
        epochs=epochs,
        batch_size=batch_size,
        key=key,
        seeds=len(family),
        checkpoint=checkpoint,
        description=f"retraining {cut}",
    )
    rows = [
        jax.tree.map(lambda leaf, row=row: leaf[row], done.params) for row in range(len(family))
    ]
    return Retrained(tuple({**params, **row} for row in rows), done.seconds, done.compile_seconds)


def _loss(release: Any, cloud: Network, params: Params, family: Sequence[Defense]) -> Any:
    """Returns the loss of all targets: cross-entropy, and penalties of the defenses."""
    count = len(family)
    levels = jnp.stack([jnp.asarray(defense.levels) for defense in family])
    penalties = [
        (mechanism.penalty, number)
        for number, (mechanism, _) in enumerate(family[0].structure)
        if mechanism.penalty
    ]

    def loss_of_one(trained: Params, images: Array, labels: Array, key: Array, which: Array):
        everything = {**params, **trained}
        keys = jax.random.split(key, len(images))
        features = release(everything, keys, images, jnp.broadcast_to(which, len(images)))
        total, _ = loss_and_accuracy(cloud.apply(everything, features), labels)
        for penalty, number in penalties:
            total += levels[which, number] * penalty(images, features)
        return total

    def loss(trained: Params, batch: dict[str, Array], key: Array):
        key_images, key_draws = jax.random.split(key)
        images = unit_space.from_stored(batch["pixels"])
        images = augment(key_images, images) if images.shape[-1] > 1 else images
        same = jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (count, *leaf.shape)), (images, batch["labels"])
        )
        rows = (*same, jax.random.split(key_draws, count), jnp.arange(count))
        # The sum: the gradient of one must not depend on their number.
        return losses_of_each(loss_of_one, trained, rows).sum(), {}

    return loss


def _behaviour(release: Any, cloud: Network, params: Params, count: int, images: Any) -> Any:
    """Computes features of each of a family, and the logits, for a few images."""

    @jax.jit
    def behave(params: Params, which: Array) -> tuple[Array, Array]:
        keys = jax.random.split(jax.random.key(0), len(images))
        features = release(params, keys, images, jnp.broadcast_to(which, len(images)))
        return features, cloud.apply(params, features)

    return [behave(params, jnp.int32(which)) for which in range(count)]
