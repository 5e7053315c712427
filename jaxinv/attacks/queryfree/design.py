"""Layers of a shadow edge, from the shapes of images and features. JAX."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxinv.attacks.learned import grids
from jaxinv.networks import Network, max_pool, sequence

_DENSE_SHARE, _DENSE_CHANNELS = 8, 32  # of an image's side, the grid in front of a dense layer
_MOST_CROPPED = 8  # convolutions that lose the border
_MOST_FILTERS = 256  # of a hidden layer
_HIDDEN = 64  # values of the hidden layer of a table's shadow
_MOST_HIDDEN = 2**18  # values of a hidden layer, unless 16 filters have more


def design(
    image_shape: Sequence[int],
    feature_shape: Sequence[int],
    *,
    rectified: bool,
    mean: Sequence[float],
    std: Sequence[float],
    width: int = 8,
) -> Network:
    """Designs an edge from images of one shape to features of another, by what the cloud can see.

    Convolutions of 3 x 3, pairs where the authors' target has one of 5 x 5, if the height of the
    features tells of borders that were cut off; of 5 x 5 where it is that of the image or was only
    halved, and there pairs of 3 x 3 are usual. Max-pooling where the size asks for it. At their
    cuts these are the authors' shadows. Any other size is reached by resizing the nearest of them,
    tokens by laying a grid out in a row, features without a place by a dense layer. Convolutions of
    series are in time; of a row of a table all layers are dense.

    Args:
      image_shape: `(H, W, C)`.
      feature_shape: `(h, w, c)`, `(T, d)` or `(M,)`.
      rectified: whether features are never negative.
      mean, std: per channel, of the attacker's images.
      width: filters of the first layer where borders are cut off; the authors have 8.
    """
    shape = tuple(feature_shape)
    before, sides = _token_grid(shape, image_shape)
    spatial = len(shape) == 3 or sides is not None
    grid = shape if sides is None else (*sides, shape[-1])
    normalized = partial(sequence, input_shape=image_shape, mean=mean, std=std)
    if spatial:
        layers = _to_grid(image_shape, grid, rectified, width)
        layers += [] if sides is None else [("tokens", partial(_as_tokens, before))]
        return normalized(layers)
    grid = _dense_grid(image_shape, math.prod(shape))
    if image_shape[1] > 1:
        layers = _cropped(image_shape, grid, rectified=True, width=width)
    elif image_shape[0] > 1:
        layers = _along(image_shape, max(0, int(np.log2(_DENSE_SHARE))), grid[2], rectified=True)
    else:
        layers = [("hidden", nn.Dense(_HIDDEN)), ("open", nn.relu)] if rectified else []
    # Features have no place: a dense layer makes them.
    layers += [
        ("flatten", lambda x: x.reshape(len(x), -1)),
        ("dense", nn.Dense(math.prod(shape))),
        *([("rectify", nn.relu)] if rectified else []),
        ("shape", lambda x: x.reshape(len(x), *shape)),
    ]
    return normalized(layers)


def _token_grid(
    shape: tuple[int, ...], image_shape: Sequence[int]
) -> tuple[int, tuple[int, int] | None]:
    return grids.of_tokens(shape[0], image_shape) if len(shape) == 2 else (0, None)


def _as_tokens(before: int, x: Array) -> Array:
    """Lays a grid out in a row; a token before it is the mean of all."""
    tokens = x.reshape(len(x), -1, x.shape[-1])
    first = [tokens.mean(axis=1, keepdims=True)] * before
    return jnp.concatenate([*first, tokens], axis=1)


def _dense_grid(image_shape: Sequence[int], values: int) -> tuple[int, int, int]:
    """Returns the grid in front of a dense layer to so many values."""
    sides = (-(-image_shape[0] // _DENSE_SHARE), -(-image_shape[1] // _DENSE_SHARE))
    sides, channels = grids.seeds(values, sides, _DENSE_CHANNELS, deeper=False)
    return *sides, channels


def _to_grid(
    image_shape: Sequence[int], grid: Sequence[int], rectified: bool, width: int
) -> list[tuple[str, Any]]:
    """Layers to features `(h, w, c)`."""
    height, columns, _ = image_shape
    if columns == 1:
        halvings = max(0, round(np.log2(height / grid[0])))
        layers = _along(image_shape, halvings, grid[2], rectified=rectified)
        fits = (_pooled(height, halvings), 1) == tuple(grid[:2])
        return layers if fits else [*layers, _resizing(grid)]
    ratio = height / grid[0]
    if ratio == columns / grid[1] and ratio in (1, 2, 4, 8, 16, 32):
        return _padded(image_shape, int(np.log2(ratio)), grid[2], rectified)
    layers = _cropped(image_shape, grid, rectified=rectified, width=width)
    sides = tuple(_left(side, layers) for side in (height, columns))
    return layers if layers and sides == tuple(grid[:2]) else _resized(image_shape, grid, rectified)


def _left(side: int, layers: Sequence[tuple[str, Any]]) -> int:
    """Returns what convolutions of 3 x 3 without padding, and poolings, leave of a side."""
    for name, _ in layers:
        if name.startswith("conv"):
            side -= 2
        elif name.startswith("pool"):
            side //= 2
    return side


def _resized(
    image_shape: Sequence[int], grid: Sequence[int], rectified: bool
) -> list[tuple[str, Any]]:
    """Layers to any features `(h, w, c)`: those to half the sides as often as possible, resized."""
    halvings = max(0, int(np.log2(min(image_shape[0] / grid[0], image_shape[1] / grid[1]))))

    layers = _padded(image_shape, halvings, grid[2], rectified)
    return [*layers, _resizing(grid)]


def _resizing(grid: Sequence[int]) -> tuple[str, Any]:
    return "resize", partial(_resize, (grid[0], grid[1]))


def _along(
    image_shape: Sequence[int], halvings: int, channels: int, *, rectified: bool
) -> list[tuple[str, Any]]:
    """Layers of series that keep the ends: convolutions of 5 steps between poolings in time."""
    halvings = min(halvings, int(np.log2(image_shape[0])))
    hidden = [max(16, min(16 << number, channels)) for number in range(halvings)]
    return _pooled_convolutions([*hidden, channels], (5, 1), rectified=rectified)


def _pooled_convolutions(
    filters: Sequence[int], window: tuple[int, int], *, rectified: bool
) -> list[tuple[str, Any]]:
    """Convolutions with rectifiers and poolings between them, and maybe a rectifier at the end."""
    layers: list[tuple[str, Any]] = []
    last = len(filters) - 1
    for number, count in enumerate(filters):
        layers.append((f"conv{number}", nn.Conv(count, window)))
        if number < last or rectified:
            layers.append((f"relu{number}", nn.relu))
        if number < last:
            layers.append((f"pool{number}", max_pool))
    return layers


def _pooled(side: int, halvings: int) -> int:
    for _ in range(halvings):
        side = max(1, side // 2)
    return side


def _resize(sides: tuple[int, int], x: Array) -> Array:
    """Interpolates `[B, h, w, c]` to other sides, example by example."""
    for axis, side in enumerate(sides, start=1):
        whole = jnp.eye(x.shape[axis], dtype=x.dtype)
        weights = jax.image.resize(whole, (x.shape[axis], side), "linear")
        x = jnp.moveaxis(jnp.tensordot(x, weights, (axis, 0)), -1, axis)
    return x


def _padded(
    image_shape: Sequence[int], halvings: int, channels: int, rectified: bool
) -> list[tuple[str, Any]]:
    """Layers that keep the border: 5 x 5 convolutions between poolings, or a 3 x 3 pair."""
    places = image_shape[0] * image_shape[1]
    if not halvings and not rectified:
        return [("conv0", nn.Conv(16, (3, 3))), ("conv1", nn.Conv(channels, (3, 3)))]
    hidden = [
        max(16, min(64 << number, channels, _MOST_FILTERS, _MOST_HIDDEN * 4**number // places))
        for number in range(halvings)
    ]
    return _pooled_convolutions([*hidden, channels], (5, 5), rectified=rectified)


def _cropped(
    image_shape: Sequence[int], grid: Sequence[int], *, rectified: bool, width: int
) -> list[tuple[str, Any]]:
    """Layers that lose the border: 3 x 3 convolutions, in pairs before each pooling.

    Where it takes too many of them, features are resized.
    """
    size, goal, channels = image_shape[0], grid[0], grid[2]
    filters: list[int] = []
    pools: list[int] = []
    while size > goal + 1 and size > 2:
        pooled = (size - 4) // 2
        if pooled >= goal:
            filters += [16 if filters else width, 16]
            pools.append(len(filters))
            size = pooled
        else:
            filters.append(16 if filters else width)
            size -= 2
    if len(filters) > _MOST_CROPPED:
        return _resized(image_shape, grid, rectified)
    if filters:
        filters[-1] = channels
    layers: list[tuple[str, Any]] = []
    for number, count in enumerate(filters, start=1):
        layers.append((f"conv{number}", nn.Conv(count, (3, 3), padding="VALID")))
        if number in pools or (number == len(filters) and rectified):
            layers.append((f"relu{number}", nn.relu))
        if number in pools:
            layers.append((f"pool{number}", max_pool))
    return layers
