"""Features that are made when they are indexed: some rows, or several batches joined."""

from collections.abc import Sequence
from typing import Any

import numpy as np


class Rows:
    """Chosen rows of features, by index: `[len(rows), ...]`."""

    def __init__(self, features: Any, rows: np.ndarray):
        self._features, self._rows = features, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        return self._features[self._rows[indices]]


class Joined:
    """Features of several batches in a row, by index: `[N1 + N2 + ..., ...]`."""

    def __init__(self, parts: Sequence[Any]):
        self._parts = list(parts)
        self._ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

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
