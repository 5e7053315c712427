"""Vision transformers (Dosovitskiy et al. 2021) that classify by the mean of their tokens. JAX."""

from typing import NamedTuple

import flax.linen as nn
from jax import Array

from jaxinv.networks.layers import LayerLike, sequence
from jaxinv.networks.network import Network
from jaxinv.networks.zoo.blocks import builder, constants, is_small, mean_over_places


class Sizes(NamedTuple):
    """Sizes of a transformer.

    Attributes:
      patches: about so many along the longer side of an image.
      blocks: number of blocks.
      width: of a token.
      heads: of attention.
      inside: width of the dense layers inside a block, for each of a token's.
    """

    patches: int
    blocks: int
    width: int
    heads: int
    inside: int


_SMALL, _TINY = Sizes(8, 6, 128, 4, 2), Sizes(14, 12, 192, 3, 4)


class Patches(nn.Module):
    """Tokens of an image: an affine map of each patch, and the patch's own offset.

    An image that patches do not divide is first padded with zeros, alike on both sides.

    Attributes:
      side: of a patch, in pixels.
      width: of a token.
    """

    side: int
    width: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps `[N, H, W, C]` to `[N, ceil(H / side) * ceil(W / side), width]`."""
        window = (self.side, self.side)
        x = nn.Conv(self.width, window, strides=window, padding="SAME", name="embed")(x)
        x = x.reshape(len(x), -1, self.width)
        offsets = self.param("offsets", nn.initializers.normal(0.02), (1, *x.shape[1:]))
        return x + offsets


class Block(nn.Module):
    """Attention among tokens, then two dense layers on each; both are added to the identity.

    Attributes:
      heads: of attention.
      inside: width between the dense layers.
    """

    heads: int
    inside: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps `[N, T, width]` to the same shape."""
        y = nn.LayerNorm(name="norm1")(x)
        x = x + nn.MultiHeadDotProductAttention(self.heads, name="attention")(y)
        y = nn.Dense(self.inside, name="fc1")(nn.LayerNorm(name="norm2")(x))
        return x + nn.Dense(x.shape[-1], name="fc2")(nn.gelu(y))


def _sizes(input_shape: tuple[int, ...]) -> Sizes:
    return _SMALL if is_small(input_shape) else _TINY


def patches(input_shape: tuple[int, ...]) -> Patches:
    """Returns the first layer for images of a shape, `(H, W, C)`."""
    sizes = _sizes(input_shape)
    return Patches(max(1, round(max(input_shape[:2]) / sizes.patches)), sizes.width)


@builder(224, 224, 3)
def vit_tiny(input_shape: tuple[int, ...], num_classes: int) -> Network:
    """Builds a small vision transformer, without class token and dropout.

    Images of up to 64 pixels a side have about 8 x 8 tokens (patches of 4 x 4 pixels at 32 x 32)
    of 128 numbers and 6 blocks. Larger ones have the sizes of ViT-Tiny: about 14 x 14 tokens
    (patches of 16 x 16 pixels at 224 x 224) of 192 numbers and 12 blocks.
    """
    sizes = _sizes(input_shape)
    layers: list[tuple[str, LayerLike]] = [("stem", patches(input_shape))]
    for block in range(1, sizes.blocks + 1):
        layers.append((f"block{block}", Block(sizes.heads, sizes.inside * sizes.width)))
    layers += [
        ("norm", nn.LayerNorm()),
        ("pool", mean_over_places),
        ("head", nn.Dense(num_classes)),
    ]
    return sequence(layers, input_shape, **constants(input_shape))
