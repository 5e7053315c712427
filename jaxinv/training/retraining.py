"""Targets that learn to live with a defence: trained on with it in the loop. JAX.

A deployer would do so: the cloud alone, or edge and cloud together. Some defences consist of it
(`Mechanism.penalty`). All levels of one defence are trained in one compiled program.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxinv import defenses
from jaxinv.defenses import Defense
from jaxinv.inputs.data import Samples
from jaxinv.machine import source
from jaxinv.networks import Network, Params
from jaxinv.store import checkpoints
from jaxinv.training.fit import fit, for_each, losses_of_each, one_cycle, whole_epochs
from jaxinv.training.targets import augment

STEPS = 1500
"""Of training, unless told otherwise."""

Part = Literal["cloud", "both"]
PARTS: tuple[Part, ...] = ("cloud", "both")

_BATCH_SIZE, _LEARNING_RATE = 64, 1e-3


class Retrained(NamedTuple):
    """Targets, one for each defence.

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
    """Trains a target on behind each of several defences that differ in their levels alone.

    Args:
      network: the whole target.
      params: its parameters, where training starts.
      cut: where the defences stand.
      family: the defences.
      samples: images and labels of the target's own part.
      part: whether the cloud alone is trained, or edge and cloud.
      key: of the order of images and of what the defences draw.
      steps: of training, about: epochs are whole.
      folder: keeps what is trained, named by all that it depends on: it is read where it is
        complete, and gone on with where its training was killed. None keeps nothing.

    Raises:
      ValueError: the defences differ in more than their levels.
      UserError: the loss became non-finite.
    """
    edge, cloud = network.split(cut)
    own = (cloud if part == "cloud" else network).select(params)
    if not own:  # nothing to train behind the last layer
        return Retrained((params,) * len(family), 0.0, 0.0)
    release = defenses.release_family(edge, family)
    levels = jnp.stack([jnp.asarray(defense.levels) for defense in family])
    penalties = [
        (mechanism.penalty, number)
        for number, (mechanism, _) in enumerate(family[0].structure)
        if mechanism.penalty
    ]
    colour = network.input_shape[-1] > 1

    def loss_of_one(trained: Params, images: Array, labels: Array, key: Array, which: Array):
        everything = {**params, **trained}
        keys = jax.random.split(key, len(images))
        features = release(everything, keys, images, jnp.broadcast_to(which, len(images)))
        logits = cloud.apply(everything, features)
        total = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        for penalty, number in penalties:
            total += levels[which, number] * penalty(images, features)
        return total

    count = len(family)

    def loss(trained: Params, batch: dict[str, Array], key: Array):
        key_images, key_draws = jax.random.split(key)
        images = batch["pixels"].astype(jnp.float32) / 255
        images = augment(key_images, images) if colour else images
        same = jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (count, *leaf.shape)), (images, batch["labels"])
        )
        rows = (*same, jax.random.split(key_draws, count), jnp.arange(count))
        # The sum: the gradient of one must not depend on how many there are.
        return losses_of_each(loss_of_one, trained, rows).sum(), {}

    start = jax.tree.map(lambda leaf: jnp.stack([leaf] * count), own)
    batch_size = min(_BATCH_SIZE, len(samples))
    epochs, steps = whole_epochs(steps, len(samples), batch_size)
    checkpoint = None
    if folder is not None:
        known = {
            "params": params,
            # What they make of some images stands for layers and defences, which cannot be hashed.
            "behaviour": _behaviour(release, cloud, params, count, jnp.asarray(samples[:8].images)),
            "pixels": samples.pixels,
            "labels": samples.labels,
            "key": jax.random.key_data(key),
            "family": np.array([repr(defense.describe()) for defense in family]),
            "recipe": np.array([cut, part, str(steps), source.digest(__name__)]),
        }
        checkpoint = folder / f"{cut}-{checkpoints.fingerprint(known)}-retrained.safetensors"
    done = fit(
        loss,
        start,
        {"pixels": np.asarray(samples.pixels), "labels": samples.labels},
        optimizer=for_each(one_cycle(steps, _LEARNING_RATE)),
        epochs=epochs,
        batch_size=batch_size,
        key=key,
        seeds=count,
        checkpoint=checkpoint,
        description=f"retraining {cut}",
    )

    def row(number: int) -> dict[str, Any]:
        return {**params, **jax.tree.map(lambda leaf: leaf[number], done.params)}

    return Retrained(tuple(map(row, range(count))), done.seconds, done.compile_seconds)


def _behaviour(release: Any, cloud: Network, params: Params, count: int, images: Array) -> Any:
    """Features of each of a family, and the logits, of a few images."""

    @jax.jit
    def behave(which: Array) -> tuple[Array, Array]:
        keys = jax.random.split(jax.random.key(0), len(images))
        features = release(params, keys, images, jnp.broadcast_to(which, len(images)))
        return features, cloud.apply(params, features)

    return [behave(jnp.int32(which)) for which in range(count)]
