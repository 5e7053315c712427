"""Arrays of images and labels that a user has, checked and made 8-bit pixels. NumPy code."""

from typing import Any

import numpy as np

from jaxinv import unit_space
from jaxinv.errors import UsageError
from jaxinv.inputs import images

_CHUNK = 256  # images rounded at a time
_COLOURS = (1, 3, 4)  # channels of an image, usually


def pixels(array: Any, size: tuple[int, int] | None, *, name: str = "images") -> np.ndarray:
    """Returns images as `[N, H, W, C]` uint8: the array itself if it is that already.

    Args:
      array: `[N, H, W]` or `[N, H, W, C]` of any number of channels; uint8, or floats in [0, 1],
        which are rounded to 8 bits.
      size: height and width that images are resized to, as `images.fitted` does; None keeps theirs.
      name: of the argument.

    Raises:
      UsageError: it is no such array, or holds no image.
    """
    given = np.asarray(array)
    if given.ndim == 3:
        given = given[..., None]
    if given.dtype != np.uint8:
        given = unit_space.images(given, name=name)
    _check_axes(given, name)
    if size in (None, given.shape[1:3]) and given.dtype == np.uint8:
        return given
    shape = (*(size or given.shape[1:3]), given.shape[3])
    found = np.empty((len(given), *shape), np.uint8)
    for start in range(0, len(given), _CHUNK):
        some = _rounded(given[start : start + _CHUNK])
        if some.shape[1:] != shape:
            some = np.stack([images.fitted(image, shape) for image in some])
        found[start : start + _CHUNK] = some
    return found


def _check_axes(given: np.ndarray, name: str) -> None:
    """Refuses arrays that hold no images, or whose channels seem to come first.

    Raises:
      UsageError: they do.
    """
    kind = f"{name}={given.dtype} [{', '.join(map(str, given.shape))}]"
    if given.ndim != 4 or not given.size:
        raise UsageError(f"{kind}: expected images [N, H, W, C].")
    _, first, middle, last = given.shape
    if last > _COLOURS[-1] and (first in _COLOURS or first < middle == last):
        raise UsageError(
            f"{kind}: expected images [N, H, W, C], and these look like [N, C, H, W]; "
            "numpy.moveaxis(images, 1, 3) moves their channels."
        )


def _rounded(some: np.ndarray) -> np.ndarray:
    if some.dtype == np.uint8:
        return some
    return np.rint(np.clip(some, 0, 1) * np.float32(255)).astype(np.uint8)


def labels(array: Any, count: int, *, name: str = "labels") -> np.ndarray | None:
    """Returns labels as `[count]` int32; None if there are none.

    Args:
      array: `[count]` or `[count, 1]` whole numbers from 0, or None.
      count: number of images.
      name: of the argument.

    Raises:
      UsageError: they are no such array.
    """
    if array is None:
        return None
    given = np.asarray(array)
    flat = given[:, 0] if given.ndim == 2 and given.shape[1] == 1 else given
    checked = unit_space.labels(flat, count, np.iinfo(np.int32).max, name=name)
    return np.array(checked, np.int32)


def joined(some: list[np.ndarray]) -> np.ndarray:
    """Returns arrays in one, and empties the list, so that one array at most is held twice."""
    if len(some) == 1:
        return some.pop()
    whole = np.empty((sum(map(len, some)), *some[0].shape[1:]), some[0].dtype)
    start = 0
    while some:
        part = some.pop(0)
        whole[start : start + len(part)] = part
        start += len(part)
    return whole
