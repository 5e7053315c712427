"""Networks out of ONNX files."""

from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING

from jaxinv.networks.network import Network, Params

if TYPE_CHECKING:
    from onnx import ModelProto


def from_onnx(
    path_or_model: "str | PathLike[str] | ModelProto",
    *,
    mean: Sequence[float] | float | None = None,
    std: Sequence[float] | float | None = None,
    output: str | None = None,
) -> tuple[Network, Params]:
    """Makes a network of an ONNX file, of PyTorch, TensorFlow, Keras or scikit-learn.

    Images enter as `[N, H, W, C]` and series as `[N, L, C]`, whatever the file's own layout; the
    output has the file's. Of several outputs the first of floats is taken, of a classifier that
    gives a label and probabilities the latter. Any size of batch is allowed, also where the file
    was written for one. Batch normalisation becomes part of the convolution before it. Cuts are
    named after nodes.

    Args:
      path_or_model: a file, opset 9 or later, or a model that is loaded.
      mean, std: normalisation of the first step, for each channel or one for all, in unit space.
      output: name of the output that is taken, of several.

    Returns:
      The network, and its parameters: nested dictionaries, named as in the file.

    Raises:
      UserError: the file cannot be read; an operator is not supported; a shape depends on the
        input's numbers; or the network mixes the examples of a batch.
      UsageError: `path_or_model` is neither; mean and std do not fit; or there is no such output.
    """
    from jaxinv.networks.onnx import importer  # here: to import onnx takes half a second

    return importer.network(path_or_model, mean, std, output)[:2]
