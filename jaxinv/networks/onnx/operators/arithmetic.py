"""Arithmetic, number by number. JAX."""

from collections.abc import Callable
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
from jax import lax
from jax.scipy.special import erf

from jaxinv.errors import UserError
from jaxinv.networks.onnx.registry import Call, operator
from jaxinv.networks.onnx.tensors import Operand, Tensor, aligned


def elementwise(function: Callable[..., Any], *operands: Operand) -> Tensor:
    """Applies a function of numbers to arrays that broadcast against each other."""
    arrays, order = aligned(*operands)
    return Tensor(function(*arrays), order)


def _divided(x: Any, y: Any) -> Any:
    return x / y if jnp.issubdtype(jnp.result_type(x), jnp.inexact) else lax.div(*_alike(x, y))


def _alike(x: Any, y: Any) -> tuple[Any, Any]:
    shape = jnp.broadcast_shapes(jnp.shape(x), jnp.shape(y))
    return jnp.broadcast_to(x, shape), jnp.broadcast_to(y, shape)


_UNARY: dict[str, Callable[..., Any]] = {
    **dict(Abs=jnp.abs, Neg=jnp.negative, Sqrt=jnp.sqrt, Exp=jnp.exp, Log=jnp.log, Erf=erf),
    **dict(Sin=jnp.sin, Cos=jnp.cos, Tan=jnp.tan, Floor=jnp.floor, Ceil=jnp.ceil),
    **dict(Round=jnp.round, Sign=jnp.sign, Not=jnp.logical_not, IsNaN=jnp.isnan),
    "Reciprocal": lambda x: 1 / x,
}
_BINARY: dict[str, Callable[..., Any]] = {
    **dict(Add=jnp.add, Sub=jnp.subtract, Mul=jnp.multiply, Div=_divided),
    **dict(Equal=jnp.equal, Less=jnp.less, LessOrEqual=jnp.less_equal),
    **dict(Greater=jnp.greater, GreaterOrEqual=jnp.greater_equal),
    **dict(And=jnp.logical_and, Or=jnp.logical_or, Xor=jnp.logical_xor),
}
_MANY: dict[str, Callable[..., Any]] = dict(Max=jnp.maximum, Min=jnp.minimum, Sum=jnp.add)


@operator(*_UNARY)
def unary(call: Call, x: Tensor) -> Tensor:
    """Applies a function of one number."""
    return x.like(_UNARY[call.node.operator](x.array))


@operator(*_BINARY)
def binary(call: Call, x: Operand, y: Operand) -> Tensor:
    """Applies a function of two numbers."""
    return elementwise(_BINARY[call.node.operator], x, y)


@operator(*_MANY)
def many(call: Call, *operands: Operand) -> Tensor:
    """Adds arrays, or takes the largest or smallest of their numbers."""
    function = _MANY[call.node.operator]
    return elementwise(lambda *arrays: reduce(function, arrays), *operands)


@operator("Mean")
def mean(call: Call, *operands: Operand) -> Tensor:
    """Computes the mean of several arrays."""
    return elementwise(lambda *arrays: reduce(jnp.add, arrays) / len(arrays), *operands)


@operator("Mod")
def mod(call: Call, x: Operand, y: Operand) -> Tensor:
    """Computes the remainder of a division."""
    return elementwise(jnp.fmod if call.get("fmod", 0) else jnp.mod, x, y)


@operator("Pow")
def power(call: Call, x: Operand, y: Operand) -> Tensor:
    """Raises to a power; whole ones are products, which are smooth at zero and below."""
    if isinstance(y, np.ndarray) and y.size == 1 and float(y.item()).is_integer():
        exponent = int(y.item())
        if abs(exponent) <= 16 and isinstance(x, Tensor) and x.rank >= y.ndim:
            return x.like(lax.integer_pow(x.array, exponent))
    return elementwise(jnp.power, x, y)


@operator("Where")
def where(call: Call, which: Operand, x: Operand, y: Operand) -> Tensor:
    """Takes numbers of one of two arrays."""
    return elementwise(jnp.where, which, x, y)


@operator("Clip", settings=(1, 2))
def clip(call: Call, x: Tensor, low: Any = None, high: Any = None) -> Tensor:
    """Limits numbers; the limits are attributes before opset 11."""
    low, high = (
        call.get(name) if limit is None else limit for name, limit in (("min", low), ("max", high))
    )
    array = x.array
    if low is not None:
        array = jnp.maximum(array, np.asarray(low, array.dtype).reshape(()))
    if high is not None:
        array = jnp.minimum(array, np.asarray(high, array.dtype).reshape(()))
    return x.like(array)


@operator("Cast")
def cast(call: Call, x: Tensor) -> Tensor:
    """Converts numbers to another type."""
    return x.like(x.array.astype(type_of(call.get("to"))))


@operator("CastLike")
def cast_like(call: Call, x: Tensor, other: Operand) -> Tensor:
    """Converts numbers to the type of others."""
    dtype = other.array.dtype if isinstance(other, Tensor) else other.dtype
    return x.like(x.array.astype(jax.dtypes.canonicalize_dtype(dtype)))


def type_of(number: Any) -> Any:
    """Returns the type that ONNX has a number for; in float32 what JAX has no float64 for.

    Raises:
      UserError: it is no type of numbers.
    """
    try:
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(number))
    except (KeyError, TypeError) as error:
        raise UserError(f"type {number} is not known.") from error
    if dtype.kind in "OSU":
        raise UserError("texts are not supported.")
    return jax.dtypes.canonicalize_dtype(dtype)


@operator("Identity", "Dropout")
def identity(call: Call, x: Tensor, *unused: Any) -> Tensor:
    """Returns what it takes, as Dropout does in evaluation."""
    training = unused[1] if len(unused) > 1 else None
    if training is not None and (isinstance(training, Tensor) or np.any(training)):
        raise UserError("Dropout is in training: export the network in evaluation.")
    return x
