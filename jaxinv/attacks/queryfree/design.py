"""Layers of a shadow edge, from the shapes of images and features. JAX."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import numpy as np

from jaxinv.networks import Network, max_pool, sequence


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
    halved, and there pairs of 3 x 3 are usual. Max-pooling where the size asks for it, a dense
    layer where features have no place. At their cuts these are the authors' shadows.

    Args:
      image_shape: `(H, W, C)`.
      feature_shape: `(h, w, c)` or `(M,)`.
      rectified: whether features are never negative.
      mean, std: per channel, of the attacker's images.
      width: filters of the first layer where borders are cut off; the authors have 8.
    """
    height, columns, _ = image_shape
    spatial = len(feature_shape) == 3
    goal = feature_shape[0] if spatial else -(-height // 8)
    channels = feature_shape[-1] if spatial else 32
    ratio = height / goal
    if spatial and ratio == columns / feature_shape[1] and ratio in (1, 2, 4, 8, 16, 32):
        layers = _padded(int(np.log2(ratio)), channels, rectified)
    else:
        layers = _cropped(height, goal, channels, rectified or not spatial, width)
    network = sequence(layers, image_shape, mean=mean, std=std)
    if network.output_shape == tuple(feature_shape):
        return network
    # Any other shape is reached by a dense layer.
    layers += [
        ("flatten", lambda x: x.reshape(len(x), -1)),
        ("dense", nn.Dense(int(np.prod(feature_shape)))),
        *([("rectify", nn.relu)] if rectified else []),
        ("shape", lambda x: x.reshape(len(x), *feature_shape)),
    ]
    return sequence(layers, image_shape, mean=mean, std=std)


def _padded(halvings: int, channels: int, rectified: bool) -> list[tuple[str, Any]]:
    """Layers that keep the border: 5 x 5 convolutions between poolings, or a 3 x 3 pair."""
    if not halvings and not rectified:
        return [("conv0", nn.Conv(16, (3, 3))), ("conv1", nn.Conv(channels, (3, 3)))]
    layers: list[tuple[str, Any]] = []
    for number in range(halvings + 1):
        filters = channels if number == halvings else max(16, min(64 << number, channels))
        layers.append((f"conv{number}", nn.Conv(filters, (5, 5))))
        if number < halvings or rectified:
            layers.append((f"relu{number}", nn.relu))
        if number < halvings:
            layers.append((f"pool{number}", max_pool))
    return layers


def _cropped(
    size: int, goal: int, channels: int, rectified: bool, width: int
) -> list[tuple[str, Any]]:
    """Layers that lose the border: 3 x 3 convolutions, in pairs before each pooling."""
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
