"""Series and tables as datasets: divided into parts, and scaled to unit space by column. NumPy."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxinv.constants import kinds
from jaxinv.errors import UsageError, UserError
from jaxinv.inputs import columns, packing, parts
from jaxinv.inputs.cache import Entry


class Vectors(NamedTuple):
    """Series or rows of a table, as their file has them.

    Attributes:
      values: `[N, T, C]`, `[N, T]` or `[N, F]`, float64.
      labels: `[N]` int32, or None.
      given: the part of each, as `parts.named` has them.
      kind: of input.
      told: `names`, `units`, `low` and `high` of columns, as `columns.measured` takes them.
    """

    values: np.ndarray
    labels: np.ndarray | None
    given: Sequence[str | None]
    kind: kinds.Kind
    told: dict[str, Any]


def checked(array: Any, kind: kinds.Kind, *, name: str) -> np.ndarray:
    """Returns values as float64, checked to be series `[N, T]`, `[N, T, C]` or rows `[N, F]`.

    Raises:
      UsageError: they are no numbers of these axes, are none, or are not finite.
    """
    given = np.asarray(array)
    ranks, axes = ((2,), "[N, F]") if kind == kinds.TABLE else ((2, 3), "[N, T] or [N, T, C]")
    spelled = f"{name}={given.dtype} [{', '.join(map(str, given.shape))}]"
    if given.dtype.kind not in "iuf" or given.ndim not in ranks or not given.size:
        raise UsageError(f"{spelled}: expected numbers {axes}.")
    if kind == kinds.SERIES and given.shape[1] < 2:
        raise UsageError(f"{spelled}: expected series of at least 2 steps.")
    found = given.astype(np.float64)
    if not np.isfinite(found).all():
        row = int(np.flatnonzero(~np.isfinite(found.reshape(len(found), -1)).all(1))[0])
        raise UsageError(f"{spelled}: row {row} has a value that is missing or not finite.")
    return found


def assembled(given: Vectors, source: str, *, num_classes: int | None = None) -> Entry:
    """Returns the entry of a dataset of series or rows.

    The range of each column is that of the samples that train, unless it is given. Test samples
    beyond it are clipped, and counted in the source.

    Raises:
      UserError: there are no test samples; the message continues a sentence about the dataset.
    """
    hashed = not {*given.given} <= {*parts.PARTS}
    places = parts.by_hash(given.values) if hashed else np.zeros(len(given.values))
    order, counts = parts.divide(given.given, places, in_order=True)
    if not counts[2]:
        raise UserError("has no test samples; at least 1 is needed.")
    start = counts[0] + counts[1]
    values = given.values[order]
    known = columns.measured(values[: start or None], given.kind, **given.told)
    unit = known.to_unit(values)
    outside = int(((unit < 0) | (unit > 1)).sum())
    stored = np.clip(unit, 0, 1).astype(np.float32)
    labels = None if given.labels is None else given.labels[order]
    if num_classes is None:
        num_classes = 0 if labels is None else int(labels.max()) + 1
    ends = "given" if "low" in given.told or "high" in given.told else _measured_on(start)
    source += f", {parts.BY_HASH.replace('image', 'sample')}" if hashed else ""
    source += f", ranges of columns {ends}"
    source += f", {outside:,} of {unit.size:,} values beyond them clipped" if outside else ""
    return packing.packed(
        (stored[:start], None if labels is None else labels[:start]),
        (stored[start:], None if labels is None else labels[start:]),
        num_target=counts[0],
        num_classes=num_classes,
        source=source,
        columns=known.facts,
    )


def _measured_on(count: int) -> str:
    return f"of the {count:,} samples that train" if count else "of the test samples, the only ones"


def check_no_size(size: Any, kind: kinds.Kind) -> None:
    """Refuses a size for what is no image.

    Raises:
      UsageError: there is one.
    """
    if size is not None:
        told = "x".join(map(str, size)) if isinstance(size, tuple) else size
        raise UsageError(f"image_size={told}: expected images, and these are {kind.plural}.")
