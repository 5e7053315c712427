"""Sums, means and extremes along axes. JAX."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxinv.networks.onnx.operators.shapes import axes_of
from jaxinv.networks.onnx.registry import Call, operator
from jaxinv.networks.onnx.tensors import Tensor, axis_of, in_order, without

_REDUCTIONS: dict[str, Callable[..., Any]] = {
    **dict(ReduceMean=jnp.mean, ReduceSum=jnp.sum, ReduceMax=jnp.max, ReduceMin=jnp.min),
    **dict(ReduceProd=jnp.prod, ReduceLogSumExp=jax.nn.logsumexp),
    "ReduceL1": lambda x, *rest, **options: jnp.sum(jnp.abs(x), *rest, **options),
    "ReduceL2": lambda x, *rest, **options: jnp.sqrt(jnp.sum(x * x, *rest, **options)),
    "ReduceSumSquare": lambda x, *rest, **options: jnp.sum(x * x, *rest, **options),
    "ReduceLogSum": lambda x, *rest, **options: jnp.log(jnp.sum(x, *rest, **options)),
}


@operator(*_REDUCTIONS, settings=(1,), is_step=True)
def reduce(call: Call, x: Tensor, axes: Any = None) -> Tensor:
    """Combines the numbers along axes, all by default."""
    own = axes_of(call, None if axes is not None and axes.size == 0 else axes, x.rank)
    if own is None or (call.get("axes") is not None and not own):
        if call.get("noop_with_empty_axes", 0):
            return x
        own = tuple(range(x.rank))
    keeps = call.get("keepdims", 1) == 1
    array = _REDUCTIONS[call.node.operator](x.array, x.places(own), keepdims=keeps)
    return Tensor(array, x.order if keeps else without(x.order, own))


@operator("ArgMax", "ArgMin")
def arg_extreme(call: Call, x: Tensor) -> Tensor:
    """Returns the number of the largest or smallest entry along an axis."""
    axis = axis_of(call.get("axis", 0), x.rank)
    function = jnp.argmax if call.node.operator == "ArgMax" else jnp.argmin
    array = x.array
    if call.get("select_last_index", 0):
        array = jnp.flip(array, x.place(axis))
    keeps = call.get("keepdims", 1) == 1
    found = function(array, axis=x.place(axis), keepdims=keeps)
    if call.get("select_last_index", 0):
        found = x.shape[axis] - 1 - found
    return Tensor(found, x.order if keeps else without(x.order, (axis,)))


@operator("CumSum", settings=(1,))
def cumulative_sum(call: Call, x: Tensor, axis: np.ndarray) -> Tensor:
    """Adds up along an axis."""
    place = x.place(int(axis))
    array = jnp.flip(x.array, place) if call.get("reverse", 0) else x.array
    found = jnp.cumsum(array, place)
    found = found - array if call.get("exclusive", 0) else found
    return x.like(jnp.flip(found, place) if call.get("reverse", 0) else found)


@operator("Trilu", settings=(1,))
def triangle(call: Call, x: Tensor, diagonal: Any = None) -> Tensor:
    """Keeps the upper or the lower triangle of matrices."""
    number = 0 if diagonal is None else int(diagonal)
    function = jnp.triu if call.get("upper", 1) else jnp.tril
    return Tensor.plain(function(in_order(x), number))
