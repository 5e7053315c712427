"""Parameters of a graph: normalisation folded into convolutions, names, orders of axes. NumPy."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxinv.errors import UserError
from jaxinv.networks.arguments import free_name
from jaxinv.networks.onnx.faults import naming
from jaxinv.networks.onnx.graph import Graph, Node
from jaxinv.networks.onnx.names import path_of
from jaxinv.networks.onnx.operators import OPERATORS
from jaxinv.networks.onnx.operators.normalizations import SCALE_AND_SHIFT
from jaxinv.networks.onnx.tensors import Order

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")  # may have parameters of one number
_FILLED = ("Expand", "Tile", "Gather", "Slice", "Concat")  # may take a parameter and shapes alone


class Place(NamedTuple):
    """Place of a parameter.

    Attributes:
      path: of it in nested dictionaries.
      order: ONNX's axis of each axis that is stored.
    """

    path: tuple[str, ...]
    order: Order


class Parameter(NamedTuple):
    """An array that may be trained.

    Attributes:
      path: of it in nested dictionaries.
      array: as it is stored.
      order: ONNX's axis of each axis of that.
    """

    path: tuple[str, ...]
    array: np.ndarray
    order: Order


# --- Batch normalisation --------------------------------------------------------------------------


def with_folded_normalization(graph: Graph) -> Graph:
    """Returns a graph whose batch normalisations are parts of convolutions, or scale and shift.

    Raises:
      UserError: one of them is in training, or depends on the input.
    """
    constants, users = dict(graph.constants), graph.users()
    makers = {name: node for node in graph.nodes for name in node.outputs}
    replaced: dict[int, Node | None] = {}
    for node in graph.nodes:
        if node.operator != "BatchNormalization":
            continue
        with naming(f"node {node.name} ({node.operator})"):
            scale, shift = _scale_and_shift(node, constants)
        before = makers.get(node.inputs[0])
        before = replaced.get(id(before), before) if before is not None else None
        is_alone = len(users[node.inputs[0]]) == 1 and node.inputs[0] != graph.output
        if before is not None and is_alone and _takes_it(before, constants):
            own = makers[node.inputs[0]]
            replaced[id(own)] = _folded(before, node, constants, users, scale, shift)
            replaced[id(node)] = None
        else:
            constants |= {f"{node.name}.scale": scale, f"{node.name}.shift": shift}
            names = (node.inputs[0], f"{node.name}.scale", f"{node.name}.shift")
            replaced[id(node)] = dataclasses.replace(
                node, operator=SCALE_AND_SHIFT, inputs=names, outputs=node.outputs[:1]
            )
    nodes = (replaced.get(id(node), node) for node in graph.nodes)
    return dataclasses.replace(
        graph, nodes=tuple(node for node in nodes if node is not None), constants=constants
    )


def _scale_and_shift(
    node: Node, constants: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    if node.attributes.get("training_mode", 0):
        raise UserError("it is in training: export the network in evaluation (model.eval()).")
    if len(node.inputs) < 5 or not all(name in constants for name in node.inputs[1:5]):
        raise UserError("its statistics are no constants.")
    gain, bias, mean, variance = (constants[name] for name in node.inputs[1:5])
    scale = gain / np.sqrt(variance + node.attributes.get("epsilon", 1e-5))
    return scale.astype(gain.dtype), (bias - mean * scale).astype(gain.dtype)


def _takes_it(node: Node, constants: Mapping[str, np.ndarray]) -> bool:
    return node.operator == "Conv" and all(name in constants for name in node.inputs[1:] if name)


def _folded(
    conv: Node,
    norm: Node,
    constants: dict[str, np.ndarray],
    users: Mapping[str, list[tuple[Node, int]]],
    scale: np.ndarray,
    shift: np.ndarray,
) -> Node:
    """Returns a convolution that normalises as well; its arrays are put among the constants."""
    kernel = constants[conv.inputs[1]]
    bias = constants[conv.inputs[2]] if len(conv.inputs) > 2 and conv.inputs[2] else 0
    shape = (-1, *(1,) * (kernel.ndim - 1))
    names = [
        name if len(users.get(name, ())) == 1 else f"{conv.name}.{role}"
        for name, role in zip((*conv.inputs[1:], "")[:2], ("weight", "bias"), strict=False)
    ]
    constants[names[0]] = (kernel * scale.reshape(shape)).astype(kernel.dtype)
    constants[names[1]] = (bias * scale + shift).astype(kernel.dtype)
    inputs = (conv.inputs[0], *names)
    return dataclasses.replace(conv, inputs=inputs, outputs=norm.outputs[:1])


# --- Parameters -----------------------------------------------------------------------------------


def tensors(graph: Graph) -> frozenset[str]:
    """Returns the names of values that depend on the numbers of the input, not on shapes alone."""
    found = {graph.input.name}
    for node in graph.nodes:
        if node.operator not in ("Shape", "Size") and not found.isdisjoint(node.inputs):
            found.update(node.outputs)
    return frozenset(found)


def parameters(graph: Graph) -> dict[str, Parameter]:
    """Returns name of a value -> parameter, of the constants that may be trained.

    These are arrays of floats that enter a computation; single numbers, and whatever sets a shape,
    stay constants.

    Raises:
      UserError: a kernel has other axes than its operator takes.
    """
    dependent, found = tensors(graph), dict[str, Parameter]()
    taken = set[str]()
    for node in graph.nodes:
        for number, name in _trained(graph, node, dependent):
            if name in found:
                continue
            array = graph.constants[name]
            path = _free(path_of(name, node, number), taken)
            with naming(f"node {node.name} ({node.operator})"):
                order = _stored(node, number, name, array.ndim)
            found[name] = Parameter(path, np.ascontiguousarray(array.transpose(order)), order)
    return found


def _trained(graph: Graph, node: Node, dependent: frozenset[str]) -> Iterator[tuple[int, str]]:
    own = OPERATORS.get(node.operator)
    computes = node.operator not in ("Shape", "Size") and not dependent.isdisjoint(node.inputs)
    if own is None or not (computes or node.operator in _FILLED):
        return
    for number, name in enumerate(node.inputs):
        array = graph.constants.get(name)
        if array is None or number in own.settings or not (computes or array.ndim > 1):
            continue
        is_large = array.size > 1 or node.operator in _WEIGHTED
        if array.ndim and is_large and array.dtype.kind in "fV":
            yield number, name


def _stored(node: Node, number: int, name: str, rank: int) -> Order:
    kernel = OPERATORS[node.operator].kernels.get(number)
    order = kernel(node, rank) if kernel else tuple(range(rank))
    if sorted(order) != list(range(rank)):
        raise UserError(f"{name} has {rank} axes, too few or too many.")
    return order


def _free(path: tuple[str, ...], taken: set[str]) -> tuple[str, ...]:
    """Returns a path that neither is one that is taken, nor leads into or out of one."""
    *folders, leaf = path
    folder = "".join(f"{each}/" for each in folders)
    if folder and folder[:-1].lower() in taken:  # an array has the folder's name
        folder, folders = f"{folder[:-1]}_/", [f"{folders[0]}_"]
    used = taken | {each.partition("/")[0] for each in taken}
    name = free_name(f"{folder}{leaf}", used)
    taken.add(name.lower())
    return (*folders, name.rpartition("/")[2])


def without_weights(graph: Graph, found: Mapping[str, Parameter]) -> Graph:
    """Returns a graph that holds no array twice: of its constants those that are no parameters."""
    settings = {
        name
        for node in graph.nodes
        for number, name in enumerate(node.inputs)
        if node.operator in OPERATORS and number in OPERATORS[node.operator].settings
    }
    used = {name for node in graph.nodes for name in node.inputs}
    kept = used - (found.keys() - settings)
    constants = {name: array for name, array in graph.constants.items() if name in kept}
    return dataclasses.replace(graph, constants=constants)


def nested(found: Mapping[str, Parameter], convert: Any) -> dict[str, Any]:
    """Returns nested dictionaries of parameters."""
    tree: dict[str, Any] = {}
    for parameter in found.values():
        *folders, leaf = parameter.path
        own = tree
        for folder in folders:
            own = own.setdefault(folder, {})
        own[leaf] = convert(parameter.array)
    return tree


def places(found: Mapping[str, Parameter]) -> dict[str, Place]:
    """Returns name of a value -> where its parameter is kept, and the order of its axes."""
    return {name: Place(each.path, each.order) for name, each in found.items()}


def at(params: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """Returns one array of nested dictionaries."""
    found: Any = params
    for key in path:
        found = found[key]
    return found
