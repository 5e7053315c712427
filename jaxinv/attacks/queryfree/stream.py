"""Statistics of the features that a cloud was sent while it served. JAX classifies, NumPy sums.

The mean of the features that the cloud takes for a class must be the mean of what a shadow makes of
that class, and channels must vary as much.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxinv.networks import Network, Params

SLICE = 500  # examples at once


class Stream(NamedTuple):
    """Statistics of the features that a cloud was sent.

    Attributes:
      means: `[K, M]`, of the flattened features that it takes for each of K classes.
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
    sums, counts = np.zeros((classes, int(np.prod(cloud.input_shape)))), np.zeros(classes)
    moments = Moments()
    for begin in range(0, len(features), SLICE):
        rows = np.arange(begin, min(begin + SLICE, len(features)))
        part = np.asarray(features[rows])
        labels = np.asarray(_logits(cloud, own, part)).argmax(-1)
        np.add.at(sums, labels, part.reshape(len(part), -1).astype(np.float64))
        np.add.at(counts, labels, 1)
        moments.add(part)
    means = sums / np.maximum(counts, 1)[:, None]
    return Stream(
        means.astype(np.float32), counts.astype(np.float32), moments.scale, moments.spread
    )


@partial(jax.jit, static_argnums=0)
def _logits(cloud: Network, params: Params, features: Array) -> Array:
    return cloud.apply(params, features)


class Moments:
    """Standard deviations of features that come in parts, `[B, ..., c]`."""

    def __init__(self):
        self._count, self._sum, self._squares = 0, np.zeros(1), np.zeros(1)

    def add(self, features: np.ndarray) -> None:
        flat = features.reshape(-1, features.shape[-1]).astype(np.float64)
        self._count += len(flat)
        self._sum = self._sum + flat.sum(axis=0)
        self._squares = self._squares + (flat**2).sum(axis=0)

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
    flat = features[: 2 * half].reshape(2, half, -1) / stream.scale
    which = labels[: 2 * half].reshape(2, half)
    members = jax.nn.one_hot(which, len(stream.counts), dtype=flat.dtype)
    counts = members.sum(axis=1)
    # Both halves in one product: one by one, XLA's CPU backend (jaxlib 0.10) crashes at some sizes.
    means = jnp.einsum("hbk,hbm->hkm", members, flat) / jnp.maximum(counts, 1)[..., None]
    errors = means - (stream.means / stream.scale)[None]
    present = (counts > 0).all(axis=0) & (jnp.asarray(stream.counts) > 0)
    product = jnp.sum(errors[0] * errors[1], axis=1) * present
    return product.sum() / (flat.shape[-1] * jnp.maximum(present.sum(), 1))
