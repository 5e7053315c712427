"""Convolutions, with the channels last. JAX."""

from collections.abc import Sequence
from typing import Any

from jax import lax

from jaxinv.errors import UserError
from jaxinv.networks.onnx.graph import Node
from jaxinv.networks.onnx.registry import Call, operator
from jaxinv.networks.onnx.tensors import (
    Operand,
    Order,
    Tensor,
    channels_last,
    in_order,
    kernel_last,
)

_LARGEST = 2**16  # pixels of padding, or of a window

Pads = list[tuple[int, int]]


def pads_of(
    call: Call, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int]
) -> Pads:
    """Returns the padding before and behind each axis of space.

    Args:
      call: with the attributes `pads` or `auto_pad`.
      sizes: of the input.
      kernel: its sizes, dilated.
      strides: of the windows.
    """
    mode, count = call.get("auto_pad", "NOTSET"), len(sizes)
    if mode == "VALID":
        return [(0, 0)] * count
    if mode in ("NOTSET", ""):
        given = call.get("pads") or [0] * 2 * count
        if len(given) != 2 * count or max(map(abs, given), default=0) > _LARGEST:
            raise UserError(f"pads={given}: expected {2 * count} numbers up to {_LARGEST}.")
        return list(zip(given[:count], given[count:], strict=True))
    totals = [
        max((-(-size // stride) - 1) * stride + window - size, 0)
        for size, window, stride in zip(sizes, kernel, strides, strict=True)
    ]
    if mode == "SAME_LOWER":
        return [(total - total // 2, total // 2) for total in totals]
    if mode == "SAME_UPPER":
        return [(total // 2, total - total // 2) for total in totals]
    raise UserError(f"auto_pad={mode} is not known.")


def spatial(call: Call, name: str, count: int) -> tuple[int, ...]:
    """Returns an attribute that has a positive number for each axis of space, one by default."""
    found = tuple(call.get(name) or (1,) * count)
    if len(found) != count or not all(1 <= each <= _LARGEST for each in found):
        raise UserError(f"{name}={list(found)}: expected {count} numbers from 1 to {_LARGEST}.")
    return found


def _dimensions(rank: int) -> lax.ConvDimensionNumbers:
    images = (0, rank - 1, *range(1, rank - 1))
    return lax.ConvDimensionNumbers(images, (rank - 1, rank - 2, *range(rank - 2)), images)


def _kernel(node: Node, rank: int) -> Order:
    return kernel_last(rank)


def _transposed_kernel(node: Node, rank: int) -> Order:
    return (*range(2, rank), 0, 1)


def _check_rank(x: Tensor, kernel: Operand) -> None:
    rank = kernel.rank if isinstance(kernel, Tensor) else kernel.ndim
    if rank != x.rank:
        raise UserError(f"its kernel has {rank} axes, and its input {x.rank}.")


def _stored(x: Operand, order: Order) -> Any:
    return x.arranged(order) if isinstance(x, Tensor) else x.transpose(order)


def _by_channel(bias: Operand, rank: int) -> Any:
    return in_order(bias).reshape((1,) * (rank - 1) + (-1,))


@operator("Conv", kernels={1: _kernel}, is_step=True)
def conv(call: Call, x: Tensor, kernel: Operand, bias: Operand | None = None) -> Tensor:
    """Convolves a series, an image or a volume; grouped, strided or dilated."""
    _check_rank(x, kernel)
    order = channels_last(x.rank)
    images, weights = x.arranged(order), _stored(kernel, kernel_last(x.rank))
    count = x.rank - 2
    strides, dilations = (spatial(call, name, count) for name in ("strides", "dilations"))
    windows = [
        (size - 1) * dilation + 1
        for size, dilation in zip(weights.shape[:count], dilations, strict=True)
    ]
    y = lax.conv_general_dilated(
        images,
        weights,
        strides,
        pads_of(call, images.shape[1:-1], windows, strides),
        rhs_dilation=dilations,
        dimension_numbers=_dimensions(x.rank),
        feature_group_count=call.get("group", 1),
    )
    return Tensor(y if bias is None else y + _by_channel(bias, x.rank), order)


@operator("ConvTranspose", kernels={1: _transposed_kernel}, is_step=True)
def conv_transpose(call: Call, x: Tensor, kernel: Operand, bias: Operand | None = None) -> Tensor:
    """Convolves a dilated image, the transpose of a strided convolution."""
    if call.get("group", 1) != 1 or call.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise UserError("only one group and explicit padding are supported.")
    if call.get("output_shape"):
        raise UserError("output_shape is not supported: export it with pads.")
    _check_rank(x, kernel)
    order, count = channels_last(x.rank), x.rank - 2
    images, weights = x.arranged(order), _stored(kernel, (*range(2, x.rank), 0, 1))
    strides, dilations = (spatial(call, name, count) for name in ("strides", "dilations"))
    more = call.get("output_padding") or [0] * count
    pads = [
        ((size - 1) * dilation - low, (size - 1) * dilation - high + extra)
        for size, dilation, (low, high), extra in zip(
            weights.shape[:count],
            dilations,
            pads_of(call, images.shape[1:-1], weights.shape[:count], strides),
            more,
            strict=True,
        )
    ]
    y = lax.conv_general_dilated(
        images,
        lax.rev(weights, tuple(range(count))),
        (1,) * count,
        pads,
        lhs_dilation=strides,
        rhs_dilation=dilations,
        dimension_numbers=_dimensions(x.rank),
    )
    return Tensor(y if bias is None else y + _by_channel(bias, x.rank), order)
