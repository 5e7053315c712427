"""MobileNet v2 (Sandler, Howard, Zhu, Zhmoginov & Chen 2018). JAX."""

import flax.linen as nn
from jax import Array

from jaxinv.networks.layers import LayerLike, sequence
from jaxinv.networks.network import Network
from jaxinv.networks.zoo.blocks import (
    ConvNorm,
    builder,
    constants,
    is_small,
    mean_over_places,
)

# Expansion, output channels, blocks, and the stride of the first of them.
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_FIRST, _LAST = 32, 1280  # channels
_KEPT = 24  # output channels of the stage that small images pass without a stride


class InvertedResidual(nn.Module):
    """A depthwise convolution between two of a pixel: wider inside, linear at its end.

    The identity is added where stride and channels allow that.

    Attributes:
      features: output channels.
      expansion: channels inside, for each of the input.
      stride: of the depthwise convolution.
    """

    features: int
    expansion: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps `[N, H, W, C]` to `[N, ceil(H / stride), ceil(W / stride), features]`."""
        inside = x.shape[-1] * self.expansion
        y = x
        if self.expansion > 1:
            y = nn.relu6(ConvNorm(inside, window=1, name="expand")(y))
        y = nn.relu6(ConvNorm(inside, stride=self.stride, groups=inside, name="depthwise")(y))
        y = ConvNorm(self.features, window=1, name="project")(y)
        return x + y if x.shape == y.shape else y


@builder(224, 224, 3)
def mobilenet_v2(input_shape: tuple[int, ...], num_classes: int) -> Network:
    """Builds MobileNet v2: 17 inverted residual blocks, 3.5 M parameters for 1,000 classes.

    For images of up to 64 pixels a side the stem and the second stage have no stride.
    """
    small = is_small(input_shape)
    layers: list[tuple[str, LayerLike]] = [
        ("stem", ConvNorm(_FIRST, stride=1 if small else 2)),
        ("stem.relu", nn.relu6),
    ]
    for expansion, width, blocks, stride in _STAGES:
        first = 1 if small and width == _KEPT else stride
        for block in range(blocks):
            own = InvertedResidual(width, expansion, 1 if block else first)
            layers.append((f"block{len(layers) - 1}", own))
    layers += [
        ("last", ConvNorm(_LAST, window=1)),
        ("last.relu", nn.relu6),
        ("pool", mean_over_places),
        ("head", nn.Dense(num_classes)),
    ]
    return sequence(layers, input_shape, **constants(input_shape))
