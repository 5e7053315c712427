"""Residual networks (He, Zhang, Ren & Sun 2016). JAX."""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxinv.networks.layers import sequence
from jaxinv.networks.network import Network
from jaxinv.networks.zoo.blocks import (
    ConvNorm,
    builder,
    constants,
    is_small,
    max_pool_3,
    mean_over_places,
)

_WIDTHS, _BLOCKS = (16, 32, 64), 3


class Residual(nn.Module):
    """Two convolutions beside the identity, and a rectifier behind their sum.

    The identity of a strided block keeps every second pixel; new channels of it are zero. It has no
    parameters (option A of the paper).

    Attributes:
      features: output channels, at least those of the input.
      stride: of the first convolution.
    """

    features: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps `[N, H, W, C]` to `[N, ceil(H / stride), ceil(W / stride), features]`."""
        y = nn.relu(ConvNorm(self.features, stride=self.stride, name="first")(x))
        y = ConvNorm(self.features, name="second")(y)
        kept = x[:, :: self.stride, :: self.stride]
        new = self.features - kept.shape[-1]
        return nn.relu(y + jnp.pad(kept, ((0, 0), (0, 0), (0, 0), (new // 2, new - new // 2))))


@builder(32, 32, 3)
def resnet20(input_shape: tuple[int, ...], num_classes: int) -> Network:
    """Builds the ResNet of 20 layers for CIFAR: three stages of three blocks, 0.27 M parameters.

    Images of more than 64 pixels a side pass a strided 7 x 7 convolution and a pooling first, as in
    the ResNets for photographs.
    """
    small = is_small(input_shape)
    stem = ConvNorm(_WIDTHS[0]) if small else ConvNorm(_WIDTHS[0], window=7, stride=2)
    layers: list = [("stem", stem), ("stem.relu", nn.relu)]
    layers += [] if small else [("stem.pool", max_pool_3)]
    for stage, width in enumerate(_WIDTHS, start=1):
        for block in range(1, _BLOCKS + 1):
            stride = 2 if stage > 1 and block == 1 else 1
            layers.append((f"stage{stage}.block{block}", Residual(width, stride)))
    layers += [("pool", mean_over_places), ("head", nn.Dense(num_classes))]
    return sequence(layers, input_shape, **constants(input_shape))
