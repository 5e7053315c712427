"""Networks over series and tables. JAX."""

import flax.linen as nn

from jaxinv.errors import UsageError
from jaxinv.networks.layers import LayerLike, max_pool, sequence
from jaxinv.networks.network import Network
from jaxinv.networks.zoo.blocks import Constants, builder

_CONSTANTS: Constants = {"mean": (0.5,), "std": (0.25,)}  # of columns that fill unit space
_WINDOW = 5  # steps


@builder(1, 1, 30)
def mlp(input_shape: tuple[int, ...], num_classes: int) -> Network:
    """Builds three dense layers (64 and 32 hidden values) over all values of an input."""
    layers: list[tuple[str, LayerLike]] = [
        ("fc1", nn.DenseGeneral(64, axis=(-3, -2, -1))),
        ("relu1", nn.relu),
        ("fc2", nn.Dense(32)),
        ("relu2", nn.relu),
        ("fc3", nn.Dense(num_classes)),
    ]
    return sequence(layers, input_shape, **_CONSTANTS)


@builder(128, 1, 1, least=1)
def conv1d(input_shape: tuple[int, ...], num_classes: int) -> Network:
    """Builds two convolutions in time (5 steps, same), each pooled by two, and two dense layers."""
    if input_shape[1] != 1 or input_shape[0] < 4:
        raise UsageError(
            f"network=conv1d: takes series of at least 4 steps, [T, 1, C], not {list(input_shape)}."
        )
    layers: list[tuple[str, LayerLike]] = [
        ("conv1", nn.Conv(16, (_WINDOW, 1), kernel_init=nn.initializers.he_normal())),
        ("relu1", nn.relu),
        ("pool1", max_pool),
        ("conv2", nn.Conv(32, (_WINDOW, 1), kernel_init=nn.initializers.he_normal())),
        ("relu2", nn.relu),
        ("pool2", max_pool),
        ("fc1", nn.DenseGeneral(64, axis=(-3, -2, -1))),
        ("relu3", nn.relu),
        ("fc2", nn.Dense(num_classes)),
    ]
    return sequence(layers, input_shape, **_CONSTANTS)
