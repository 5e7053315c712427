"""Datasets of a user's own: a folder of images, FILE.npz, FILE.csv, or what `save_to_disk` left.

They are identified by their content, decoded once, and cached.
"""

import os
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from jaxinv.constants import kinds
from jaxinv.errors import UsageError, UserError
from jaxinv.inputs import cache as _cache
from jaxinv.inputs import (
    embedded,
    encoded,
    folder,
    npz,
    packing,
    parts,
    saved,
    sheet,
    stamps,
    tfds,
    vectors,
)
from jaxinv.store import files

# Names of data of which figures and targets are known.
_KNOWN = ("mnist", "cifar10", embedded.NAME, embedded.TABLE)


def path_of(name: str, roots: Callable[[], list[Path]]) -> Path | None:
    """Returns the path that a dataset's name spells, or None if it is a name of TFDS or ours.

    It is a path if it has a separator, ends in .npz or .csv, or begins with . or ~, but for a TFDS
    name with a configuration; else if a folder has this name.

    Args:
      name: as the user writes it.
      roots: returns the directories of prepared TFDS datasets.

    Raises:
      UsageError: there is no such file or folder, or it could be either.
    """
    spec = tfds.NAME.fullmatch(name)
    path = Path(files.expanded("dataset", name))
    is_file = name.endswith((".npz", ".csv"))
    if is_file or name.startswith((".", "~", "/")) or (not spec and "/" in name):
        if not os.path.exists(path):
            raise UsageError(f"dataset={name}: there is no such file or folder.")
        return path
    if not name or not os.path.isdir(path):
        return None
    if spec and _is_known(name, roots):
        raise UsageError(
            f"dataset={name}: is a folder here and a dataset of TFDS, too; write ./{name} for the "
            f"folder, or {name}:VERSION for the dataset."
        )
    return path


def _is_known(name: str, roots: Callable[[], list[Path]]) -> bool:
    """Tells whether jaxinv or TFDS has a dataset of a name."""
    if name in _KNOWN:
        return True
    spec = tfds.parse(name)
    return tfds.find_in(roots(), spec) is not None or spec.name in tfds.catalogue()


def title_of(path: Path) -> str:
    """Returns the name that records hold: the last component, told from the datasets of this name.

    The shipped targets and the paper's figures are not of such data.
    """
    last = os.path.basename(os.path.abspath(path)) or "root"
    name = "".join(each if each.isprintable() else "_" for each in last)
    name = name.encode("utf-8", "replace").decode("utf-8")
    return f"{name} (folder)" if name in _KNOWN else name


def load(
    path: Path, size: tuple[int, int] | None, cache: Path, announce: Callable[[str], None]
) -> tuple[str, _cache.Entry]:
    """Returns the name of a dataset of a user's own, and its arrays, decoded now or before.

    Args:
      path: of the file or folder.
      size: height and width that images are resized to, or None for the one size that they have.
      cache: folder of decoded datasets.
      announce: receives lines for the user.

    Raises:
      UserError: it is no such dataset; the message continues a sentence about it.
    """
    if not path.is_dir():
        read = _of_sheet if path.suffix.lower() == ".csv" else _of_npz
        found, build = {path.name: path}, partial(read, path, size)
    elif saved.is_one(path):
        found, build = saved.files(path), partial(_of_saved, path, size)
    else:
        images = folder.find(path)
        if images.num_others:
            announce(
                f"Of the files in {path.name or path}, {images.num_others} are no images "
                "(PNG, JPEG, WebP, BMP) and are skipped."
            )
        found, build = images.paths, partial(_of_folder, images, size)
    digest = stamps.digest(path, found, cache.with_name("sources"), stamps.stamp)
    title = title_of(path)
    key = "-".join([re.sub(r"[^\w.-]+", "_", title)[:40], *map(str, size or ()), digest])
    return title, _cache.fetch(cache / key, build, announce=announce)


def assembled(
    pixels: np.ndarray,
    labels: np.ndarray | None,
    given: Sequence[str | None],
    *,
    num_classes: int | None = None,
    in_order: bool,
    source: str,
) -> _cache.Entry:
    """Returns the entry of images that are divided into parts.

    Args:
      pixels: `[N, H, W, C]` uint8, which are brought into another order in place.
      labels: `[N]` int32, or None.
      given: the part of each, as `parts.named` has them.
      num_classes: by default as many as labels tell.
      in_order: as for `parts.divide`.
      source: of the data, in words.

    Raises:
      UserError: there are no test images; the message continues a sentence about the dataset.
    """
    hashed = not {*given} <= {*parts.PARTS}
    places = parts.by_hash(pixels) if hashed or not in_order else np.zeros(len(pixels))
    order, counts = parts.divide(given, places, in_order=in_order)
    if not counts[2]:
        raise UserError("has no test images; at least 1 is needed.")
    parts.permute(pixels, order)
    start = counts[0] + counts[1]
    sorted_labels = None if labels is None else labels[order]
    if num_classes is None:
        num_classes = 0 if labels is None else int(labels.max()) + 1
    if hashed:
        source += f", {parts.BY_HASH}"
    return packing.packed(
        (pixels[:start], None if sorted_labels is None else sorted_labels[:start]),
        (pixels[start:], None if sorted_labels is None else sorted_labels[start:]),
        num_target=counts[0],
        num_classes=num_classes,
        source=source,
    )


def _of_npz(path: Path, size: tuple[int, int] | None) -> _cache.Entry:
    found = npz.read(path, size)
    if isinstance(found, vectors.Vectors):
        vectors.check_no_size(size, found.kind)
        source = f"file of arrays, {len(found.values):,} {found.kind.plural}"
        return vectors.assembled(found, source)
    pixels, labels, given, is_resized = found
    source = f"file of arrays, {len(pixels):,} images{_resized(size if is_resized else None)}"
    return assembled(pixels, labels, given, in_order=True, source=source)


def _of_sheet(path: Path, size: tuple[int, int] | None) -> _cache.Entry:
    vectors.check_no_size(size, kinds.TABLE)
    found = sheet.read(path)
    return vectors.assembled(found, f"CSV file, {len(found.values):,} rows")


def _of_folder(found: folder.Folder, size: tuple[int, int] | None) -> _cache.Entry:
    return _of_files("folder", *folder.listing(found), size)


def _of_saved(path: Path, size: tuple[int, int] | None) -> _cache.Entry:
    return _of_files("Hugging Face dataset", *saved.listing(path), size)


def _of_files(
    kind: str, listing: list[encoded.Encoded], classes: list[str], size: tuple[int, int] | None
) -> _cache.Entry:
    pixels = encoded.decode(listing, size)
    labels = np.array([each.label for each in listing], np.int32) if classes else None
    source = f"{kind}, {len(listing):,} images{_resized(size)}"
    return assembled(
        pixels,
        labels,
        [each.part for each in listing],
        num_classes=len(classes),
        in_order=False,
        source=source,
    )


def _resized(size: tuple[int, int] | None) -> str:
    return "" if size is None else f" resized to {size[0]}x{size[1]}"
