"""Statistics of the features that a cloud was sent while it served. JAX classifies, NumPy sums.

The mean of the features that the cloud takes for a class must be the mean of what a shadow makes of
that class, and channels must vary as much. Where nothing is labelled, groups of the cloud's outputs
stand for classes: the cloud tells the group of what a shadow makes, too.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxinv.attacks.queryfree.groups import Groups
from jaxinv.attacks.queryfree.groups import found as found_groups
from jaxinv.machine import footprint, memory
from jaxinv.networks import Network, Params

_SLICE = 500  # examples at once, at most
_BLOCK = 2**20  # values at once in float64
_MOST_MEANS = 2**23  # values of the means of all classes
_FEWEST = 1e-6  # features of a class: none


class Stream(NamedTuple):
    """Statistics of the features that a cloud was sent.

    Attributes:
      means: `[K, M]`, of the flattened `places` of features that it takes for each of K classes.
      counts: `[K]`, number of these.
      scale: standard deviation of all features.
      spread: `[c]`, that of each channel (of each feature, where they have no place).
      groups: stand for classes where nothing is labelled; else None.
    """

    means: np.ndarray
    counts: np.ndarray
    scale: float
    spread: np.ndarray
    groups: Groups | None = None


def observe(cloud: Network, params: Params, features: Any, *, labelled: bool = True) -> Stream:
    """Sums up a stream of features by what the cloud takes them for.

    Args:
      cloud: the part of the network that the attacker runs; returns one logit a class, if labelled.
      params: its parameters.
      features: `[N, *cloud.input_shape]`, by index: an array or a `defenses.Release`.
      labelled: whether it is summed up by class, as the cloud predicts; else by group of outputs.
    """
    own = cloud.select(params)
    groups = None if labelled else found_groups(cloud, params, features)
    (classes,) = cloud.output_shape if groups is None else groups.centres.shape[:1]
    shape, step = cloud.input_shape, slice_of(cloud, own, features)
    sums = np.zeros((classes, math.prod(_coarse(shape, classes))))
    counts = np.zeros(classes)
    moments = Moments()
    for begin in range(0, len(features), step):
        rows = np.arange(begin, min(begin + step, len(features)))
        part = np.asarray(features[rows])
        outputs = _outputs(cloud, own, part)
        if groups is None:
            shares = np.eye(classes, dtype=np.float32)[np.asarray(outputs).argmax(-1)]
        else:
            shares = np.asarray(groups.shares(outputs))
        sums += shares.T @ np.asarray(places(part, classes))
        counts += shares.sum(axis=0, dtype=np.float64)
        moments.add(part)
    means = (sums / np.maximum(counts, _FEWEST)[:, None]).astype(np.float32)
    return Stream(means, counts.astype(np.float32), moments.scale, moments.spread, groups)


def classes_of(cloud: Network, params: Params, features: Any) -> np.ndarray:
    """Returns what the cloud takes features for, `[N]`: of each output the place of its maximum."""
    own = cloud.select(params)
    step = slice_of(cloud, own, features)
    found = [
        np.asarray(
            _outputs(cloud, own, features[np.arange(begin, min(begin + step, len(features)))])
        )
        for begin in range(0, len(features), step)
    ]
    return np.concatenate(found).reshape(len(features), -1).argmax(axis=-1)


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
def _outputs(cloud: Network, params: Params, features: Array) -> Array:
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
    flat, members = _halved(features, jax.nn.one_hot(labels, len(stream.counts)), stream)
    counts = members.sum(axis=1)
    # Both halves in one product: one by one, XLA's CPU backend (jaxlib 0.10) crashes at some sizes.
    means = jnp.einsum("hbk,hbm->hkm", members, flat) / jnp.maximum(counts, 1)[..., None]
    present = (counts > 0).all(axis=0) & (jnp.asarray(stream.counts) > 0)
    return _product_of_errors(means, stream, present)


def group_mean_distance(features: Array, outputs: Array, stream: Stream) -> Array:
    """Computes the squared distance between group means of a batch and of a stream.

    It is as `class_mean_distance`, but the cloud tells by how much features belong to a group. Sums
    are beside the share that a group has of the stream, so that its share of the batch counts, too.

    Args:
      features: `[B, ...]`, what a shadow made.
      outputs: `[B, ...]`, what the cloud made of them.
      stream: the means to be met, of groups.

    Returns:
      A scalar, in units of the stream's variance; it may be negative.
    """
    assert stream.groups is not None
    flat, members = _halved(features, stream.groups.shares(outputs), stream)
    usual = jnp.asarray(stream.counts / stream.counts.sum())
    means = jnp.einsum("hbk,hbm->hkm", members, flat) / (flat.shape[1] * usual[None, :, None])
    return _product_of_errors(means, stream, usual > 0)


def _halved(features: Array, shares: Array, stream: Stream) -> tuple[Array, Array]:
    """Returns features `[2, B / 2, M]`, in units of the stream's, and shares `[2, B / 2, K]`."""
    half, classes = len(features) // 2, len(stream.counts)
    flat = places(features[: 2 * half], classes).reshape(2, half, -1) / stream.scale
    return flat, shares[: 2 * half].reshape(2, half, classes).astype(flat.dtype)


def _product_of_errors(means: Array, stream: Stream, present: Array) -> Array:
    """Returns the mean product of the errors of two halves' means `[2, K, M]`."""
    errors = means - (stream.means / stream.scale)[None]
    product = jnp.sum(errors[0] * errors[1], axis=1) * present
    return product.sum() / (means.shape[-1] * jnp.maximum(present.sum(), 1))
