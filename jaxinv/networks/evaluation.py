"""Runs equations of a program, with convolutions in this machine's fastest form. JAX."""

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.extend.core import ClosedJaxpr, Jaxpr

from jaxinv.machine.numbers import widened
from jaxinv.networks.convolution import convolve_dilated
from jaxinv.networks.program import Constant, Equation, Program, Value, expanded, trace
from jaxinv.networks.rectifiers import rectified


def run(
    program: Program,
    places: Iterable[int],
    known: Mapping[Value, Array],
    wanted: Iterable[Value | Constant],
    *,
    skipped: Mapping[int, Value] | None = None,
    wide: Collection[Value] = (),
) -> list[Any]:
    """Evaluates some equations of a program.

    Args:
      program: the whole.
      places: of the equations, in order.
      known: value -> array, from which these can be evaluated.
      wanted: values to return.
      skipped: place of an equation that is left out -> the value that it hands on.
      wide: values that are computed in float32 where the program has half precision.
    """
    # Parameters and inputs may have another type than those that were traced.
    values: dict[Value, Any] = {
        value: _typed(array, program.dtypes[value], value in wide) for value, array in known.items()
    }

    def read(operand: Value | Constant) -> Any:
        return operand.value if isinstance(operand, Constant) else values[operand]

    for place in places:
        equation = program.equations[place]
        if skipped and place in skipped:
            values[equation.outputs[0]] = values[skipped[place]]
            continue
        is_wide = any(value in wide for value in equation.outputs)
        evaluate = _evaluate_wide if is_wide else _evaluate
        results = evaluate(equation, [read(operand) for operand in equation.inputs])
        values.update(zip(equation.outputs, results, strict=True))
    return [read(value) for value in wanted]


def in_fastest_form(function: Callable[[Any, Array], Any], params: Any, x: Array) -> Any:
    """Evaluates a function of parameters and a batch, with convolutions in their fastest form."""
    program = trace(function, params, jax.ShapeDtypeStruct(x.shape, x.dtype))
    leaves = [leaf for _, leaf in jax.tree_util.tree_flatten_with_path(params)[0]]
    known = dict(zip(program.params.values(), leaves, strict=True)) | {program.input: x}
    found = run(program, range(len(program.equations)), known, program.outputs)
    return jax.tree.unflatten(jax.tree.structure(jax.eval_shape(function, params, x)), found)


def _typed(array: Any, dtype: Any, wide: bool) -> Array:
    array = jnp.asarray(array)
    if dtype is not None and array.dtype != dtype:
        array = array.astype(dtype)
    return _widened(array) if wide else array


def is_half(dtype: Any) -> bool:
    """Returns whether a type is a floating-point one of fewer digits than float32."""
    return bool(jnp.issubdtype(dtype, jnp.floating)) and jnp.finfo(dtype).bits < 32


def _widened(value: Any) -> Any:
    return widened(jnp.asarray(value)) if is_half(jnp.result_type(value)) else value


def _evaluate_wide(equation: Equation, inputs: list[Any]) -> list[Any]:
    """Evaluates an equation of half precision in float32; functions inside it as they are."""
    inner = expanded(equation)
    high = rectified(equation)
    if high is not None:
        return [jnp.minimum(jax.nn.relu(_widened(inputs[0])), high)]
    if any(isinstance(value, Jaxpr | ClosedJaxpr) for value in equation.params.values()) or inner:
        typed = [
            value.astype(dtype) if dtype is not None and is_half(dtype) else value
            for value, dtype in zip(inputs, equation.types, strict=True)
        ]
        return [_widened(value) for value in _evaluate(equation, typed)]
    params = {
        name: jnp.dtype(jnp.float32) if isinstance(value, np.dtype) and is_half(value) else value
        for name, value in equation.params.items()
    }
    wide = dataclasses.replace(equation, params=params)
    return [_widened(value) for value in _evaluate(wide, [_widened(value) for value in inputs])]


def _evaluate(equation: Equation, inputs: list[Any]) -> list[Any]:
    if is_plain_convolution(equation):
        return [_convolve(equation.params, *inputs)]
    bound = equation.primitive.get_bind_params(dict(equation.params))
    functions, params = bound if isinstance(bound, tuple) else ((), bound)  # JAX before 0.10
    with equation.context:
        found = equation.primitive.bind(*functions, *inputs, **params)
    return list(found) if equation.primitive.multiple_results else [found]


def is_plain_convolution(equation: Equation) -> bool:
    """Returns whether an equation is a convolution of series or images that has several forms.

    Volumes, cropping and mixed-precision convolutions are left to XLA.
    """
    if equation.name != "conv_general_dilated":
        return False
    params = equation.params
    return (
        len(params["dimension_numbers"].lhs_spec) in (3, 4)
        and min(map(min, params["padding"])) >= 0
        and params["batch_group_count"] == 1
        and params["precision"] in (None, _default_precision())
        and params["preferred_element_type"] is None
    )


def matmul_precision() -> str | None:
    """Returns the precision of products that the caller has set, which a trace writes down."""
    return getattr(jax.config, "jax_default_matmul_precision")  # noqa: B009 - mypy misses it


def _default_precision() -> Any:
    """Returns the precision that JAX writes into a convolution where the caller names none."""
    name = matmul_precision()
    if name is None:
        return None
    try:
        precision = lax.Precision(name)
    except ValueError:  # the name of an algorithm
        return None
    return (precision, precision)


def _convolve(params: Mapping[str, Any], x: Array, kernel: Array) -> Array:
    """Convolves with channels last, whatever the layout of the operands."""
    numbers = params["dimension_numbers"]
    rank = x.ndim
    images = (0, rank - 1, *range(1, rank - 1))  # places of batch, channels, rows and columns
    kernels = (rank - 1, rank - 2, *range(rank - 2))  # of outputs, inputs, rows and columns
    y = convolve_dilated(
        _arranged(x, numbers.lhs_spec, images),
        _arranged(kernel, numbers.rhs_spec, kernels),
        params["padding"],
        params["window_strides"],
        params["lhs_dilation"],
        params["rhs_dilation"],
        params["feature_group_count"],
    )
    return _arranged(y, images, numbers.out_spec)


def _arranged(x: Array, given: tuple[int, ...], wanted: tuple[int, ...]) -> Array:
    """Transposes: axis `given[i]` of the array becomes axis `wanted[i]`."""
    if given == wanted:
        return x
    axes = [0] * len(given)
    for source, place in zip(given, wanted, strict=True):
        axes[place] = source
    return lax.transpose(x, axes)
