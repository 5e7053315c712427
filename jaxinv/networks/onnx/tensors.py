"""Arrays that are stored in another order of their axes than ONNX names them in. JAX.

A convolution in ONNX takes `[N, C, H, W]`. Here its values are stored as `[N, H, W, C]`, and each
carries the order of its axes, so that a transposition moves nothing until somebody needs it.
"""

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxinv.errors import UserError

Order = tuple[int, ...]
"""ONNX's axis of each axis that is stored."""


@dataclasses.dataclass(frozen=True, eq=False)
class Tensor:
    """A value of a graph.

    Attributes:
      array: as it is stored.
      order: ONNX's axis of each axis of it.
    """

    array: Array
    order: Order

    @classmethod
    def plain(cls, array: Array) -> "Tensor":
        """Makes a tensor of an array in ONNX's order."""
        return cls(array, tuple(range(array.ndim)))

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.order)

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes, in ONNX's order."""
        sizes = dict(zip(self.order, self.array.shape, strict=True))
        return tuple(sizes[axis] for axis in range(self.rank))

    def place(self, axis: int) -> int:
        """Returns where one of ONNX's axes is stored."""
        return self.order.index(axis_of(axis, self.rank))

    def places(self, axes: Collection[int]) -> tuple[int, ...]:
        """Returns where some of ONNX's axes are stored."""
        return tuple(map(self.place, axes))

    def arranged(self, order: Order) -> Array:
        """Returns the array with its axes in another order."""
        if order == self.order:
            return self.array
        return jnp.transpose(self.array, [self.order.index(axis) for axis in order])

    def like(self, array: Array) -> "Tensor":
        """Makes a tensor of an array that is stored in the same order."""
        return Tensor(array, self.order)


Operand = Tensor | np.ndarray
"""An input of an operator: an array of the network, or a constant of the graph."""


def axis_of(axis: Any, rank: int) -> int:
    """Returns an axis counted from the first.

    Raises:
      UserError: there is no such axis.
    """
    if not -rank <= axis < rank:
        raise UserError(f"axis {axis} of an array with {rank} axes")
    return int(axis) % rank


def channels_last(rank: int) -> Order:
    """Returns the order in which images and series are stored: `[N, ..., C]`."""
    return (0, *range(2, rank), 1) if rank > 1 else tuple(range(rank))


def kernel_last(rank: int) -> Order:
    """Returns the order in which kernels are stored: `[..., in, out]`."""
    return (*range(2, rank), 1, 0)


def in_order(operand: Operand) -> Any:
    """Returns an array in ONNX's order."""
    if isinstance(operand, Tensor):
        return operand.arranged(tuple(range(operand.rank)))
    return operand


def without(order: Order, axes: Collection[int]) -> Order:
    """Returns the order of what is left when some axes are gone."""
    left = [axis for axis in order if axis not in axes]
    ranks = {axis: number for number, axis in enumerate(sorted(left))}
    return tuple(ranks[axis] for axis in left)


def aligned(*operands: Operand) -> tuple[list[Any], Order]:
    """Returns arrays that broadcast against each other as ONNX's do, and their common order."""
    tensors = [operand for operand in operands if isinstance(operand, Tensor)]
    lead = max(tensors, key=lambda each: (each.rank, each.array.size, each.order[:1] == (0,)))
    rank = max(np.ndim(in_) if isinstance(in_, np.ndarray) else in_.rank for in_ in operands)
    order = _raised(lead.order, rank)
    return [_arranged(operand, order) for operand in operands], order


def _raised(order: Order, rank: int) -> Order:
    """Returns the order of an array to which axes of size one are added in front."""
    more = rank - len(order)
    return (*range(more), *(axis + more for axis in order))


def _arranged(operand: Operand, order: Order) -> Any:
    rank = len(order)
    if isinstance(operand, Tensor) and _raised(operand.order, rank) == order:
        return operand.array if operand.rank == rank else _reshaped(operand.array, rank)
    array = in_order(operand)
    if array.size == 1 and isinstance(array, np.ndarray):
        return array.reshape(())  # a number, which programs are looked through for
    return _reshaped(array, rank).transpose(order)


def _reshaped(array: Any, rank: int) -> Any:
    shape: Sequence[int] = array.shape
    return array.reshape((1,) * (rank - len(shape)) + tuple(shape))
