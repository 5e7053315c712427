"""Networks by name, for inputs of any size; the usual ones by their shape, too. JAX."""

from collections.abc import Sequence

from jaxinv.constants import kinds
from jaxinv.errors import UsageError, UserError
from jaxinv.networks.network import Network
from jaxinv.networks.zoo.blocks import Build
from jaxinv.networks.zoo.mobilenet import mobilenet_v2
from jaxinv.networks.zoo.paper import cifar_cnn, lenet5
from jaxinv.networks.zoo.residual import resnet20
from jaxinv.networks.zoo.transformer import vit_tiny
from jaxinv.networks.zoo.vectors import conv1d, mlp
from jaxinv.networks.zoo.vgg import vgg11

ENTRIES: dict[str, Build] = {
    "lenet5": lenet5,
    "cifar_cnn": cifar_cnn,
    "resnet20": resnet20,
    "vgg11": vgg11,
    "mobilenet_v2": mobilenet_v2,
    "vit_tiny": vit_tiny,
    "mlp": mlp,
    "conv1d": conv1d,
}
"""Name -> builder, `(input_shape, num_classes) -> Network`, each with a usual shape by default."""

_OF_THE_PAPER: dict[tuple[int, ...], str] = {(28, 28, 1): "lenet5", (32, 32, 3): "cifar_cnn"}
_OF_VECTORS = {kinds.TABLE: "mlp", kinds.SERIES: "conv1d"}


def build(
    name: str, input_shape: Sequence[int] | None = None, num_classes: int | None = None
) -> Network:
    """Builds a network of the zoo; the same one each time.

    Args:
      name: a key of `ENTRIES`.
      input_shape: of one image, `(H, W, C)`; by default the one that it usually takes.
      num_classes: number of logits; 10 by default, and for images without labels (0).

    Raises:
      UsageError: there is no such network, or its images must be larger.
    """
    if name not in ENTRIES:
        raise UsageError(f"network={name}: expected one of {', '.join(ENTRIES)}.")
    given = {"input_shape": input_shape, "num_classes": num_classes}
    return ENTRIES[name](**{key: value for key, value in given.items() if value})


def name_for(image_shape: Sequence[int]) -> str:
    """Returns the name of the usual network for inputs of this shape, `(H, W, C)`.

    It is the paper's for its images, `mlp` for rows of a table and `conv1d` for series.

    Raises:
      UserError: there is none.
    """
    kind = kinds.of(image_shape)
    if kind in _OF_VECTORS:
        return _OF_VECTORS[kind]
    if tuple(image_shape) not in _OF_THE_PAPER:
        known = " or ".join(map(_spelled, _OF_THE_PAPER))
        raise UserError(
            f"no network is the usual one for images of shape {_spelled(image_shape)}; known are "
            f"{known}: name one with network={'|'.join(ENTRIES)}, or your own."
        )
    return _OF_THE_PAPER[tuple(image_shape)]


def for_images(image_shape: Sequence[int], num_classes: int) -> Network:
    """Builds the usual network for inputs of this shape, `(H, W, C)`; see `name_for`."""
    return build(name_for(image_shape), image_shape, num_classes)


def _spelled(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
