"""Shapes: reshapes at any batch, transpositions that move nothing, concatenation. JAX."""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxinv.errors import UserError
from jaxinv.networks.onnx import batch
from jaxinv.networks.onnx.registry import Call, operator
from jaxinv.networks.onnx.tensors import (
    Operand,
    Order,
    Tensor,
    axis_of,
    channels_last,
    in_order,
    without,
)


def axes_of(call: Call, axes: Any, rank: int) -> tuple[int, ...] | None:
    """Returns axes from an input or, in older opsets, from an attribute; None where none is given.

    Raises:
      UserError: there is no such axis, or one is named twice.
    """
    given = call.get("axes") if axes is None else np.atleast_1d(axes).tolist()
    if given is None:
        return None
    found = tuple(axis_of(axis, rank) for axis in given)
    if len({*found}) < len(found):
        raise UserError(f"axes={list(given)}: one is named twice.")
    return found


@operator("Reshape", settings=(1,))
def reshape(call: Call, x: Tensor, target: Any = None) -> Tensor:
    """Reshapes; where the file holds a shape for its own batch, to the same for another."""
    target = call.get("shape") if target is None else target
    keeps_zero = bool(call.get("allowzero", 0))
    sizes = [int(size) for size in target]
    return _reshaped(call, x, sizes, keeps_zero)


def _reshaped(call: Call, x: Tensor, sizes: Sequence[int], keeps_zero: bool) -> Tensor:
    name, made, fixed = call.node.inputs[0], call.node.outputs[0], call.fixed
    axis = None if fixed is None else fixed.axis(name, x.shape)
    if fixed is None or axis is None:
        found = batch.resolved(sizes, x.shape, allow_zero=keeps_zero)
        return Tensor.plain(in_order(x).reshape(found))
    before = fixed.constants.get(call.node.inputs[1]) if len(call.node.inputs) > 1 else sizes
    own = list(sizes) if before is None else np.ravel(before).tolist()
    if not fixed.axes and (own != list(sizes) or (fixed.is_open and _fits(sizes, x.shape))):
        fixed.following.add(made)
    if made in fixed.following:
        found = batch.resolved(sizes, x.shape, allow_zero=keeps_zero)
        return Tensor.plain(in_order(x).reshape(found))
    known = fixed.shapes[name]
    goal = batch.resolved(own, known, allow_zero=keeps_zero)
    outer = batch.outer_of(known, axis, fixed.batch, is_inner=name in fixed.inner)
    found, place, is_inner = batch.rebatched(goal, known, axis, outer, fixed.batch, fixed.size)
    if outer > 1:
        fixed.guessed.add(made)
    if is_inner:
        fixed.inner.add(made)
    array = in_order(x).reshape(found)
    if goal[place] != fixed.batch:
        return Tensor.plain(array)
    order = (place, *(each for each in range(array.ndim) if each != place))
    return Tensor(array.transpose(order) if place else array, order)  # the batch comes first


def _fits(sizes: Sequence[int], shape: tuple[int, ...]) -> bool:
    try:
        batch.resolved(sizes, shape)
    except UserError:
        return False
    return True


@operator("Flatten")
def flatten(call: Call, x: Tensor) -> Tensor:
    """Joins the axes before one, and those from it on."""
    given = call.get("axis", 1)
    axis = x.rank if given == x.rank else axis_of(given, x.rank)
    first = math.prod(x.shape[:axis])
    return Tensor.plain(in_order(x).reshape(first, math.prod(x.shape[axis:])))


@operator("Transpose")
def transpose(call: Call, x: Tensor) -> Tensor:
    """Renames axes; what is stored stays where it is."""
    axes = call.get("perm") or list(range(x.rank))[::-1]
    if sorted(axes) != list(range(x.rank)):
        raise UserError(f"perm={axes}: expected each of {x.rank} axes once.")
    return Tensor(x.array, tuple(axes.index(axis) for axis in x.order))


@operator("Squeeze", settings=(1,))
def squeeze(call: Call, x: Tensor, axes: Any = None) -> Tensor:
    """Drops axes of size one."""
    own = axes_of(call, axes, x.rank)
    if not own:
        own = tuple(axis for axis, size in enumerate(_fixed_shape(call, x)) if axis and size == 1)
    return Tensor(jnp.squeeze(x.array, x.places(own)), without(x.order, own))


def _fixed_shape(call: Call, x: Tensor) -> tuple[int, ...]:
    return x.shape if call.fixed is None else call.fixed.shapes[call.node.inputs[0]]


@operator("Unsqueeze", settings=(1,))
def unsqueeze(call: Call, x: Tensor, axes: Any = None) -> Tensor:
    """Adds axes of size one."""
    given = call.get("axes") if axes is None else np.atleast_1d(axes).tolist()
    rank = x.rank + len(given or ())
    own = {axis_of(axis, rank) for axis in given or ()}
    if not own or len(own) < len(given):
        raise UserError(f"axes={given}: expected axes that differ.")
    old = [axis for axis in range(rank) if axis not in own]
    order: Order = tuple(old[axis] for axis in x.order)
    array = x.array
    for axis in sorted(own):
        place = _place_of_new(order, axis)
        array, order = jnp.expand_dims(array, place), (*order[:place], axis, *order[place:])
    return Tensor(array, order)


def _place_of_new(order: Order, axis: int) -> int:
    """Returns where an axis is stored: behind the one before it, never in front of the batch."""
    before = [place for place, own in enumerate(order) if own < axis]
    return max(len(before), 1) if before == list(range(len(before))) else len(order)


@operator("Concat", is_step=True)
def concat(call: Call, *operands: Operand) -> Tensor:
    """Joins arrays along an axis; what is the same for every example is repeated for each."""
    tensors = [each for each in operands if isinstance(each, Tensor)]
    lead = max(tensors, key=lambda each: each.array.size)
    axis = axis_of(call.get("axis", 1 if call.opset < 4 else 0), lead.rank)
    arrays = [
        each.arranged(lead.order) if isinstance(each, Tensor) else each.transpose(lead.order)
        for each in operands
    ]
    place = lead.place(axis)
    first = lead.place(0)
    if place != first:
        size = max(array.shape[first] for array in arrays)
        arrays = [_repeated(array, first, size) for array in arrays]
    return Tensor(jnp.concatenate(arrays, place), lead.order)


def _repeated(array: Any, place: int, size: int) -> Any:
    if array.shape[place] == size or array.shape[place] != 1:
        return array
    shape = [size if axis == place else own for axis, own in enumerate(array.shape)]
    return jnp.broadcast_to(array, shape)


@operator("Expand", settings=(1,))
def expand(call: Call, x: Tensor, target: Any) -> Tensor:
    """Broadcasts an array to a shape."""
    sizes = [int(size) for size in target]
    rank = max(len(sizes), x.rank)
    sizes = [1] * (rank - len(sizes)) + sizes
    own = (1,) * (rank - x.rank) + x.shape
    if call.fixed is not None:
        known = (1,) * (rank - x.rank) + call.fixed.shapes[call.node.inputs[0]]
        sizes = [
            now if before != now and size == before else size
            for size, before, now in zip(sizes, known, own, strict=True)
        ]
    if rank == x.rank:
        shape = [max(sizes[axis], own[axis]) if own[axis] == 1 else own[axis] for axis in x.order]
        return x.like(jnp.broadcast_to(x.array, shape))
    array = in_order(x).reshape(own)
    return Tensor.plain(jnp.broadcast_to(array, np.broadcast_shapes(own, tuple(sizes))))


@operator("Tile", settings=(1,))
def tile(call: Call, x: Tensor, repeats: Any) -> Tensor:
    """Repeats an array along its axes."""
    return x.like(jnp.tile(x.array, [int(repeats[axis]) for axis in x.order]))


@operator("Shape")
def shape(call: Call, x: Tensor) -> np.ndarray:
    """Returns the sizes of an array's axes."""
    return np.array(x.shape, np.int64)[call.get("start", 0) : call.get("end")]


@operator("Size")
def size(call: Call, x: Tensor) -> np.ndarray:
    """Returns how many numbers an array holds."""
    return np.array(math.prod(x.shape), np.int64)


@operator("DepthToSpace", is_step=True)
def depth_to_space(call: Call, x: Tensor) -> Tensor:
    """Moves channels into blocks of pixels."""
    order = channels_last(4)
    n, rows, columns, channels = x.arranged(order).shape
    side = call.get("blocksize")
    left = channels // side**2
    is_outer = call.get("mode", "DCR") == "DCR"
    blocks = (side, side, left) if is_outer else (left, side, side)
    axes = (0, 1, 3, 2, 4, 5) if is_outer else (0, 1, 4, 2, 5, 3)
    array = x.arranged(order).reshape(n, rows, columns, *blocks).transpose(axes)
    return Tensor(array.reshape(n, rows * side, columns * side, left), order)


@operator("SpaceToDepth", is_step=True)
def space_to_depth(call: Call, x: Tensor) -> Tensor:
    """Moves blocks of pixels into channels."""
    order = channels_last(4)
    n, rows, columns, channels = x.arranged(order).shape
    side = call.get("blocksize")
    array = x.arranged(order).reshape(n, rows // side, side, columns // side, side, channels)
    array = array.transpose(0, 1, 3, 2, 4, 5)
    return Tensor(array.reshape(n, rows // side, columns // side, side**2 * channels), order)
