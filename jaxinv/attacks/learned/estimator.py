"""The network that attackers train, from features, images or both to an image. JAX.

It works at half the images' resolution, where a place stands for 2 x 2 pixels; at less where an
image is large. Its shape follows from the shapes of its inputs and of the images alone. Along an
axis of one place, such as series and rows of tables have, windows have one place, too.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxinv.attacks.learned import grids
from jaxinv.networks.convolution import conv_general_dilated

_MOST_SIDE = 64  # places of the grid, a side
_CHANNELS = 8  # of features without a place, on that grid
_MOST_WIDTH = 512  # hidden channels of series and tables, which may have many columns


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
        """Maps `[B, h, w, c]`, `[B, T, d]` and `[B, M]` arrays, any number, to `[B, H, W, C]`."""
        height, width, channels = self.image_shape
        cell = cell_of(self.image_shape)
        grid = (-(-height // cell), -(-width // cell))
        placed = [
            part
            for number, value in enumerate(inputs)
            for part in self._placed(value, grid, number)
        ]
        x = jnp.concatenate(placed, axis=-1)
        x = self._convolution(self.width)(x)
        for _ in range(self.depth):
            x += self._convolution(self.width)(nn.gelu(x))
        last = self._convolution(cell**2 * channels, kernel_init=nn.initializers.zeros)
        x = last(nn.gelu(x))
        while x.shape[-1] > channels:
            x = from_quarters(x)
        return x[:, :height, :width]

    def _placed(self, x: Array, grid: tuple[int, int], number: int) -> Iterator[Array]:
        """Yields an input on the grid; tokens that belong to the whole image by themselves."""
        if x.ndim == 3:
            before, sides = grids.of_tokens(x.shape[1], self.image_shape)
            if sides is not None:
                yield self._on_grid(x[:, before:].reshape(len(x), *sides, -1), grid, number)
                if before:
                    yield self._spread(x[:, 0], grid)
                return
        yield self._on_grid(x, grid, number) if x.ndim == 4 else self._spread(x, grid)

    def _spread(self, x: Array, grid: tuple[int, int]) -> Array:
        """Spreads features without a place `[B, ...]` over the grid, a large one from seeds."""
        x = x.reshape(len(x), -1)
        seeds, channels = grids.seeds(x.shape[1], grid, _CHANNELS)
        x = nn.Dense(seeds[0] * seeds[1] * channels)(x).reshape(len(x), *seeds, channels)
        while x.shape[1:3] != grid:
            sides = (min(2 * x.shape[1], grid[0]), min(2 * x.shape[2], grid[1]))
            x = jax.image.resize(nn.gelu(x), (len(x), *sides, x.shape[3]), "linear")
            x = self._convolution(max(x.shape[3] // 2, _CHANNELS))(x)
        return x

    def _on_grid(self, x: Array, grid: tuple[int, int], number: int) -> Array:
        while x.shape[1] > grid[0] or x.shape[2] > grid[1]:
            x = to_quarters(x)
        if x.shape[-1] > 8 * self.width // cell_of(self.image_shape):
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
        window = tuple(3 if side > 1 else 1 for side in self.image_shape[:2])
        return nn.Conv(features, window, conv_general_dilated=conv_general_dilated, **options)


def cell_of(image_shape: Sequence[int]) -> int:
    """Returns the side of the square of pixels that a place of the grid stands for."""
    cell = 2
    while max(image_shape[:2]) > cell * _MOST_SIDE:
        cell *= 2
    return cell


def width_for(image_shape: Sequence[int]) -> int:
    """Returns the number of hidden channels: more than a place has pixel values, or the most."""
    channels, most = image_shape[2], _MOST_WIDTH if image_shape[1] == 1 else math.inf
    return int(min(max(24 + 8 * channels, 16 + cell_of(image_shape) ** 2 * channels), most))


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
