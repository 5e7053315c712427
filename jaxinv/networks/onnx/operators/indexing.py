"""Parts of arrays: slices, splits, gathering, padding. JAX."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxinv.errors import UserError
from jaxinv.networks.onnx.registry import Call, operator
from jaxinv.networks.onnx.tensors import Operand, Tensor, axis_of, in_order, without

_MODES = ("reflect", "edge", "wrap")
_LARGEST = 2**16  # rows of padding


@operator("Slice", settings=(1, 2, 3, 4))
def slice_(
    call: Call, x: Tensor, starts: Any = None, ends: Any = None, axes: Any = None, steps: Any = None
) -> Tensor:
    """Takes slices along some axes."""
    starts, ends = (
        call.get(name) if given is None else given.tolist()
        for name, given in (("starts", starts), ("ends", ends))
    )
    axes = call.get("axes") if axes is None else axes.tolist()
    axes = range(len(starts)) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps.tolist()
    array = x.array
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step == 0:
            raise UserError("steps of zero.")
        place, own = x.place(axis), axis_of(axis, x.rank)
        end = None if step < 0 and end < -x.shape[own] else end
        array = _sliced(array, place, slice(start, end, step))
    return x.like(array)


def _sliced(array: Any, place: int, part: slice) -> Any:
    start, stop, step = part.indices(array.shape[place])
    if step < 0:
        count = max(0, -(-(start - stop) // -step))
        lowest = start + (count - 1) * step
        array = lax.slice_in_dim(array, lowest, start + 1, -step, place)
        return lax.rev(array, (place,))
    return lax.slice_in_dim(array, start, max(start, stop), step, place)


@operator("Split", settings=(1,))
def split(call: Call, x: Tensor, sizes: Any = None) -> tuple[Tensor, ...]:
    """Cuts an array into parts along an axis."""
    axis = axis_of(call.get("axis", 0), x.rank)
    given = call.get("split") if sizes is None else sizes.tolist()
    total, count = x.shape[axis], len(call.node.outputs)
    if given is None:
        count = min(max(call.get("num_outputs", count), 1), total)
        each = -(-total // count)
        given = [min(each, total - each * number) for number in range(count)]
    if sum(given) != total or min(given) < 0 or len(given) < len(call.node.outputs):
        raise UserError(f"parts of {given} of an axis of {total}.")
    ends = np.cumsum(given)
    place = x.place(axis)
    return tuple(
        x.like(lax.slice_in_dim(x.array, int(end - size), int(end), 1, place))
        for size, end in zip(given, ends, strict=True)
    )


@operator("Gather", settings=(1,))
def gather(call: Call, x: Operand, indices: Any) -> Tensor:
    """Takes entries along an axis, by their numbers."""
    x = x if isinstance(x, Tensor) else Tensor.plain(jnp.asarray(x))
    axis = axis_of(call.get("axis", 0), x.rank)
    size, place = x.shape[axis], x.place(axis)
    if np.size(indices) and not (-size <= np.min(indices) and np.max(indices) < size):
        raise UserError(f"entry {np.max(indices)} of an axis of {size}.")
    own = np.where(indices < 0, indices + size, indices)
    if _holds_examples(call, x, axis, own):
        return _of_each_example(call, x, own)
    if own.ndim == 0:
        array = lax.index_in_dim(x.array, int(own), place, keepdims=False)
        return Tensor(array, without(x.order, (axis,)))
    if own.ndim == 1:
        return x.like(_taken(x.array, own, place))
    taken = _taken(in_order(x), own.ravel(), axis)
    return Tensor.plain(taken.reshape(x.shape[:axis] + own.shape + x.shape[axis + 1 :]))


def _holds_examples(call: Call, x: Tensor, axis: int, indices: np.ndarray) -> bool:
    """Returns whether all numbers of one example after another are on the axis.

    PyTorch so writes a change of strides for a batch of one.
    """
    fixed, name = call.fixed, call.node.inputs[0]
    if fixed is None or fixed.batch != 1 or name not in fixed.shapes or indices.shape[:1] != (1,):
        return False
    return axis == fixed.axis(name, x.shape) == 0 and name not in fixed.inner


def _of_each_example(call: Call, x: Tensor, indices: np.ndarray) -> Tensor:
    """Takes the entries of one example from each."""
    assert call.fixed is not None
    count, rest = call.fixed.size, x.shape[1:]
    array = in_order(x).reshape(count, x.shape[0] // count, *rest)
    taken = _taken(array, indices.ravel(), 1)
    return Tensor.plain(taken.reshape(count, *indices.shape[1:], *rest))


def _taken(array: Any, indices: np.ndarray, place: int) -> Any:
    """Takes entries; evenly spaced ones as a slice."""
    steps = np.unique(np.diff(indices))
    if len(indices) and (len(steps) == 0 or (len(steps) == 1 and steps[0] > 0)):
        step = int(steps[0]) if len(steps) else 1
        return lax.slice_in_dim(array, int(indices[0]), int(indices[-1]) + 1, step, place)
    return jnp.take(array, indices, place)


@operator("GatherElements", settings=(1,))
def gather_elements(call: Call, x: Tensor, indices: Any) -> Tensor:
    """Takes one entry for each of the numbers in an array."""
    axis = axis_of(call.get("axis", 0), x.rank)
    return Tensor.plain(jnp.take_along_axis(in_order(x), jnp.asarray(indices), axis))


@operator("Pad", settings=(1, 2, 3))
def pad(call: Call, x: Tensor, pads: Any = None, value: Any = None, axes: Any = None) -> Tensor:
    """Adds numbers around an array, or crops it."""
    given = call.get("pads") if pads is None else pads.tolist()
    number = call.get("value", 0.0) if value is None else value.item() if value.size else 0
    own = range(x.rank) if axes is None else [axis_of(axis, x.rank) for axis in axes.tolist()]
    half = len(given) // 2
    widths = [(0, 0)] * x.rank
    for axis, low, high in zip(own, given[:half], given[half:], strict=True):
        widths[x.place(axis)] = (low, high)
    if max((abs(width) for pair in widths for width in pair), default=0) > _LARGEST:
        raise UserError(f"pads={given}: expected numbers up to {_LARGEST}.")
    mode = call.get("mode", "constant")
    if mode == "constant":
        config = [(low, high, 0) for low, high in widths]
        return x.like(lax.pad(x.array, np.asarray(number, x.array.dtype)[()], config))
    if mode not in _MODES or min(map(min, widths)) < 0:
        raise UserError(f"mode={mode} with pads={given} is not supported.")
    return x.like(jnp.pad(x.array, widths, mode=mode))
