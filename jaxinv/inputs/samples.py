"""Images or other inputs and their classes, as arrays that may be larger than memory. NumPy."""

import numpy as np

from jaxinv import unit_space
from jaxinv.errors import UserError
from jaxinv.machine import memory


class Samples:
    """Images and, where they are known, their classes.

    Attributes:
      pixels: [N, H, W, C] uint8; of series and tables float32 in unit space, on their grid. May be
        a read-only memory map.
      has_labels: whether classes are known.

    Raises:
      UsageError: the pixels are no such array, or the labels are not one class for each.
    """

    def __init__(self, pixels: np.ndarray, labels: np.ndarray | None = None):
        unit_space.pixels(pixels)
        if labels is not None:
            unit_space.labels(labels, len(pixels))
        self.pixels, self._labels = pixels, labels
        self.has_labels = labels is not None

    @property
    def labels(self) -> np.ndarray:
        """The classes, [N] int32.

        Raises:
          UserError: they are not known.
        """
        if self._labels is None:
            raise UserError(
                "the dataset has no labels, and this needs them: images in folders by class, or "
                "labels beside them."
            )
        return self._labels

    @property
    def images(self) -> np.ndarray:
        """The images in unit space, [N, H, W, C] float32 in [0, 1], made anew at each access.

        Raises:
          UserError: there is no memory for all of them.
        """
        wanted = self.pixels.size * np.dtype(np.float32).itemsize
        memory.check(f"{len(self):,} images at once", wanted, "take fewer or smaller ones")
        return unit_space.scaled(self.pixels)

    @property
    def scaled(self) -> unit_space.Scaled:
        """The images in unit space, made when they are indexed."""
        return unit_space.Scaled(self.pixels)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """`pixels` and `labels`, as plain arrays that training takes; memory maps are not read."""
        return {"pixels": np.asarray(self.pixels), "labels": self.labels}

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: slice | np.ndarray) -> "Samples":
        """Returns the chosen samples; `index` is a slice or an array of indices."""
        pixels = self.pixels[index]
        if pixels.ndim != self.pixels.ndim:
            raise TypeError(f"Expected a slice or an index array, not {index!r}.")
        return Samples(pixels, self._labels[index] if self._labels is not None else None)
