"""The paper's two target networks (He, Zhang & Lee 2021, Table II), for images of any size. JAX."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxinv.networks.layers import LayerLike, max_pool, sequence
from jaxinv.networks.network import Network
from jaxinv.networks.zoo.blocks import builder, constants


def _dense(features: int, **options: Any) -> nn.Module:
    """A fully connected layer over all of an image's features, `[N, H, W, C] -> [N, features]`."""
    return nn.DenseGeneral(features, axis=(-3, -2, -1), **options)


def _uniform(fan_in: int) -> dict[str, Any]:
    """Kernel and bias uniform within 1/sqrt(fan_in), which is what PyTorch starts from.

    The authors' network started there. It matters to the attack: an optimiser's eps is absolute, so
    the size of the trained weights sets how far their settings converge; and with biases of zero a
    constant image has no gradient behind the rectifiers.
    """

    def init(key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -(fan_in**-0.5), fan_in**-0.5)

    return {"kernel_init": init, "bias_init": init}


@builder(28, 28, 1, least=16)
def lenet5(input_shape: tuple[int, ...], num_classes: int) -> Network:
    """Builds LeNet-5: two convolutions (5 x 5, valid), three dense layers."""
    height, width = (((side - 4) // 2 - 4) // 2 for side in input_shape[:2])
    layers: list[tuple[str, LayerLike]] = [
        ("conv1", nn.Conv(8, (5, 5), padding="VALID", **_uniform(25 * input_shape[-1]))),
        ("relu1", nn.relu),
        ("pool1", max_pool),
        ("conv2", nn.Conv(16, (5, 5), padding="VALID", **_uniform(200))),
        ("relu2", nn.relu),
        ("pool2", max_pool),
        ("fc1", _dense(120, **_uniform(16 * height * width))),
        ("relu3", nn.relu),
        ("fc2", nn.Dense(84, **_uniform(120))),
        ("relu4", nn.relu),
        ("fc3", nn.Dense(num_classes, **_uniform(84))),
    ]
    return sequence(layers, input_shape, mean=(0.5,), std=(0.5,))


@builder(32, 32, 3, least=8)
def cifar_cnn(input_shape: tuple[int, ...], num_classes: int) -> Network:
    """Builds six convolutions (3 x 3, same) and two dense layers."""
    layers: list[tuple[str, LayerLike]] = []
    for block, filters in enumerate((64, 128, 128), start=1):
        for i in (1, 2):
            layers += [
                (
                    f"conv{block}{i}",
                    nn.Conv(filters, (3, 3), kernel_init=nn.initializers.he_normal()),
                ),
                (f"relu{block}{i}", nn.relu),
            ]
        layers.append((f"pool{block}", max_pool))
    layers += [
        ("fc1", _dense(512)),
        ("sigmoid1", nn.sigmoid),
        ("fc2", nn.Dense(num_classes)),
    ]
    return sequence(layers, input_shape, **constants(input_shape))
