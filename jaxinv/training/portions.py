"""Training examples on the devices: all at once if they fit, else some steps at a time. JAX."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh

from jaxinv.machine import devices, memory


class Portions:
    """Batches of a tree of arrays, sent to the devices in portions of an epoch's steps.

    The examples of a step, and their order, do not depend on the size of a portion. Arrays that do
    not fit are read row by row, so that a memory map is never loaded as a whole, nor are rows that
    are made when they are indexed.

    Args:
      mesh: the devices, each of which holds all examples of a portion.
      data: arrays `[N, ...]`.
      batch_size: examples of a step, at most N.
    """

    def __init__(self, mesh: Mesh, data: Any, batch_size: int):
        leaves = jax.tree.leaves(data)
        size = len(leaves[0])
        self.steps = size // batch_size
        total = sum(leaf.nbytes for leaf in leaves if not isinstance(leaf, jax.Array))
        most = memory.step()
        self._mesh, self._batch_size, self._fits = mesh, batch_size, total <= most
        if self._fits:
            self._length = self.steps
            self._data = devices.put(mesh, jax.tree.map(_whole, data))
        else:
            # One portion is still held while the next is sent.
            of_a_step = -(-total * batch_size // size)
            self._length = min(max(most // (2 * of_a_step), 1), self.steps)
            self._data = data

    @property
    def in_order(self) -> np.ndarray:
        """Order of the steps of an epoch that is not shuffled, `[steps, batch_size]`."""
        count = self.steps * self._batch_size
        return np.arange(count, dtype=np.int32).reshape(self.steps, self._batch_size)

    def of_epoch(self, order: np.ndarray) -> Iterator[tuple[int, int, Any, Array]]:
        """Yields the portions of an epoch, all of one shape.

        Args:
          order: `[steps, batch_size]` int32, the examples of each step.

        Yields:
          The portion's first step, its number of steps, its examples (a tree of arrays), and the
          places of each step's examples among these, `[L, batch_size]`.
        """
        if self._fits:
            yield 0, self.steps, self._data, devices.put(self._mesh, order)
            return
        for first in range(0, self.steps, self._length):
            count = min(self._length, self.steps - first)
            part = order[np.minimum(first + np.arange(self._length), self.steps - 1)]
            rows = np.sort(part.ravel())  # disks read in order
            places = np.searchsorted(rows, part).astype(np.int32)
            examples = jax.tree.map(lambda leaf, rows=rows: np.asarray(leaf[rows]), self._data)
            yield first, count, *devices.put(self._mesh, (examples, places))


def _whole(leaf: Any) -> Any:
    return leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)
