"""A graph as a function of parameters and a batch. JAX."""

import dataclasses
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.ad_checkpoint import checkpoint_name

from jaxinv.errors import UserError
from jaxinv.networks.onnx import names
from jaxinv.networks.onnx.batch import axis_of_batch
from jaxinv.networks.onnx.faults import naming
from jaxinv.networks.onnx.folding import evaluated
from jaxinv.networks.onnx.graph import Graph, Node
from jaxinv.networks.onnx.operators import OPERATORS
from jaxinv.networks.onnx.parameters import Place, at
from jaxinv.networks.onnx.registry import Call, Fixed
from jaxinv.networks.onnx.tensors import Order, Tensor, in_order

_LARGEST = 2**31  # numbers in one value
_TOGETHER = ("Add", "Mul", "Sub", "Div", "Max", "Min", "Sum")  # steps where branches meet


@dataclasses.dataclass(eq=False)
class Evaluation:
    """A graph, its parameters, and what is known of it at the batch of its file.

    Attributes:
      graph: whose constants are folded.
      parameters: name of a value -> parameter.
      order: of the axes of what goes in.
      fixed: shapes at the batch of the file, once they are known.
    """

    graph: Graph
    parameters: Mapping[str, Place]
    order: Order
    fixed: Fixed | None = None

    def __post_init__(self) -> None:
        self._marks = marks(self.graph, self.parameters)

    def look(self, params: Any) -> None:
        """Evaluates shapes alone, at the batch of the file and at twice that.

        Raises:
          UserError: a node cannot be evaluated.
        """
        entry = self.graph.input
        values = self._shapes(params, entry.batch, None)
        shapes = {name: value for name, value in values.items() if isinstance(value, tuple)}
        constants = {name: value for name, value in values.items() if name not in shapes}
        own = Fixed(entry.batch, 2 * entry.batch, entry.is_open, shapes, constants)
        twice = self._shapes(params, own.size, own)
        for name, shape in shapes.items():
            own.axes[name] = axis_of_batch(shape, twice[name])
        self.fixed = own

    def _shapes(self, params: Any, size: int, fixed: Fixed | None) -> dict[str, Any]:
        """Returns name -> shape of every value, or the value of a constant."""
        found: dict[str, Any] = {}

        def run(params: Any, x: Array) -> None:
            for name, value in self._values(params, x, fixed).items():
                found[name] = value.shape if isinstance(value, Tensor) else value

        plain = (size, *self.graph.input.shape)
        shape = tuple(plain[axis] for axis in self.order)
        jax.eval_shape(run, params, jax.ShapeDtypeStruct(shape, jnp.float32))
        return found

    def __call__(self, params: Any, x: Array) -> Array:
        """Computes the output of a batch.

        Args:
          params: nested dictionaries.
          x: `[N, *input_shape]`.
        """
        assert self.fixed is not None
        fixed = dataclasses.replace(self.fixed, size=len(x), inner=set())
        return self._output(self._values(params, x, fixed))

    def as_written(self, params: Any, x: Array) -> Array:
        """Computes the output of a batch of the size that the file was written for."""
        return self._output(self._values(params, x, None))

    @property
    def guessed(self) -> Collection[str]:
        """Names of values whose shape for another batch was chosen among several."""
        return self.fixed.guessed if self.fixed else ()

    def _output(self, values: Mapping[str, Any]) -> Array:
        found = values[self.graph.output]
        if not isinstance(found, Tensor):
            raise UserError("its output does not depend on its input.")
        return in_order(found)

    def _values(self, params: Any, x: Array, fixed: Fixed | None) -> dict[str, Any]:
        """Returns name -> tensor or constant of every value."""
        dtype = jax.dtypes.canonicalize_dtype(self.graph.input.dtype)
        values: dict[str, Any] = {self.graph.input.name: Tensor(x.astype(dtype), self.order)}
        for name, parameter in self.parameters.items():
            values[name] = Tensor(at(params, parameter.path), parameter.order)
        for node in self.graph.nodes:
            with naming(f"node {node.name} ({node.operator})"):
                made = self._made(node, values, fixed)
                if fixed is not None:
                    _follow(node, values, made, fixed)
                values.update(made)
        return values

    def _made(self, node: Node, values: Mapping[str, Any], fixed: Fixed | None) -> dict[str, Any]:
        operator = OPERATORS.get(node.operator)
        given = [self._given(node, number, name, values) for number, name in enumerate(node.inputs)]
        if all(not isinstance(value, Tensor) for value in given):
            return evaluated(node, given)
        assert operator is not None
        _check_count(operator.function, len(given))
        found = operator.function(Call(node, fixed), *given)
        results = found if isinstance(found, tuple) else (found,)
        for value in results:
            if isinstance(value, Tensor) and value.array.size > _LARGEST:
                raise UserError(f"it makes {value.array.size:.3g} numbers.")
        pairs = zip(node.outputs, results, strict=False)
        return {name: self._marked(node, value) for name, value in pairs if name}

    def _given(self, node: Node, number: int, name: str, values: Mapping[str, Any]) -> Any:
        """Returns an input of a node: a setting as a constant, whatever else as it is."""
        if not name:
            return None
        operator = OPERATORS.get(node.operator)
        if operator is not None and number in operator.settings:
            value = self.graph.constants.get(name, values.get(name))
            if isinstance(value, Tensor):
                raise UserError(f"its input {name} depends on the numbers of the network's input.")
            return value
        if name not in values and name not in self.graph.constants:
            raise UserError(f"its input {name} is an output of a node that is not supported.")
        return values[name] if name in values else self.graph.constants[name]

    def _marked(self, node: Node, value: Any) -> Any:
        name = self._marks.get(id(node))
        if name is None or not isinstance(value, Tensor):
            return value
        return value.like(checkpoint_name(value.array, name))


def _check_count(function: Callable[..., Any], count: int) -> None:
    """Refuses too few or too many inputs of an operator."""
    try:
        inspect.signature(function).bind(None, *range(count))
    except TypeError as error:
        raise UserError(f"it has {count} inputs, too few or too many.") from error


def _follow(node: Node, values: Mapping[str, Any], made: Mapping[str, Any], fixed: Fixed) -> None:
    """Notes that results have the batch innermost in an axis, where an input of their size has."""
    own = [name for name in node.inputs if name in fixed.inner]
    for name, value in made.items():
        if own and isinstance(value, Tensor) and node.operator != "Reshape":
            sizes = (values[own[0]].shape[:1], fixed.shapes[own[0]][:1])
            if sizes == (value.shape[:1], fixed.shapes[name][:1]):
                fixed.inner.add(name)


def marks(graph: Graph, parameters: Mapping[str, Place]) -> dict[int, str]:
    """Returns id of a node -> name of the cut behind it.

    Cuts are behind convolutions, matrices with their biases, normalisations, activations, poolings,
    where branches meet, and at the end.
    """
    known, users = {*graph.constants, *parameters}, graph.users()
    found = {}
    for node in graph.nodes:
        operator = OPERATORS.get(node.operator)
        own = [each for each in node.inputs if each and each not in known]
        meets = node.operator in _TOGETHER and len(set(own)) > 1
        adds = node.operator == "Add" and len(own) == 1 and _is_bias(node, parameters)
        behind = users.get(node.outputs[0], []) if node.outputs else []
        waits = node.operator == "MatMul" and [
            each.operator for each, _ in behind if _is_bias(each, parameters)
        ] == ["Add"]
        is_step = operator is not None and operator.is_step and not waits
        if is_step or meets or adds or graph.output in node.outputs:
            found[id(node)] = names.label(node)
    return found


def _is_bias(node: Node, parameters: Mapping[str, Place]) -> bool:
    return any(name in parameters for name in node.inputs)
