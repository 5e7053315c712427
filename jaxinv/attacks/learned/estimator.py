"""The network that attackers train, from features, images or both to an image. JAX.

It works at half the images' resolution, where a pixel stands for 2 x 2. Its shape follows from the
shapes of its inputs and of the images alone.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxinv.networks.convolution import conv_general_dilated


class Estimator(nn.Module):
    """A residual convolutional network from features, images or both to an image.

    Attributes:
      image_shape: `(H, W, C)` of what it returns.
      width: channels of its hidden layers.
      depth: of them, how many.
    """

    image_shape: tuple[int, int, int]
    width: int
    depth: int = 3

    @nn.compact
    def __call__(self, inputs: list[Array]) -> Array:
        """Maps `[B, h, w, c]` and `[B, M]` arrays, of any number and size, to `[B, H, W, C]`."""
        height, width, channels = self.image_shape
        grid = (-(-height // 2), -(-width // 2))
        placed = [self._on_grid(value, grid, number) for number, value in enumerate(inputs)]
        x = jnp.concatenate(placed, axis=-1)
        x = self._convolution(self.width)(x)
        for _ in range(self.depth):
            x += self._convolution(self.width)(nn.gelu(x))
        last = self._convolution(4 * channels, kernel_init=nn.initializers.zeros)
        return from_quarters(last(nn.gelu(x)))[:, :height, :width]

    def _on_grid(self, x: Array, grid: tuple[int, int], number: int) -> Array:
        if x.ndim != 4:
            x = nn.Dense(grid[0] * grid[1] * 8)(x.reshape(len(x), -1))
            return x.reshape(len(x), *grid, 8)
        while x.shape[1] > grid[0] or x.shape[2] > grid[1]:
            x = to_quarters(x)
        if x.shape[-1] > 4 * self.width:
            x = nn.Dense(self.width)(x)
        # Where rows and columns of features lie in the image is learned; at first, evenly.
        for axis, size in enumerate(grid, start=1):
            even = jax.image.resize(
                jnp.eye(x.shape[axis], dtype=jnp.float32), (size, x.shape[axis]), "linear"
            )
            places = self.param(f"places{number}_{axis}", lambda _, even=even: even)
            x = jnp.moveaxis(jnp.tensordot(places, x, (1, axis)), 0, axis)
        return x

    def _convolution(self, features: int, **options: Any) -> nn.Module:
        return nn.Conv(features, (3, 3), conv_general_dilated=conv_general_dilated, **options)


def to_quarters(x: Array) -> Array:
    """`[B, H, W, C]` to `[B, ceil(H / 2), ceil(W / 2), 4 C]`: 2 x 2 pixels become one."""
    n, height, width, c = x.shape
    x = jnp.pad(x, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
    h, w = x.shape[1] // 2, x.shape[2] // 2
    return x.reshape(n, h, 2, w, 2, c).transpose(0, 1, 3, 2, 4, 5).reshape(n, h, w, 4 * c)


def from_quarters(x: Array) -> Array:
    """`[B, H, W, 4 C]` to `[B, 2 H, 2 W, C]`: undoes `to_quarters`."""
    n, h, w, c = x.shape
    x = x.reshape(n, h, w, 2, 2, c // 4).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, 2 * h, 2 * w, c // 4)
