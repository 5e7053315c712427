"""Images in an NPZ file: `images` or `x`, with `labels` or `y`, or `images_test` and so on."""

import contextlib
import os
import zipfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxinv.errors import UserError
from jaxinv.inputs import arrays, parts

_IMAGES, _LABELS = ("images", "x"), ("labels", "y")


class Names(NamedTuple):
    """Names of the arrays of a part: images, and labels or None."""

    images: str
    labels: str | None


def read(
    path: Path, size: tuple[int, int] | None
) -> tuple[np.ndarray, np.ndarray | None, list[str | None], bool]:
    """Returns pixels `[N, H, W, C]` uint8, labels `[N]` int32 or None, and the part of each image.

    The last value tells whether images were resized.

    Args:
      path: of the file.
      size: as for `arrays.pixels`.

    Raises:
      UserError: it is no such file; the message continues a sentence about the file.
      UsageError: an array is of another kind; the message names it.
    """
    with opened(path) as file:
        return _read(file, _names(file), size)


@contextlib.contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[Mapping[str, np.ndarray]]:
    """Yields the arrays of a file by their names; no code is loaded.

    Raises:
      UserError: it is no such file; the message continues a sentence about the file.
    """
    try:
        with open(os.path.expanduser(path), "rb") as file:  # np.load would leave a damaged one open
            if not zipfile.is_zipfile(file):
                raise UserError("is no file of np.savez, or was cut off.")
            file.seek(0)
            yield np.load(file, allow_pickle=False)
    except (UserError, OSError):
        raise
    except Exception as error:  # zipfile, zlib and NumPy raise many kinds
        raise UserError(f"cannot be read as FILE.npz ({type(error).__name__}: {error}).") from error


def _read(
    file: Mapping[str, np.ndarray], names: dict[str | None, Names], size: tuple[int, int] | None
) -> tuple[np.ndarray, np.ndarray | None, list[str | None], bool]:
    pixels: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    given: list[str | None] = []
    is_resized = False
    for part, known in names.items():
        found = file[known.images]
        pixels.append(arrays.pixels(found, size, name=known.images))
        is_resized |= found.shape[1:3] != pixels[-1].shape[1:3]
        if pixels[-1].shape[1:] != pixels[0].shape[1:]:
            raise UserError(
                f"has {known.images} of shape {list(pixels[-1].shape[1:])} beside "
                f"{list(pixels[0].shape[1:])}; all of one shape are needed, or image_size=HxW."
            )
        if known.labels:
            classes = arrays.labels(file[known.labels], len(pixels[-1]), name=known.labels)
            assert classes is not None
            labels.append(classes)
        given += [part] * len(pixels[-1])
    if labels and len(labels) != len(pixels):
        raise UserError("has labels of some parts alone; expected them of all, or of none.")
    joined = arrays.joined(labels) if labels else None
    return arrays.joined(pixels), joined, given, is_resized


def _names(found: Collection[str]) -> dict[str | None, Names]:
    """Returns the names of the arrays of each part, as `parts.named` has them."""
    for images, labels in zip(_IMAGES, _LABELS, strict=True):
        if images in found:
            return {None: Names(images, next((name for name in _LABELS if name in found), None))}
        splits = [name for name in parts.NAMES if f"{images}_{name}" in found]
        if splits:
            return {
                part: Names(
                    f"{images}_{name}", f"{labels}_{name}" if f"{labels}_{name}" in found else None
                )
                for name, part in parts.named(splits).items()
            }
    raise UserError(
        f"has the arrays {', '.join(sorted(found)[:10]) or '(none)'}; expected images (or x), with "
        "labels (or y) or not, or by part images_target, images_attacker and images_test."
    )
