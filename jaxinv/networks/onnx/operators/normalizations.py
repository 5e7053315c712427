"""Normalisation of each example: over its features, channels or groups of channels. JAX."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxinv.errors import UserError
from jaxinv.networks.onnx.operators.arithmetic import elementwise
from jaxinv.networks.onnx.registry import Call, operator
from jaxinv.networks.onnx.tensors import Operand, Tensor, axis_of, channels_last

SCALE_AND_SHIFT = "jaxinv.ScaleAndShift"
"""Name of the operator that a BatchNormalization in evaluation becomes."""


@operator(SCALE_AND_SHIFT, is_step=True)
def scale_and_shift(call: Call, x: Tensor, scale: Operand, shift: Operand) -> Tensor:
    """Multiplies each channel by a number and adds another."""
    rank = max(x.rank, 2)
    return _affine(x, _by_channel(scale, rank), _by_channel(shift, rank))


def _by_channel(operand: Operand, rank: int) -> Operand:
    shape = (1, -1, *(1,) * (rank - 2))
    if isinstance(operand, Tensor):
        return Tensor.plain(operand.array.reshape(shape))
    return operand.reshape(shape)


def _affine(x: Tensor, scale: Operand, shift: Operand | None) -> Tensor:
    y = elementwise(jnp.multiply, x, scale)
    return y if shift is None else elementwise(jnp.add, y, shift)


@operator("LayerNormalization", is_step=True)
def layer_normalization(
    call: Call, x: Tensor, scale: Operand, shift: Operand | None = None
) -> Tensor:
    """Normalises each example over its last axes."""
    axis = axis_of(call.get("axis", -1), x.rank)
    array = _normalized(x.array, x.places(range(axis, x.rank)), _epsilon(call))
    return _affine(x.like(array), scale, shift)


@operator("RMSNormalization", is_step=True)
def rms_normalization(call: Call, x: Tensor, scale: Operand) -> Tensor:
    """Divides each example by its root mean square over the last axes."""
    axis = axis_of(call.get("axis", -1), x.rank)
    places = x.places(range(axis, x.rank))
    squares = jnp.mean(x.array * x.array, places, keepdims=True)
    return _affine(x.like(x.array * lax.rsqrt(squares + _epsilon(call))), scale, None)


@operator("InstanceNormalization", is_step=True)
def instance_normalization(call: Call, x: Tensor, scale: Operand, shift: Operand) -> Tensor:
    """Normalises each channel of an example over space."""
    array = _normalized(x.array, x.places(range(2, x.rank)), _epsilon(call))
    own = (_by_channel(each, x.rank) for each in (scale, shift))
    return _affine(x.like(array), *own)


@operator("GroupNormalization", is_step=True)
def group_normalization(call: Call, x: Tensor, scale: Operand, shift: Operand) -> Tensor:
    """Normalises groups of channels; scale and shift are for each group before opset 21."""
    order, groups = channels_last(x.rank), call.get("num_groups")
    images = x.arranged(order)
    channels = images.shape[-1]
    if not groups or channels % groups:
        raise UserError(f"{groups} groups of {channels} channels.")
    parts = images.reshape(*images.shape[:-1], groups, channels // groups)
    axes = (*range(1, x.rank - 1), x.rank)
    array = _normalized(parts, axes, _epsilon(call)).reshape(images.shape)
    own = (_for_channels(each, channels) for each in (scale, shift))
    return _affine(Tensor(array, order), *(_by_channel(each, x.rank) for each in own))


def _for_channels(operand: Operand, channels: int) -> Operand:
    array: Any = operand.array if isinstance(operand, Tensor) else operand
    many = channels // math.prod(array.shape)
    array = array if many == 1 else jnp.repeat(array, many)
    return Tensor.plain(array) if isinstance(operand, Tensor) else np.asarray(array)


@operator("LpNormalization", is_step=True)
def lp_normalization(call: Call, x: Tensor) -> Tensor:
    """Divides by a length along an axis."""
    place = x.place(call.get("axis", -1))
    if call.get("p", 2) == 1:
        return x.like(x.array / jnp.sum(jnp.abs(x.array), place, keepdims=True))
    return x.like(x.array / jnp.sqrt(jnp.sum(x.array**2, place, keepdims=True)))


@operator("ai.onnx.ml.Scaler", is_step=True)
def scaler(call: Call, x: Tensor) -> Tensor:
    """Computes `(x - offset) * scale` for each column, as scikit-learn's scalers do."""
    offset, scale = (np.array(call.get(name), np.float32) for name in ("offset", "scale"))
    return elementwise(lambda x, offset, scale: (x - offset) * scale, x, offset, scale)


def _epsilon(call: Call) -> float:
    return float(call.get("epsilon", 1e-5))


def _normalized(x: Any, axes: tuple[int, ...], epsilon: float) -> Any:
    mean = jnp.mean(x, axes, keepdims=True)
    centred = x - mean
    variance = jnp.mean(centred * centred, axes, keepdims=True)
    return centred * lax.rsqrt(variance + epsilon)
