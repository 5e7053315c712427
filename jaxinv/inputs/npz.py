"""Inputs in an NPZ file: `images`, `series`, `table` or `x`, with `labels` or `y`, or by part.

An array's name tells its kind: `images` are images, `series` are `[N, T]` or `[N, T, C]`, a `table`
is `[N, F]`. `x` of floats is a table if it has two axes, and series if it has three and the file
names their `columns`; else it is images. Series and tables may have `columns`, `units`, `low` and
`high`, for each column.
"""

import contextlib
import os
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxinv.constants import kinds
from jaxinv.errors import UserError
from jaxinv.inputs import arrays, parts
from jaxinv.inputs.vectors import Vectors, checked

_INPUTS, _LABELS = ("images", "x", "series", "table"), ("labels", "y")
_COLUMNS = {"names": "columns", "units": "units", "low": "low", "high": "high"}


class Names(NamedTuple):
    """Names of the arrays of a part: inputs, and labels or None."""

    inputs: str
    labels: str | None


def read(
    path: Path, size: tuple[int, int] | None
) -> Vectors | tuple[np.ndarray, np.ndarray | None, list[str | None], bool]:
    """Returns pixels `[N, H, W, C]` uint8, labels `[N]` int32 or None, and the part of each image.

    The last value tells whether images were resized. Of series and tables returns `Vectors`.

    Args:
      path: of the file.
      size: as for `arrays.pixels`.

    Raises:
      UserError: it is no such file; the message continues a sentence about the file.
      UsageError: an array is of another kind; the message names it.
    """
    with opened(path) as file:
        names = _names(file)
        kind = _kind(file, next(iter(names.values())).inputs)
        if kind == kinds.IMAGE:
            return _read(file, names, partial(arrays.pixels, size=size))
        values, labels, given, _ = _read(file, names, partial(checked, kind=kind))
        return Vectors(values, labels, given, kind, columns_of(file))


def columns_of(file: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Returns what a file tells of its columns, as `columns.measured` takes it."""
    return {key: file[name] for key, name in _COLUMNS.items() if name in file}


def _kind(file: Mapping[str, np.ndarray], name: str) -> kinds.Kind:
    """Returns the kind of inputs that an array's name tells, and of `x` its axes."""
    told = name.partition("_")[0]
    if told in kinds.KINDS:
        return kinds.KINDS[told]
    if told != "x" or file[name].dtype.kind != "f":
        return kinds.IMAGE
    axes = file[name].ndim
    if axes == 2:
        return kinds.TABLE
    return kinds.SERIES if axes == 3 and _COLUMNS["names"] in file else kinds.IMAGE


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
    file: Mapping[str, np.ndarray],
    names: dict[str | None, Names],
    read_inputs: Callable[..., np.ndarray],
) -> tuple[np.ndarray, np.ndarray | None, list[str | None], bool]:
    inputs: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    given: list[str | None] = []
    is_resized = False
    for part, known in names.items():
        found = file[known.inputs]
        inputs.append(read_inputs(found, name=known.inputs))
        is_resized |= found.shape[1:3] != inputs[-1].shape[1:3]
        if inputs[-1].shape[1:] != inputs[0].shape[1:]:
            raise UserError(
                f"has {known.inputs} of shape {list(inputs[-1].shape[1:])} beside "
                f"{list(inputs[0].shape[1:])}; all of one shape are needed, or image_size=HxW."
            )
        if known.labels:
            classes = arrays.labels(file[known.labels], len(inputs[-1]), name=known.labels)
            assert classes is not None
            labels.append(classes)
        given += [part] * len(inputs[-1])
    if labels and len(labels) != len(inputs):
        raise UserError("has labels of some parts alone; expected them of all, or of none.")
    joined = arrays.joined(labels) if labels else None
    return arrays.joined(inputs), joined, given, is_resized


def _names(found: Collection[str]) -> dict[str | None, Names]:
    """Returns the names of the arrays of each part, as `parts.named` has them."""
    for inputs in _INPUTS:
        labels = "y" if inputs == "x" else "labels"
        if inputs in found:
            return {None: Names(inputs, next((name for name in _LABELS if name in found), None))}
        splits = [name for name in parts.NAMES if f"{inputs}_{name}" in found]
        if splits:
            return {
                part: Names(
                    f"{inputs}_{name}", f"{labels}_{name}" if f"{labels}_{name}" in found else None
                )
                for name, part in parts.named(splits).items()
            }
    raise UserError(
        f"has the arrays {', '.join(sorted(found)[:10]) or '(none)'}; expected images (or x), "
        "series or table, with labels (or y) or not, or by part images_target, images_attacker and "
        "images_test."
    )
