"""A graph as a list of nodes, read from a file of which nothing is believed. NumPy."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Node:
    """One operation.

    Attributes:
      operator: its name, with the domain in front where that is not ONNX's own.
      name: of the node, or of its first output.
      inputs: names of values, empty for those left out.
      outputs: names of the values that it makes.
      attributes: name -> number, text, list or array.
      opset: version of the operators of its domain.
      proto: as the file holds it.
      scope: names of the modules that it belongs to, as PyTorch writes them.
    """

    operator: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    opset: int
    proto: Any
    scope: tuple[str, ...] = ()


class Input(NamedTuple):
    """The input of a graph.

    Attributes:
      name: of it.
      shape: of one example, in ONNX's order.
      batch: the size of batch that the file is written for; 1 where it leaves that open.
      is_open: whether it does.
      dtype: of its numbers.
    """

    name: str
    shape: tuple[int, ...]
    batch: int
    is_open: bool
    dtype: Any


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
    """Nodes that lead from an input to one output.

    Attributes:
      nodes: in an order in which they can be evaluated.
      constants: name -> array, of what does not depend on the input.
      input: what goes in.
      output: name of what comes out.
      outputs: names of all outputs of floats, of which it is one.
    """

    nodes: tuple[Node, ...]
    constants: Mapping[str, np.ndarray]
    input: Input
    output: str
    outputs: tuple[str, ...] = ()

    def users(self) -> dict[str, list[tuple[Node, int]]]:
        """Returns name of a value -> nodes that take it, and as which of their inputs."""
        found: dict[str, list[tuple[Node, int]]] = {}
        for node in self.nodes:
            for number, name in enumerate(node.inputs):
                found.setdefault(name, []).append((node, number))
        return found


def needed(nodes: Mapping[str, Node], output: str, known: Mapping[str, Any]) -> Iterator[Node]:
    """Yields the nodes that lead to an output, each behind those that it needs.

    Args:
      nodes: name of a value -> the node that makes it.
      output: name of a value.
      known: names of values that need no node.

    Raises:
      KeyError: no node makes a value that is needed.
      ValueError: a node needs its own output.
    """
    done, waiting, todo = set[int](), set[int](), [(output, False)]
    while todo:
        name, is_ready = todo.pop()
        if name in known or not name:
            continue
        node = nodes[name]
        if id(node) in done:
            continue
        if is_ready:
            done.add(id(node))
            yield node
            continue
        if id(node) in waiting:
            raise ValueError(name)
        waiting.add(id(node))
        todo.append((name, True))
        todo += [(each, False) for each in node.inputs]
