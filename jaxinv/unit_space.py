"""The contract of arrays of images, checked where they enter: floats in unit space, [0, 1]. NumPy.

Series and rows of tables are images in this, on a grid of their own (`constants.kinds`).

An array of another kind would give wrong numbers without a word: 8-bit pixels look like very bright
images. Nothing is scaled by a guess. Of an array that JAX traces type and shape are checked alone.
"""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from jaxinv.constants import kinds
from jaxinv.errors import UsageError

_SLACK = 1e-4  # float32's error of normalising and back, with room to spare


class Scaled:
    """Images in unit space, `[N, H, W, C]` float32, that are made of stored values by index.

    A slice leaves them unmade; an index array or `numpy.asarray` makes them.

    Args:
      pixels: `[N, H, W, C]` as `pixels` checks them, may be a memory map.
    """

    dtype, ndim = np.dtype(np.float32), 4

    def __init__(self, pixels: np.ndarray):
        self._pixels, self.shape = pixels, pixels.shape
        self.nbytes = pixels.size * self.dtype.itemsize

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, index: Any) -> Any:
        chosen = self._pixels[index]
        return Scaled(chosen) if isinstance(index, slice) else scaled(chosen)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        del copy
        return scaled(self._pixels).astype(dtype or self.dtype, copy=False)


Images = np.ndarray | Scaled
"""Images in unit space, `[N, H, W, C]` float32, in memory or made when they are indexed."""


def scaled(pixels: np.ndarray) -> np.ndarray:
    """Returns stored values as float32 in unit space: 8-bit pixels are divided by 255."""
    if pixels.dtype != np.uint8:
        return np.asarray(pixels, np.float32)
    return np.divide(pixels, np.float32(255), dtype=np.float32)


def from_stored(pixels: Any) -> Any:
    """Returns stored values in unit space, as `scaled` does; traceable by JAX."""
    return pixels.astype(np.float32) / 255 if pixels.dtype == np.uint8 else pixels


def images(array: Any, shape: Sequence[int] | None = None, *, name: str = "images") -> np.ndarray:
    """Returns images as a float32 array, checked to be in unit space; `Scaled` as they are.

    Args:
      array: `[N, *shape]` floats, an array or lists, or `Scaled`.
      shape: of one image; None for any `(H, W, C)`.
      name: of the argument.

    Raises:
      UsageError: they are whole numbers or no numbers, have another shape, are not finite, or lie
        outside [0, 1] by more than rounding.
    """
    if isinstance(array, Scaled):
        _check_shape(array, shape, name)
        return cast(np.ndarray, array)  # has what is asked of one
    array = _floats(array, shape, name)
    if not _is_known(array):
        return array
    least, most = float(array.min()), float(array.max())
    if not (least >= -_SLACK and most <= 1 + _SLACK):  # NaN compares as false
        raise UsageError(f"{name}={_spelled(array)}: expected unit space, [0, 1].")
    return array


def reconstructions(array: Any, shape: Sequence[int] | None = None, *, name: str) -> np.ndarray:
    """Returns reconstructions as a float32 array, of any value, also infinite ones.

    Attackers may leave unit space, so floats are taken as they are, and metrics clip them. Whole
    numbers up to 255 are pixels of 8 bits, whatever their type.

    Args:
      array, shape, name: as for `images`.

    Raises:
      UsageError: they are whole numbers or no numbers, or have another shape.
    """
    array = _floats(array, shape, name)
    if _is_known(array) and _are_bytes(array):
        raise UsageError(
            f"{name}={_spelled(array)}, all whole: expected unit space, [0, 1] (divide by 255)."
        )
    return array


def labels(
    array: Any, count: int, classes: int | None = None, *, name: str = "labels"
) -> np.ndarray:
    """Returns labels as an array, checked to be one class for each of some images.

    Args:
      array: `[count]` whole numbers.
      count: number of images.
      classes: number of classes; None where any will do.
      name: of the argument.

    Raises:
      UsageError: they are no whole numbers, are not as many, or are no classes.
    """
    array = _array(array, name)
    if array.dtype.kind not in "iu" or array.shape != (count,):
        raise UsageError(
            f"{name}={_kind(array)}: expected a whole number for each of {count} images."
        )
    if _is_known(array) and (array.min() < 0 or array.max() >= (classes or np.inf)):
        allowed = "at least 0" if classes is None else f"0 to {classes - 1}"
        raise UsageError(f"{name}={_spelled(array)}: expected classes of {allowed}.")
    return array


def pixels(array: Any, *, name: str = "pixels") -> None:
    """Checks that an array is one of stored values; a memory map is not read.

    Args:
      array: `[N, H, W, C]`: uint8 pixels as files have them; of series and tables, on their grid,
        float32 in unit space.
      name: of the argument.

    Raises:
      UsageError: it is not.
    """
    shape = getattr(array, "shape", ())
    wanted = np.uint8 if kinds.of(shape[1:]) == kinds.IMAGE else np.float32
    if len(shape) != 4 or getattr(array, "dtype", None) not in (np.uint8, wanted):
        raise UsageError(f"{name}={_kind(array)}: expected a uint8 array [N, H, W, C].")


def _floats(value: Any, shape: Sequence[int] | None, name: str) -> Any:
    array = _array(value, name)
    if "float" not in str(array.dtype):  # also those of half precision, which NumPy does not know
        hint = " (divide by 255)" if array.dtype == np.uint8 else ""
        raise UsageError(f"{name}={_spelled(array)}: expected floats in unit space, [0, 1]{hint}.")
    _check_shape(array, shape, name)
    return array if array.dtype == np.float32 else array.astype(np.float32)


def _check_shape(array: Any, shape: Sequence[int] | None, name: str) -> None:
    fits = array.ndim == 4 if shape is None else array.ndim and array.shape[1:] == tuple(shape)
    if not fits:
        wanted = "H, W, C" if shape is None else ", ".join(map(str, shape))
        raise UsageError(f"{name}={_kind(array)}: expected images [N, {wanted}].")


def _array(value: Any, name: str) -> Any:
    """Returns an array, or nested lists, as a NumPy array; one that JAX traces as it is."""
    if hasattr(value, "dtype") or isinstance(value, list | tuple):
        try:
            return np.asarray(value)
        except (TypeError, ValueError):
            if hasattr(value, "dtype"):
                return value
    raise UsageError(f"{name}={_kind(value)}: expected an array.")


def _is_known(array: Any) -> bool:
    """Returns whether an array has values to look at."""
    return isinstance(array, np.ndarray) and array.size > 0


def _are_bytes(array: np.ndarray) -> bool:
    finite = array[np.isfinite(array)]  # those of a diverged image do not hide the others
    most = finite.max(initial=0)
    return bool(1 < most <= 255 and finite.min() >= 0 and (finite == np.round(finite)).all())


def _kind(value: Any) -> str:
    """Spells type and shape of an array, or the type of anything else."""
    if not hasattr(value, "dtype"):
        return type(value).__name__
    return f"{value.dtype} [{', '.join(map(str, value.shape))}]"


def _spelled(array: Any) -> str:
    """Spells type, shape and range of an array."""
    if not _is_known(array) or array.dtype.kind not in "fiub":
        return _kind(array)
    if not np.isfinite(array).all():
        return f"{_kind(array)} with values that are not finite"
    least, most = (f"{float(value):g}" for value in (array.min(), array.max()))
    return f"{_kind(array)} from {least} to {most}"
