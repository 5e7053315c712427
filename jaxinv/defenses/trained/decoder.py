"""The decoder of an imagined attacker, trained beside the target. JAX."""

import math
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxinv.defenses.training import Helpers, Lesson, Shapes
from jaxinv.machine.numbers import widened
from jaxinv.networks import Params
from jaxinv.networks.convolution import conv_general_dilated

_WIDTH = 16


class _Decoder(nn.Module):
    """Three convolutions from features to an image; features without a place get one first.

    The last two work at half the image's resolution, and each place answers four pixels.

    Attributes:
      shape: of the image.
    """

    shape: tuple[int, ...]

    @nn.compact
    def __call__(self, features: Array) -> Array:
        rows, columns = self.shape[0], math.prod(self.shape[1:-1])
        x = features
        if x.ndim != 4:
            sides = (-(-rows // 4), -(-columns // 4), _WIDTH)
            x = nn.relu(nn.Dense(math.prod(sides))(x.reshape(len(x), -1))).reshape(-1, *sides)
        x = nn.relu(_conv(_WIDTH)(x))
        high, wide = -(-rows // 2), -(-columns // 2)
        x = jax.image.resize(x, (len(x), high, wide, _WIDTH), "linear")
        x = nn.relu(_conv(_WIDTH)(x))
        x = nn.sigmoid(_conv(4 * self.shape[-1])(x))
        x = x.reshape(-1, high, wide, 2, 2, self.shape[-1]).transpose(0, 1, 3, 2, 4, 5)
        x = x.reshape(-1, 2 * high, 2 * wide, self.shape[-1])[:, :rows, :columns]
        return x.reshape(-1, *self.shape)


def _conv(channels: int) -> nn.Conv:
    # Gradients of XLA's own convolution are many times as slow on CPUs inside a loop.
    return nn.Conv(channels, (3, 3), conv_general_dilated=conv_general_dilated)


def _init(key: Array, shapes: Shapes) -> Params:
    features = jnp.zeros((1, *shapes.features), jnp.float32)
    return _Decoder(shapes.image).init(key, features)["params"]


def error(lesson: Lesson, params: Params) -> Array:
    """Computes the decoder's squared error, in the variance of the images: 1 is their mean image.

    Args:
      lesson: of a batch.
      params: of the decoder.
    """
    images = widened(lesson.images)
    decoder = _Decoder(images.shape[1:])
    decoded = cast(Array, decoder.apply({"params": params}, widened(lesson.released)))
    variance = jnp.mean((images - images.mean(axis=0, keepdims=True)) ** 2)
    return jnp.mean((decoded - images) ** 2) / jnp.maximum(variance, 1e-6)


DECODER = Helpers(_init, error)


def gain(lesson: Lesson, params: Params) -> Array:
    """Computes what the decoder knows beyond the mean image: its error below 1, at least 0."""
    return jnp.maximum(1 - error(lesson, params), 0)
