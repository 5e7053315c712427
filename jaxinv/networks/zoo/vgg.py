"""VGG networks (Simonyan & Zisserman 2015) with BatchNorm. JAX."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxinv.networks.layers import LayerLike, max_pool, sequence
from jaxinv.networks.network import Network
from jaxinv.networks.zoo.blocks import (
    ConvNorm,
    builder,
    constants,
    is_small,
    mean_over_places,
)

_STAGES = ((64,), (128,), (256, 256), (512, 512), (512, 512))  # channels of the convolutions
_GRID, _WIDTH = 7, 4096  # of the dense layers for photographs


@builder(224, 224, 3)
def vgg11(input_shape: tuple[int, ...], num_classes: int) -> Network:
    """Builds VGG-11 with BatchNorm: eight convolutions, and dense layers behind five poolings.

    For images of up to 64 pixels a side one dense layer reads the mean of each channel (9.2 M
    parameters), and what is a pixel wide is not pooled; larger ones have the three dense layers of
    the paper, without its dropout (132.9 M parameters).
    """
    layers: list[tuple[str, LayerLike]] = []
    number, side = 0, min(input_shape[:2])
    for stage, widths in enumerate(_STAGES, start=1):
        for width in widths:
            number += 1
            layers += [(f"conv{number}", ConvNorm(width, bias=True)), (f"relu{number}", nn.relu)]
        if side > 1:
            layers.append((f"pool{stage}", max_pool))
            side //= 2
    layers += [("pool", mean_over_places)] if is_small(input_shape) else _dense_layers()
    layers.append(("head", nn.Dense(num_classes)))
    return sequence(layers, input_shape, **constants(input_shape))


def _dense_layers() -> list[tuple[str, LayerLike]]:
    return [
        ("grid", mean_on_grid),
        ("fc1", nn.DenseGeneral(_WIDTH, axis=(-3, -2, -1))),
        ("fc1.relu", nn.relu),
        ("fc2", nn.Dense(_WIDTH)),
        ("fc2.relu", nn.relu),
    ]


def mean_on_grid(x: Array) -> Array:
    """Computes the means over the parts of a map, `[N, H, W, C] -> [N, 7, 7, C]`.

    Parts overlap where 7 does not divide a side, as in PyTorch's adaptive pooling.
    """
    rows, columns = map(_parts, x.shape[1:3])
    return jnp.einsum("ph,qw,nhwc->npqc", rows, columns, x)


def _parts(side: int) -> np.ndarray:
    """Returns the weights of each part of a side, `[7, side]`."""
    places, part = np.arange(side), np.arange(_GRID)[:, None]
    inside = (places >= part * side // _GRID) & (places < -(-(part + 1) * side // _GRID))
    return (inside / inside.sum(1, keepdims=True)).astype(np.float32)
