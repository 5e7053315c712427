"""Statistics of the features that a cloud was sent while it served. JAX classifies, NumPy sums.

The mean of the features that the cloud takes for a class must be the mean of what a shadow makes of
that class, and channels must vary as much.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxinv.machine import footprint, memory
from jaxinv.networks import Network, Params

_SLICE = 500  # examples at once, at most
_BLOCK = 2**20  # values at once in float64
_MOST_MEANS = 2**23  # values of the means of all classes


class Stream(NamedTuple):
    """Statistics of the features that a cloud was sent.

    Attributes:
      means: `[K, M]`, of the flattened `places` of features that it takes for each of K classes.
      counts: `[K]`, number of these.
      scale: standard deviation of all features.
      spread: `[c]`, that of each channel (of each feature, where they have no place).
    """

    means: np.ndarray
    counts: np.ndarray
    scale: float
    spread: np.ndarray


def observe(cloud: Network, params: Params, features: Any) -> Stream:
    """Sums up a stream of features, labelled by the cloud's own predictions.

    Args:
      cloud: the part of the network that the attacker runs; returns one logit a class.
      params: its parameters.
      features: `[N, *cloud.input_shape]`, by index: an array or a `defenses.Release`.
    """
    own = cloud.select(params)
    (classes,) = cloud.output_shape
    shape, step = cloud.input_shape, slice_of(cloud, own, features)
    sums = np.zeros((classes, math.prod(_coarse(shape, classes))))
    counts = np.zeros(classes)
    moments = Moments()
    for begin in range(0, len(features), step):
        rows = np.arange(begin, min(begin + step, len(features)))
        part = np.asarray(features[rows])
        labels = np.asarray(_logits(cloud, own, part)).argmax(-1)
        flat = np.asarray(places(part, classes))
        for label in np.unique(labels):
            sums[label] += flat[labels == label].sum(axis=0, dtype=np.float64)
        np.add.at(counts, labels, 1)
        moments.add(part)
    means = (sums / np.maximum(counts, 1)[:, None]).astype(np.float32)
    return Stream(means, counts.astype(np.float32), moments.scale, moments.spread)


def slice_of(network: Network, params: Params, rows: Any) -> int:
    """Returns how many examples a network takes at once, as its shapes tell: at most 500."""
    return footprint.batch_within(memory.TRAINING, _SLICE, network.apply, params, rows)


def places(features: Any, classes: int) -> Array:
    """Returns features `[B, ...]` as rows; of large ones, means over squares of places.

    Features without a place, and means of few enough values for all classes, are as they are.
    """
    height, width, channels = _coarse(features.shape[1:], classes)
    if height * width * channels == math.prod(features.shape[1:]):
        return features.reshape(len(features), -1)
    shape = (len(features), height, width, channels)
    return jax.image.resize(features, shape, "linear", antialias=True).reshape(len(features), -1)


def _coarse(shape: tuple[int, ...], classes: int) -> tuple[int, int, int]:
    height, width, channels = shape if len(shape) == 3 else (1, 1, math.prod(shape))
    while classes * height * width * channels > _MOST_MEANS and max(height, width) > 1:
        height, width = -(-height // 2), -(-width // 2)
    return height, width, channels


@partial(jax.jit, static_argnums=0)
def _logits(cloud: Network, params: Params, features: Array) -> Array:
    return cloud.apply(params, features)


class Moments:
    """Standard deviations of features that come in parts, `[B, ..., c]`."""

    def __init__(self):
        self._count, self._sum, self._squares = 0, np.zeros(1), np.zeros(1)

    def add(self, features: np.ndarray) -> None:
        flat = features.reshape(-1, features.shape[-1])
        step = max(1, _BLOCK // flat.shape[1])
        self._count += len(flat)
        for begin in range(0, len(flat), step):
            block = flat[begin : begin + step].astype(np.float64)
            self._sum = self._sum + block.sum(axis=0)
            self._squares = self._squares + (block**2).sum(axis=0)

    @property
    def spread(self) -> np.ndarray:
        """Standard deviation of each channel, `[c]`."""
        variance = self._squares / self._count - (self._sum / self._count) ** 2
        return np.sqrt(np.maximum(variance, 0)).astype(np.float32)

    @property
    def scale(self) -> float:
        """Standard deviation of all features; 1 where they do not vary."""
        mean, square = self._sum.mean() / self._count, self._squares.mean() / self._count
        variance = square - mean**2
        return float(np.sqrt(variance)) if variance > 1e-12 * square else 1.0


def class_mean_distance(features: Array, labels: Array, stream: Stream) -> Array:
    """Computes the squared distance between class means of a batch and of a stream.

    It is a mean over values and classes.

    The square of a batch's error would count its own sampling noise. The errors of the two halves
    of the batch are independent, so their product has the right mean.

    Args:
      features: `[B, ...]`, what a shadow made.
      labels: `[B]`, of the images.
      stream: the means to be met.

    Returns:
      A scalar, in units of the stream's variance; it may be negative.
    """
    half = len(features) // 2
    rows = places(features[: 2 * half], len(stream.counts))
    flat = rows.reshape(2, half, -1) / stream.scale
    which = labels[: 2 * half].reshape(2, half)
    members = jax.nn.one_hot(which, len(stream.counts), dtype=flat.dtype)
    counts = members.sum(axis=1)
    # Both halves in one product: one by one, XLA's CPU backend (jaxlib 0.10) crashes at some sizes.
    means = jnp.einsum("hbk,hbm->hkm", members, flat) / jnp.maximum(counts, 1)[..., None]
    errors = means - (stream.means / stream.scale)[None]
    present = (counts > 0).all(axis=0) & (jnp.asarray(stream.counts) > 0)
    product = jnp.sum(errors[0] * errors[1], axis=1) * present
    return product.sum() / (flat.shape[-1] * jnp.maximum(present.sum(), 1))
