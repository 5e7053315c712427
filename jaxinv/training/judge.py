"""A judge of reconstructions: a classifier that tests if they still show their class. JAX.

The attacker's part of a dataset trains it, so it depends on neither target nor defense, and it
never saw an attacked image. It complements SSIM and PSNR: a blurred digit that can be read is a
leak, however low its PSNR.
"""

import dataclasses
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from jaxinv import unit_space
from jaxinv.inputs.data import Dataset
from jaxinv.inputs.samples import Samples
from jaxinv.machine import environment, source
from jaxinv.networks import Network, Params, max_pool, sequence
from jaxinv.store import checkpoints
from jaxinv.training import classification
from jaxinv.training.fit import fit, one_cycle, whole_epochs

STEPS = 1500
"""Steps of training, about; at most 40 epochs."""

_BATCH_SIZE = 64
_MOST_EPOCHS = 40
_LEARNING_RATE = 3e-3  # at the peak of the cycle
_CONVOLUTIONS = 3
_MOST_FILTERS = 256  # of the first
_NUM_TESTED = 2000  # images that its accuracy is measured on
_SEED = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Judge:
    """A trained judge.

    Attributes:
      network: from images to one logit a class.
      params: its parameters.
      accuracy: share of the test split's first 2,000 originals that it classifies correctly, the
        ceiling for reconstructions.
      seconds: wall time of its training.
    """

    network: Network
    params: Params
    accuracy: float
    seconds: float

    def correct(self, images: ArrayLike, labels: ArrayLike) -> np.ndarray:
        """Tests if each image is classified as its label.

        Args:
          images: `[N, H, W, C]`, clipped to unit space here. One with a non-finite pixel is never
            right.
          labels: `[N]`, the classes of the originals.

        Returns:
          `[N]` bool.

        Raises:
          UsageError: the images are not of the judge's shape or are whole numbers, or the labels
            are not one class for each.
        """
        shape, number = self.network.input_shape, self.network.output_shape[0]
        images = unit_space.reconstructions(images, shape, name="images")
        labels = unit_space.labels(labels, len(images), number)
        finite = np.isfinite(images).all(axis=(1, 2, 3))  # clipping would hide an inf
        clipped = np.clip(images, 0, 1)
        return finite & classification.correct(self.network, self.params, clipped, labels)


def find(dataset: Dataset, folder: Path | None, *, steps: int = STEPS) -> Judge:
    """Returns the judge of a dataset, read where it was trained before, or trained now.

    Args:
      dataset: its attacker's part trains the judge.
      folder: keeps the judge, in a file named by everything it depends on; a killed training
        continues. None keeps nothing.
      steps: of training, about: epochs are whole, and no more than 40.
    """
    samples = dataset.surrogate("attacker")
    steps = min(steps, max(1, _MOST_EPOCHS * len(samples) // _BATCH_SIZE))
    network = design(dataset.image_shape, dataset.num_classes)
    checkpoint = None
    if folder is not None:
        known = {
            "pixels": samples.pixels,
            "labels": samples.labels,
            "classes": dataset.num_classes,
            "steps": steps,
            "code": source.digest(__name__),
            **environment.numeric_mode(),
        }
        label = dataset.name.replace("/", "_")
        checkpoint = folder / f"{label}-{checkpoints.fingerprint(known)}-judge.safetensors"
    params, seconds = _train(network, samples, steps, checkpoint, f"{dataset.name} judge")
    accuracy = classification.accuracy(network, params, dataset.test[:_NUM_TESTED])
    return Judge(network, params, accuracy, seconds)


def design(image_shape: tuple[int, int, int], num_classes: int) -> Network:
    """Returns three convolutions (3 x 3, same), a pooling after each, and a dense layer.

    Args:
      image_shape: `(H, W, C)`, any. A pooling for which an image is too small is left out; along
        an axis of one place windows have one.
      num_classes: number of logits.
    """
    size, channels = min(image_shape[:2]), image_shape[-1]
    window = tuple(3 if side > 1 else 1 for side in image_shape[:2])
    layers: list[tuple[str, Any]] = []
    for number in range(1, _CONVOLUTIONS + 1):
        filters = _width(channels) << (number - 1)
        conv = nn.Conv(filters, window, kernel_init=nn.initializers.he_normal())
        layers += [(f"conv{number}", conv), (f"relu{number}", nn.relu)]
        if size > 1:
            layers.append((f"pool{number}", max_pool))
            size //= 2
    layers.append(("logits", nn.DenseGeneral(num_classes, axis=(-3, -2, -1))))
    return sequence(layers, image_shape, mean=(0.5,) * channels, std=(0.5,) * channels)


def _width(channels: int) -> int:
    """Returns the filters of the first layer: 16 for grey images, 32 for colour images."""
    return min(8 + 8 * channels, _MOST_FILTERS)


def _train(
    network: Network, samples: Samples, steps: int, checkpoint: Path | None, description: str
) -> tuple[Params, float]:
    """Returns parameters trained on all samples, and the seconds of training."""
    key_init, key_fit = jax.random.split(jax.random.key(_SEED))
    epochs, steps = whole_epochs(steps, len(samples), _BATCH_SIZE)

    def loss(params: Params, batch: dict[str, Array], key: Array):
        del key
        images = unit_space.from_stored(batch["pixels"])
        return classification.loss_and_accuracy(network.apply(params, images), batch["labels"])

    done = fit(
        loss,
        jax.jit(network.init)(key_init),
        samples.arrays,
        optimizer=one_cycle(steps, _LEARNING_RATE),
        epochs=epochs,
        batch_size=_BATCH_SIZE,
        key=key_fit,
        checkpoint=checkpoint,
        description=description,
    )
    return done.params, done.seconds
