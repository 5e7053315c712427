"""Operators by name, and what one evaluation of a node is given."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxinv.networks.onnx.batch import axis_of_batch
from jaxinv.networks.onnx.graph import Node
from jaxinv.networks.onnx.tensors import Order


@dataclasses.dataclass
class Fixed:
    """Shapes and whole numbers at the batch that the file was written for.

    Attributes:
      batch: the size of that batch.
      size: of the batch now.
      is_open: whether the file leaves the size of the batch open.
      shapes: name of a value -> its shape, in ONNX's order.
      constants: name of a value -> what it is, where it does not depend on the input's numbers.
      axes: name of a value -> its axis that grows with the batch, or None; empty until another
        batch has been evaluated.
      following: names of reshaped values whose shape the file computes from that of the input.
      inner: names of values that have the batch innermost in an axis together with another.
      guessed: names of values whose shape for another batch was chosen among several.
    """

    batch: int
    size: int
    is_open: bool
    shapes: Mapping[str, tuple[int, ...]]
    constants: Mapping[str, Any]
    axes: dict[str, int | None] = dataclasses.field(default_factory=dict)
    following: set[str] = dataclasses.field(default_factory=set)
    inner: set[str] = dataclasses.field(default_factory=set)
    guessed: set[str] = dataclasses.field(default_factory=set)

    def axis(self, name: str, now: tuple[int, ...]) -> int | None:
        """Returns the axis in which a value grows with the batch; None where it does not."""
        if name in self.axes:
            return self.axes[name]
        return axis_of_batch(self.shapes[name], now)


@dataclasses.dataclass(frozen=True)
class Call:
    """One evaluation of a node.

    Attributes:
      node: what is evaluated.
      fixed: the same graph at its own batch; None while that is evaluated.
    """

    node: Node
    fixed: Fixed | None

    @property
    def opset(self) -> int:
        """Version of the operators of this node's domain."""
        return self.node.opset

    def get(self, name: str, default: Any = None) -> Any:
        """Returns an attribute."""
        return self.node.attributes.get(name, default)


Function = Callable[..., Any]
Kernel = Callable[[Node, int], Order]


class Operator(NamedTuple):
    """One of ONNX's operators.

    Attributes:
      function: `(call, *inputs) -> tensor, constant, or a tuple of these`.
      settings: numbers of the inputs that must be known without the network's input.
      kernels: number of an input -> the order in which its parameter is stored.
      is_step: whether a network can be expected to be cut behind it.
    """

    function: Function
    settings: frozenset[int]
    kernels: Mapping[int, Kernel]
    is_step: bool


OPERATORS: dict[str, Operator] = {}


def operator(
    *names: str,
    settings: tuple[int, ...] = (),
    kernels: Mapping[int, Kernel] | None = None,
    is_step: bool = False,
) -> Callable[[Function], Function]:
    """Registers a function as the implementation of operators."""

    def register(function: Function) -> Function:
        made = Operator(function, frozenset(settings), kernels or {}, is_step)
        OPERATORS.update(dict.fromkeys(names, made))
        return function

    return register
