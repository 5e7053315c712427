"""The paper's two target networks (He, Zhang & Lee 2021, Table II), chosen by image shape. JAX."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxinv.errors import UserError
from jaxinv.networks.layers import max_pool, sequence
from jaxinv.networks.network import Network


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


@functools.cache
def lenet5(num_classes: int = 10) -> Network:
    """LeNet-5 for 28 x 28 grey images: two convolutions (5 x 5, valid), three dense layers."""
    layers: list = [
        ("conv1", nn.Conv(8, (5, 5), padding="VALID", **_uniform(25))),
        ("relu1", nn.relu),
        ("pool1", max_pool),
        ("conv2", nn.Conv(16, (5, 5), padding="VALID", **_uniform(200))),
        ("relu2", nn.relu),
        ("pool2", max_pool),
        ("fc1", _dense(120, **_uniform(256))),
        ("relu3", nn.relu),
        ("fc2", nn.Dense(84, **_uniform(120))),
        ("relu4", nn.relu),
        ("fc3", nn.Dense(num_classes, **_uniform(84))),
    ]
    return sequence(layers, (28, 28, 1), mean=(0.5,), std=(0.5,))


@functools.cache
def cifar_cnn(num_classes: int = 10) -> Network:
    """Six convolutions (3 x 3, same) and two dense layers, for 32 x 32 colour images."""
    layers: list = []
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
    return sequence(layers, (32, 32, 3), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def for_images(image_shape: tuple[int, ...], num_classes: int) -> Network:
    """The network of the paper that takes images of this shape, `(H, W, C)`.

    Raises:
      UserError: none does.
    """
    builders: dict[tuple[int, ...], Callable[[int], Network]] = {
        (28, 28, 1): lenet5,
        (32, 32, 3): cifar_cnn,
    }
    if tuple(image_shape) not in builders:
        known = " or ".join("x".join(map(str, shape)) for shape in builders)
        raise UserError(
            f"no built-in network takes images of shape {'x'.join(map(str, image_shape))}; "
            f"known are {known} (a network of your own: see the README)."
        )
    return builders[tuple(image_shape)](num_classes)
