"""Images in the order of each of several shadows, without a copy for each. NumPy."""

from typing import Any

import numpy as np


class Reordered:
    """Array `[N, S, ...]` whose rows are made when they are indexed.

    Args:
      rows: `[N, ...]`, may be a memory map.
      order: `[N, S]`, the row in each place of each shadow.
    """

    def __init__(self, rows: np.ndarray, order: np.ndarray):
        self._rows, self._order = rows, order
        self.shape, self.dtype = (*order.shape, *rows.shape[1:]), rows.dtype
        self.nbytes = int(np.prod(self.shape)) * rows.dtype.itemsize

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: Any) -> np.ndarray:
        return np.asarray(self._rows[self._order[index]])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        del copy
        return np.asarray(self[:], dtype)
