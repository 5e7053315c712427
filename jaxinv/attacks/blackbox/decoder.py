"""The decoders that the authors trained, for features of any shape. JAX.

One rule gives the five architectures of their program and covers every other cut. Where an image is
2^k times as large as the features: k layers of stride 2, then one of stride 1, all 3 x 3. Otherwise
5 x 5 layers without padding, worked out backwards from the image. Between layers, rectifiers. The
tokens of a transformer lie on a grid. Layers of large images have fewer channels.

| features of (layer)             | layers                                                       |
|---------------------------------|--------------------------------------------------------------|
| 24 x 24 x 8 (LeNet-5, conv1)    | 5 x 5 to 28 x 28 x 1                                         |
| 8 x 8 x 16 (LeNet-5, relu2)     | 5 x 5 to 12 x 12 x 8; 5 x 5, stride 2, to 28 x 28 x 1        |
| 32 x 32 x 64 (CIFAR, conv11)    | 3 x 3 to 32 x 32 x 3                                         |
| 16 x 16 x 128 (CIFAR, relu22)   | 3 x 3, stride 2, to 32 x 32 x 64; 3 x 3 to 32 x 32 x 3       |
| 8 x 8 x 128 (CIFAR, relu32)     | stride 2 to 16 x 16 x 128, and from there as above           |
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxinv.attacks.learned import grids
from jaxinv.networks.convolution import convolve_dilated

_DENSE_SHARE, _DENSE_CHANNELS = 8, 64  # of an image's side, the grid for features without places
_MOST_HIDDEN = 2**20  # values of a hidden layer
_CHANNELS = (16, 512)  # of a hidden layer, the fewest and the most whatever its size


class Transposed(NamedTuple):
    """A transposed convolution.

    Attributes:
      kernel: side of its window.
      stride: rows that the output has for one of the input, and columns.
      padding: as of the convolution that it transposes.
      channels: of its output.
      size: rows and columns of its output; more of them are cut off, evenly.
    """

    kernel: int
    stride: tuple[int, int]
    padding: int
    channels: int
    size: tuple[int, int]


def plan(feature_shape: Sequence[int], image_shape: Sequence[int]) -> list[Transposed]:
    """The layers from features `(h, w, c)` to images `(H, W, C)`.

    Features that have more rows or columns than the image need be reduced to its size before.
    """
    sides = list(zip(feature_shape[:2], image_shape[:2], strict=True))
    doublings = (image_shape[0] // feature_shape[0]).bit_length() - 1
    # An axis of one place has nothing to grow.
    if all(image in (1, side << max(doublings, 0)) for side, image in sides):
        kernel, padding = 3, 1
        ways = [
            [(2, side << number) if image > 1 else (1, 1) for number in range(1, doublings + 1)]
            + [(1, image)]
            for side, image in sides
        ]
    else:
        kernel, padding = 5, 0
        ways = [_backwards(side, image) for side, image in sides]
        longest = max(map(len, ways))
        # Where one side needs fewer layers, layers that keep its size come first.
        ways = [
            [(1, side)] * (longest - len(way)) + way
            for way, (side, _) in zip(ways, sides, strict=True)
        ]
    hidden, channels = len(ways[0]) - 1, feature_shape[2]
    # Hidden layers keep the channels; the last of them has half.
    widths = [channels] * max(hidden - 1, 0) + [max(channels // 2, 1)] * min(hidden, 1)
    widths.append(image_shape[2])
    return [
        Transposed(kernel, (row[0], column[0]), padding, width, size)
        for number, (row, column, wanted) in enumerate(zip(*ways, widths, strict=True))
        for size in [(row[1], column[1])]
        for width in [_bounded(wanted, size) if number < hidden else wanted]
    ]


def _bounded(channels: int, size: tuple[int, int]) -> int:
    """Returns fewer channels where a layer of this size would have too many values."""
    fewest, most = _CHANNELS
    return min(channels, most, max(_MOST_HIDDEN // math.prod(size), fewest))


def _backwards(side: int, image: int) -> list[tuple[int, int]]:
    """Strides and output sizes of 5 x 5 layers that lead from `side` to `image`, in order."""
    way: list[tuple[int, int]] = []
    while image > side:
        half = -(-(image - 4) // 2)
        stride, before = (2, half) if half >= side else (1, max(side, image - 4))
        way.insert(0, (stride, image))
        image = before
    return way or [(1, image)]


class Decoder(nn.Module):
    """A map from features to images, as `plan` lays it out.

    Attributes:
      image_shape: `(H, W, C)` of what it returns.
    """

    image_shape: tuple[int, int, int]

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps features `[B, h, w, c]`, `[B, T, d]` or `[B, M]` to `[B, H, W, C]`."""
        xavier, zeros = nn.initializers.glorot_uniform(), nn.initializers.zeros
        height, width, _ = self.image_shape
        if x.ndim == 3:
            before, sides = grids.of_tokens(x.shape[1], self.image_shape)
            x = x if sides is None else x[:, before:].reshape(len(x), *sides, -1)
        if x.ndim != 4:
            sides = (-(-height // _DENSE_SHARE), -(-width // _DENSE_SHARE))
            values = math.prod(x.shape[1:])
            sides, channels = grids.seeds(values, sides, _DENSE_CHANNELS, deeper=False)
            grid = (*sides, channels)
            x = nn.Dense(math.prod(grid), kernel_init=xavier)(x.reshape(len(x), -1))
            x = nn.relu(x).reshape(len(x), *grid)
        if x.shape[1] > height or x.shape[2] > width:
            size = (min(x.shape[1], height), min(x.shape[2], width))
            x = jax.image.resize(x, (len(x), *size, x.shape[3]), "linear")
        layers = plan(x.shape[1:], self.image_shape)
        for number, layer in enumerate(layers):
            x = nn.relu(x) if number else x
            shape = (layer.kernel, layer.kernel, x.shape[3], layer.channels)
            kernel = self.param(f"kernel{number}", xavier, shape, jnp.float32)
            bias = self.param(f"bias{number}", zeros, layer.channels, jnp.float32)
            x = transposed_convolution(x, kernel, layer.stride, layer.padding)
            x = _cut(x, layer.size) + bias[None, None, None]
        return x


def transposed_convolution(x: Array, kernel: Array, stride: tuple[int, int], padding: int) -> Array:
    """A transposed convolution, as PyTorch's with `output_padding = stride - 1`.

    Args:
      x: `[B, h, w, c]`.
      kernel: `[k, k, c, C]`; not flipped.
      stride: rows, and columns, of the output for one of the input.
      padding: zeros around the input of the convolution that this one transposes.

    Returns:
      `[B, stride h + k - 1 - 2 padding, ..., C]`.
    """
    pad = kernel.shape[0] - 1 - padding
    pads = [(pad, pad + step - 1) for step in stride]
    return convolve_dilated(x, kernel, pads, (1, 1), stride, (1, 1), 1)


def _cut(x: Array, size: tuple[int, int]) -> Array:
    """The middle of `[B, h, w, c]`."""
    top, left = ((have - want) // 2 for have, want in zip(x.shape[1:3], size, strict=True))
    return x[:, top : top + size[0], left : left + size[1]]
