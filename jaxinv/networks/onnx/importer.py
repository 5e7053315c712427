"""Networks out of ONNX files. JAX."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxinv.errors import UsageError, UserError
from jaxinv.networks import modules
from jaxinv.networks.network import Network, Params
from jaxinv.networks.onnx import parameters, reading
from jaxinv.networks.onnx.evaluation import Evaluation
from jaxinv.networks.onnx.faults import naming
from jaxinv.networks.onnx.folding import folded
from jaxinv.networks.onnx.graph import Graph
from jaxinv.networks.onnx.layout import order_of
from jaxinv.networks.onnx.operators import OPERATORS

_QUANTISED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
_TOLERANCE = 1e-3  # of outputs, beside their size, which rounding may change in another batch
_CONTROL = ("If", "Loop", "Scan")


def network(
    path_or_model: Any, mean: Any, std: Any, output: str | None
) -> tuple[Network, Params, Graph]:
    """Makes a network of a file or a model; see `from_onnx`. The graph is as it was read."""
    name = reading.name_of(path_or_model)
    try:
        with naming(name):
            graph = reading.read(path_or_model, output)
            return (*_network(graph, mean, std), graph)
    except UserError as error:
        if isinstance(error.__cause__, UsageError):
            raise error.__cause__ from None
        raise


def _network(graph: Graph, mean: Any, std: Any) -> tuple[Network, Params]:
    graph = parameters.with_folded_normalization(folded(graph))
    _check_operators(graph)
    found = parameters.parameters(graph)
    params, own = parameters.nested(found, _as_float), parameters.places(found)
    graph = parameters.without_weights(graph, found)
    evaluation = Evaluation(graph, own, order_of(graph))
    evaluation.look(params)
    shape = tuple(graph.input.shape[axis - 1] for axis in evaluation.order[1:])
    made = modules.from_function(evaluation, params, shape, mean=mean, std=std)
    if evaluation.guessed:
        _compare_with_file(evaluation, params, shape)
    return made


def _compare_with_file(evaluation: Evaluation, params: Params, shape: tuple[int, ...]) -> None:
    """Refuses a network that computes otherwise in a batch than the file in its own."""
    size = evaluation.graph.input.batch
    x = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    together = np.asarray(jax.jit(evaluation)(params, np.repeat(x, size, axis=0)), float)
    alone = jax.jit(evaluation.as_written)
    for number, example in enumerate(x):
        wanted = np.asarray(alone(params, np.repeat(example[None], size, axis=0)), float)
        found = together[number * size : (number + 1) * size]
        if not np.allclose(found, wanted, 0, _TOLERANCE * np.abs(wanted).max(initial=1e-6)):
            names = ", ".join(sorted(evaluation.guessed)[:3])
            raise UserError(
                f"written for a batch of {size}, it computes otherwise in another (reshapes to "
                f"{names}): export it with a batch that is left open."
            )


def _as_float(array: np.ndarray) -> Any:
    return jnp.asarray(array, jnp.result_type(float) if array.dtype == np.float64 else None)


def _check_operators(graph: Graph) -> None:
    """Refuses operators that are not known, all of them at once."""
    dependent = parameters.tensors(graph)
    unknown: dict[str, list[str]] = {}
    for node in graph.nodes:
        if node.operator not in OPERATORS and not dependent.isdisjoint(node.inputs):
            unknown.setdefault(node.operator, []).append(node.name)
    if not unknown:
        return
    spelled = ", ".join(
        f"{kind} (node {nodes[0]}{f' and {len(nodes) - 1} more' if nodes[1:] else ''})"
        for kind, nodes in sorted(unknown.items())
    )
    why = ""
    if any(kind in _QUANTISED or "Integer" in kind or "QLinear" in kind for kind in unknown):
        why = ": it is quantised, export the network in floats"
    elif not unknown.keys().isdisjoint(_CONTROL):
        why = ": it has control flow, export it with fixed branches"
    raise UserError(f"operators that are not supported: {spelled}{why}.")
