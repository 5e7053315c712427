"""Parts that networks of the zoo share: builders, convolutions with BatchNorm, averages. JAX."""

import functools
from collections.abc import Callable, Sequence

import flax.linen as nn
from jax import Array

from jaxinv.errors import UsageError
from jaxinv.networks import arguments
from jaxinv.networks.network import Network
from jaxinv.networks.statistics import STATISTICS

Build = Callable[..., Network]
Constants = dict[str, tuple[float, ...]]

SMALL = 64
"""Pixels of the longer side up to which images are small: their first layers keep every pixel."""

_COLOUR: Constants = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}  # of ImageNet
_OTHER: Constants = {"mean": (0.5,), "std": (0.5,)}


def builder(*usual: int, least: int = 1) -> Callable[[Callable[..., Network]], Build]:
    """Makes a builder of a network: `(input_shape=usual, num_classes=10) -> Network`.

    The same network is returned each time, for programs are kept for it. A builder raises
    UsageError where images are no `(H, W, C)`, or a side is smaller than `least`.

    Args:
      usual: shape of one image that the network was made for.
      least: pixels of the shorter side.
    """

    def decorate(build: Callable[[tuple[int, ...], int], Network]) -> Build:
        known = functools.cache(build)

        @functools.wraps(build)
        def checked(input_shape: Sequence[int] = usual, num_classes: int = 10) -> Network:
            shape = arguments.check_shape(input_shape)
            if len(shape) != 3 or min(shape[:2]) < least:
                raise UsageError(
                    f"network={build.__name__}: takes images [H, W, C] of at least {least} x "
                    f"{least} pixels, not {list(shape)}."
                )
            return known(shape, int(num_classes))

        return checked

    return decorate


def constants(input_shape: Sequence[int]) -> Constants:
    """Returns mean and std for images of a shape: of photographs in colour, else 0.5."""
    return _COLOUR if input_shape[-1] == 3 else _OTHER


def is_small(input_shape: Sequence[int]) -> bool:
    """Returns whether images are small."""
    return max(input_shape[:2]) <= SMALL


class ConvNorm(nn.Module):
    """A convolution and BatchNorm: affine in evaluation.

    BatchNorm normalises by its batch where its statistics may change, and these become those of the
    batch: so it is trained. Padding is alike on both sides, as in PyTorch, so that strided layers
    sample the same pixels.

    Attributes:
      features: output channels.
      window: side of the kernel.
      stride: between its places.
      groups: of channels that are convolved apart.
      bias: whether the convolution has one.
    """

    features: int
    window: int = 3
    stride: int = 1
    groups: int = 1
    bias: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps `[N, H, W, C]` to `[N, ceil(H / stride), ceil(W / stride), features]`."""
        conv = nn.Conv(
            self.features,
            (self.window, self.window),
            strides=self.stride,
            padding=self.window // 2,
            feature_group_count=self.groups,
            use_bias=self.bias,
            kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
            name="conv",
        )
        norm = nn.BatchNorm(
            use_running_average=not self.is_mutable_collection(STATISTICS),
            momentum=0.0,
            epsilon=1e-5,
            name="norm",
        )
        return norm(conv(x))


def mean_over_places(x: Array) -> Array:
    """Computes the mean over the places of a map or of tokens, `[N, ..., C] -> [N, C]`."""
    return x.mean(range(1, x.ndim - 1))


def max_pool_3(x: Array) -> Array:
    """Takes the maximum over windows of 3 x 3 at every second pixel, as stems for photographs."""
    return nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
