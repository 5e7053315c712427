"""Networks by name; the paper's two (He, Zhang & Lee 2021, Table II) by image shape, too. JAX."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxinv.errors import UsageError, UserError
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


class Entry(NamedTuple):
    """A network on the list.

    Attributes:
      build: `(input_shape, num_classes) -> Network`.
      input_shape: that it usually takes, `(H, W, C)`.
      takes_any: whether it can be built for images of another shape.
    """

    build: Callable[[tuple[int, ...], int], Network]
    input_shape: tuple[int, ...]
    takes_any: bool = False


ENTRIES: dict[str, Entry] = {
    "lenet5": Entry(lambda shape, classes: lenet5(classes), (28, 28, 1)),
    "cifar_cnn": Entry(lambda shape, classes: cifar_cnn(classes), (32, 32, 3)),
}
"""Every network that a name spells. The paper's come first: they are found by image shape, too."""

_PAPER = ("lenet5", "cifar_cnn")


def build(
    name: str, input_shape: tuple[int, ...] | None = None, num_classes: int | None = None
) -> Network:
    """Builds a network of the zoo.

    Args:
      name: a key of `ENTRIES`.
      input_shape: of one image, `(H, W, C)`; by default the one that it usually takes.
      num_classes: number of logits, 10 by default.

    Raises:
      UsageError: there is no such network, or it takes images of another shape.
    """
    if name not in ENTRIES:
        raise UsageError(f"network={name}: expected one of {', '.join(ENTRIES)}.")
    entry = ENTRIES[name]
    shape = entry.input_shape if input_shape is None else tuple(input_shape)
    if shape != entry.input_shape and not entry.takes_any:
        raise UsageError(
            f"network={name}: takes images of {_spelled(entry.input_shape)}, not of "
            f"{_spelled(shape)}."
        )
    return entry.build(shape, 10 if num_classes is None else num_classes)


def name_for(image_shape: tuple[int, ...]) -> str:
    """Returns the name of the paper's network that takes images of this shape, `(H, W, C)`.

    Raises:
      UserError: none does.
    """
    for name in _PAPER:
        if ENTRIES[name].input_shape == tuple(image_shape):
            return name
    known = " or ".join(_spelled(ENTRIES[name].input_shape) for name in _PAPER)
    raise UserError(
        f"no built-in network takes images of shape {_spelled(image_shape)}; known are {known} "
        "(a network of your own: see the README)."
    )


def for_images(image_shape: tuple[int, ...], num_classes: int) -> Network:
    """Builds the network of the paper that takes images of this shape, `(H, W, C)`.

    Raises:
      UserError: none does.
    """
    return build(name_for(image_shape), image_shape, num_classes)


def _spelled(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
