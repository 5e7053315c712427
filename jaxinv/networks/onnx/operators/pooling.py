"""Pooling over windows, and over all of space. JAX."""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxinv.networks.onnx.operators.convolutions import Pads, pads_of, spatial
from jaxinv.networks.onnx.registry import Call, operator
from jaxinv.networks.onnx.tensors import Tensor, channels_last


class _Windows:
    """Windows of a pooling over `[N, ..., C]`.

    Attributes:
      kernel, strides, dilations: for each axis of space.
      pads: zeros that the file asks for.
      reach: padding with which every window fits, beyond `pads` where sizes are rounded up.
    """

    def __init__(self, call: Call, sizes: Sequence[int]):
        count = len(sizes)
        self.kernel = spatial(call, "kernel_shape", count)
        self.strides, self.dilations = (
            spatial(call, name, count) for name in ("strides", "dilations")
        )
        spans = [
            (size - 1) * dilation + 1
            for size, dilation in zip(self.kernel, self.dilations, strict=True)
        ]
        self.pads: Pads = pads_of(call, sizes, spans, self.strides)
        self.reach = self.pads
        if call.get("ceil_mode", 0):
            self.reach = [
                _reach(*each) for each in zip(sizes, spans, self.strides, self.pads, strict=True)
            ]

    @property
    def is_reshape(self) -> bool:
        """Returns whether windows neither overlap nor leave a gap, and nothing is padded."""
        plain = {*self.dilations} == {1} and all(pad == (0, 0) for pad in self.reach)
        return plain and self.kernel == self.strides

    def reduce(self, x: Array, start: Any, function: Any, pads: Pads | None = None) -> Array:
        """Combines the numbers of each window of `[N, ..., C]`."""
        return lax.reduce_window(
            x,
            start,
            function,
            (1, *self.kernel, 1),
            (1, *self.strides, 1),
            ((0, 0), *(self.reach if pads is None else pads), (0, 0)),
            window_dilation=(1, *self.dilations, 1),
        )

    def apart(self, x: Array) -> tuple[Array, tuple[int, ...]]:
        """Returns `[N, H, kh, W, kw, C]` of an array, and the axes of the windows."""
        counts = [size // own for size, own in zip(x.shape[1:-1], self.kernel, strict=True)]
        ends = [count * own for count, own in zip(counts, self.kernel, strict=True)]
        x = x[(slice(None), *(slice(end) for end in ends))]
        pairs = [each for pair in zip(counts, self.kernel, strict=True) for each in pair]
        axes = tuple(range(2, 2 * len(counts) + 1, 2))
        return x.reshape(x.shape[0], *pairs, x.shape[-1]), axes


def _reach(size: int, span: int, stride: int, pad: tuple[int, int]) -> tuple[int, int]:
    low, high = pad
    count = -(-(size + low + high - span) // stride) + 1
    if (count - 1) * stride >= size + low:
        count -= 1  # it would begin in the padding
    return low, max(high, (count - 1) * stride + span - size - low)


@operator("MaxPool", is_step=True)
def max_pool(call: Call, x: Tensor) -> Tensor:
    """Takes the maximum of each window."""
    order = channels_last(x.rank)
    images = x.arranged(order)
    windows = _Windows(call, images.shape[1:-1])
    if windows.is_reshape:  # its gradient is several times faster on CPU
        parts, axes = windows.apart(images)
        return Tensor(parts.max(axes), order)
    low = -np.inf if jnp.issubdtype(images.dtype, jnp.floating) else jnp.iinfo(images.dtype).min
    return Tensor(windows.reduce(images, np.asarray(low, images.dtype)[()], lax.max), order)


@operator("AveragePool", is_step=True)
def average_pool(call: Call, x: Tensor) -> Tensor:
    """Computes the mean of each window, with or without its padding."""
    order = channels_last(x.rank)
    images = x.arranged(order)
    windows = _Windows(call, images.shape[1:-1])
    if windows.is_reshape:
        parts, axes = windows.apart(images)
        return Tensor(parts.mean(axes), order)
    counts = _counts(call, windows, images.shape[1:-1]).astype(images.dtype)
    sums = windows.reduce(images, np.zeros((), images.dtype)[()], lax.add)
    return Tensor(sums * (1 / counts[None, ..., None]), order)


def _counts(call: Call, windows: _Windows, sizes: Sequence[int]) -> np.ndarray:
    """Returns how many numbers each window holds."""
    found = np.ones((1,) * len(sizes))
    for axis, size in enumerate(sizes):
        low, high = windows.pads[axis]
        row = np.zeros(windows.reach[axis][0] + size + windows.reach[axis][1])
        if call.get("count_include_pad", 0):
            row[: low + size + high] = 1
        else:
            row[low : low + size] = 1
        span = (windows.kernel[axis] - 1) * windows.dilations[axis] + 1
        starts = np.arange(0, len(row) - span + 1, windows.strides[axis])
        taps = np.arange(windows.kernel[axis]) * windows.dilations[axis]
        own = row[starts[:, None] + taps].sum(1)
        found = found * own.reshape([-1 if each == axis else 1 for each in range(len(sizes))])
    return found if math.prod(found.shape) > 1 else found.reshape((1,) * len(sizes))


@operator("GlobalAveragePool", "GlobalMaxPool", is_step=True)
def global_pool(call: Call, x: Tensor) -> Tensor:
    """Computes the mean or the maximum over all of space."""
    axes = x.places(range(2, x.rank))
    function = jnp.mean if call.node.operator == "GlobalAveragePool" else jnp.max
    return x.like(function(x.array, axes, keepdims=True))
