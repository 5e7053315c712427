"""A comparison of imported networks with onnxruntime, where that is installed. JAX."""

import dataclasses
import importlib.util
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from jaxinv.errors import UserError
from jaxinv.networks.network import Network, Params
from jaxinv.networks.onnx import reading
from jaxinv.networks.onnx.layout import order_of


def difference(
    path: Path, network: Network, params: Params, output: str | None = None
) -> float | None:
    """Returns the largest difference from onnxruntime's output on a random batch, beside its size.

    Args:
      path: of the file.
      network: made of it; preprocessing that was added to it is left out.
      params: of the network.
      output: that was chosen, as for `from_onnx`.

    Returns:
      None where onnxruntime is not installed, or does not give this output.

    Raises:
      UserError: onnxruntime does not run the file.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    graph = reading.read(path, output)
    size, shape = graph.input.batch, graph.input.shape
    x = np.random.default_rng(0).random((size, *shape)).astype(graph.input.dtype)
    wanted = _of_runtime(path, graph.input.name, graph.output, x)
    if wanted is None:
        return None
    plain = dataclasses.replace(network, mean=None, std=None)
    images = jnp.asarray(x.transpose(order_of(graph)), jnp.float32)
    found = np.asarray(plain.apply(params, images), np.float64)
    apart = np.abs(found.reshape(wanted.shape) - wanted).max(initial=0)
    return float(apart / (np.abs(wanted).max(initial=0) or 1))


def _of_runtime(path: Path, entry: str, output: str, x: np.ndarray) -> np.ndarray | None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        if output not in [each.name for each in session.get_outputs()]:
            return None  # the array in a map from classes to scores
        return np.asarray(session.run([output], {entry: x})[0], np.float64)
    except Exception as error:  # it raises many kinds
        why = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: onnxruntime does not run it: {why}") from error
