"""Constants and all that follows from them, computed once by ONNX's reference. NumPy."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx.reference.ops import load_op

from jaxinv.errors import UserError
from jaxinv.networks.onnx.faults import naming
from jaxinv.networks.onnx.graph import Graph, Node

_LARGEST = 2**28  # numbers in one constant
_FILLING = ("ConstantOfShape", "Expand", "Tile", "Range", "Pad", "Resize", "Upsample", "EyeLike")
_RANDOM = ("Random", "Bernoulli", "Multinomial")


def folded(graph: Graph) -> Graph:
    """Returns a graph without the nodes that depend on constants alone.

    Raises:
      UserError: one of them cannot be evaluated.
    """
    constants, left = dict(graph.constants), []
    for node in graph.nodes:
        if graph.input.name in node.inputs or not all(
            name in constants for name in node.inputs if name
        ):
            left.append(node)
            continue
        constants.update(evaluated(node, [constants.get(name) for name in node.inputs]))
    return dataclasses.replace(graph, nodes=tuple(left), constants=constants)


def evaluated(node: Node, given: Sequence[np.ndarray | None]) -> dict[str, np.ndarray]:
    """Returns name -> value of the outputs of a node.

    Raises:
      UserError: it is random, asks for more memory than any network, or fails.
    """
    with naming(f"node {node.name} ({node.operator})"), np.errstate(all="ignore"):
        if node.operator.startswith(_RANDOM):
            raise UserError("it is random: export the network in evaluation.")
        if node.operator in _FILLING:
            _check_size(node.operator, given)
        found = _implementation(node).run(*given)
        values = [np.asarray(value) for value in found]
        return {name: value for name, value in zip(node.outputs, values, strict=False) if name}


def _check_size(name: str, given: Sequence[Any]) -> None:
    """Refuses constants of a size that no network has, before they are made."""
    last = np.asarray(given[min(1, len(given) - 1)], float)
    if name == "Range":
        start, limit, step = (float(each) for each in given)
        size = (limit - start) / step if step else math.inf
    elif name in ("ConstantOfShape", "Expand"):
        size = float(np.prod(last))
    else:
        size = np.size(given[0]) * float(np.prod(np.maximum(np.abs(last), 1)))
    if not size <= _LARGEST:
        raise UserError(f"it makes {size:.3g} numbers.")


def _implementation(node: Node) -> Any:
    domain, _, kind = node.operator.rpartition(".")
    settings = {
        "log": _ignore,
        "opsets": {domain: node.opset},
        "verbose": 0,
        "evaluator_cls": None,
        "new_ops": None,
    }
    return _class(domain, kind, node.opset)(node.proto, settings)


@functools.cache
def _class(domain: str, kind: str, opset: int) -> Any:
    try:
        return load_op(domain, kind, opset)
    except Exception as error:
        raise UserError(f"this operator is not known in opset {opset}.") from error


def _ignore(*args: Any, **kwargs: Any) -> None:
    pass
