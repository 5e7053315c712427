"""Features by index: their check, some rows of them, or several batches joined. NumPy."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxinv.errors import UsageError


def check_features(features: Any, shape: Sequence[int], *, name: str = "features") -> None:
    """Checks what crossed the wire, before anything is made of it.

    Args:
      features: `[N, *shape]` floats by index. Of what tells no shape the first row is looked at.
      shape: of an example at the cut.
      name: of the argument.

    Raises:
      UsageError: there are none, they are no floats, or they have another shape.
    """
    wanted = f"expected floats [N, {', '.join(map(str, shape))}], the features of this cut"
    try:
        count = len(features)
        row = features if hasattr(features, "shape") else features[np.arange(min(1, count))]
        found = tuple(row.shape)
    except (TypeError, AttributeError) as error:
        raise UsageError(f"{name}={type(features).__name__}: {wanted}.") from error
    kind = str(getattr(row, "dtype", "float32"))
    if found[1:] != tuple(shape) or "float" not in kind or not count:
        least = "" if count else ", N at least 1"
        raise UsageError(f"{name}={kind} [{', '.join(map(str, found))}]: {wanted}{least}.")


class Rows:
    """Chosen rows of features, by index: `[len(rows), ...]`."""

    def __init__(self, features: Any, rows: np.ndarray):
        self._features, self._rows = features, rows

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self), *self._features.shape[1:]

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        return self._features[self._rows[indices]]


class Joined:
    """Features of several batches in a row, by index: `[N1 + N2 + ..., ...]`."""

    def __init__(self, parts: Sequence[Any]):
        self._parts = list(parts)
        self._ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self), *self._parts[0].shape[1:]

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        indices = np.arange(len(self))[indices]
        number = np.searchsorted(self._ends, indices, side="right")
        rows: Any = None
        for own in np.unique(number):
            mine = number == own
            start = self._ends[own] - len(self._parts[own])
            found = self._parts[own][indices[mine] - start]
            if rows is None:
                rows = np.empty((len(indices), *found.shape[1:]), found.dtype)
            rows[mine] = found
        return rows
