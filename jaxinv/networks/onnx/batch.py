"""Shapes that a file holds for one size of batch, at another. NumPy.

`torch.onnx.export` writes the size of its example batch into the targets of reshapes. Where the
batch is, is known from the shapes of the same graph at its own batch.
"""

import math
from collections.abc import Sequence

import numpy as np

from jaxinv.errors import UserError

Shape = tuple[int, ...]


def resolved(target: Sequence[int], shape: Shape, *, allow_zero: bool = False) -> Shape:
    """Returns the shape that a Reshape makes of an array: 0 keeps an axis, -1 is what is left.

    Raises:
      UserError: the two do not hold as many numbers.
    """
    sizes = [
        shape[axis] if size == 0 and not allow_zero and axis < len(shape) else int(size)
        for axis, size in enumerate(target)
    ]
    others = math.prod(size for size in sizes if size != -1)
    total = math.prod(shape)
    if sizes.count(-1) == 1 and others and total % others == 0:
        sizes[sizes.index(-1)] = total // others
    if math.prod(sizes) != total or min(sizes, default=0) < 0:
        raise UserError(f"an array of shape {list(shape)} does not become {list(target)}.")
    return tuple(sizes)


def axis_of_batch(fixed: Shape, now: Shape) -> int | None:
    """Returns the axis in which an array grows with the batch; None where it does not."""
    grown = [axis for axis, pair in enumerate(zip(fixed, now, strict=True)) if pair[0] != pair[1]]
    if len(grown) > 1:
        raise UserError(f"several axes of an array {list(now)} grow with the batch.")
    return grown[0] if grown else None


def outer_of(fixed: Shape, axis: int, batch: int, *, is_inner: bool) -> int:
    """Returns the number of values outside the batch: how many batches follow each other."""
    return math.prod(fixed[:axis]) * (fixed[axis] // batch if is_inner else 1)


def rebatched(
    target: Shape, fixed: Shape, axis: int, outer: int, batch: int, size: int
) -> tuple[Shape, int, bool]:
    """Returns what a reshape to a shape makes of another batch.

    Args:
      target: its shape at the batch of the file.
      fixed: shape of what is reshaped, at that batch.
      axis: in which that grows.
      outer: number of values outside the batch.
      batch: that of the file.
      size: the batch now.

    Returns:
      The shape, the axis that grows, and whether the batch is innermost in it beside others.

    Raises:
      UserError: no axis can take the batch.
    """
    before = [math.prod(target[:place]) for place in range(len(target))]
    alone = [place for place, own in enumerate(target) if own == batch and before[place] == outer]
    first = [
        place for place, own in enumerate(target) if before[place] == outer and own % batch == 0
    ]
    inner = [
        place
        for place, own in enumerate(target)
        if own % batch == 0 and before[place] * own == outer * batch and outer > 1
    ]
    # Axes behind the batch that stay or join leave it to the axis before them; where they are
    # taken apart, it goes with the first of these.
    stays = bool(inner) and len(target) - inner[-1] <= len(fixed) - axis
    if alone:
        found, is_inner = alone[0], False
    elif inner and (stays or not first):
        found, is_inner = inner[-1], True
    elif first:
        found, is_inner = first[0], False
    else:
        raise UserError(
            f"a reshape to {list(target)} mixes the examples of a batch of {batch}: export it with "
            "a batch that is left open."
        )
    sizes = np.array(target)
    sizes[found] = sizes[found] // batch * size
    return tuple(sizes.tolist()), found, is_inner
