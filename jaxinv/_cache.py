"""A folder of NumPy arrays that is either valid or rebuilt. NumPy code.

An entry is `<name>.npy` for every array and one `entry.json`, written last, with the facts about
them and, for each array, shape, dtype and CRC-32. An entry appears by one rename, so readers see
all of it or nothing, and of several writers one wins. A cache never makes a run fail: what cannot
be read is built again and what cannot be written is said in one line.
"""

import contextlib
import errno
import itertools
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

_FORMAT = 1  # raise it when an entry, or how any entry is made, changes
_MANIFEST = "entry.json"


class Entry(NamedTuple):
    """What a cache entry holds."""

    arrays: dict[str, np.ndarray]
    facts: dict[str, Any]  # JSON values


class _DamagedError(Exception):
    """The entry on disk is not what was written."""


def fetch(folder: Path, build: Callable[[], Entry], *, announce: Callable[[str], None]) -> Entry:
    """Reads the entry at `folder`, or builds and stores it.

    Args:
      folder: where the entry is or will be.
      build: makes the entry; called only if there is no valid one.
      announce: is given one line if the entry was damaged or cannot be stored.

    Returns:
      The entry; its arrays are read-only, and memory-mapped if they were read from disk.
    """
    try:
        entry = _read(folder)
    except _DamagedError as error:
        announce(f"The cache {folder} is damaged ({error}); it is built again.")
        entry = None
    if entry is not None:
        return entry
    entry = build()
    try:
        _write(folder, entry)
    except OSError as error:
        announce(
            f"The cache {folder} cannot be written ({error.strerror or error}); "
            "the next run decodes the data again."
        )
    for array in entry.arrays.values():
        array.flags.writeable = False
    return entry


def _read(folder: Path) -> Entry | None:
    """Returns the entry, or None where there is none (or none that this user may read)."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_text())
        if manifest["format"] != _FORMAT:
            raise _DamagedError(f"format {manifest['format']}, not {_FORMAT}")
        arrays = {
            name: _read_array(folder, name, mark) for name, mark in manifest["arrays"].items()
        }
        return Entry(arrays, manifest["facts"])
    except OSError as error:
        if folder.is_dir() and isinstance(error, FileNotFoundError):
            raise _DamagedError(f"{Path(error.filename).name} is missing") from error
        return None
    except (ValueError, KeyError, TypeError, AttributeError, EOFError) as error:
        raise _DamagedError(f"{type(error).__name__}: {error}") from error


def _read_array(folder: Path, name: str, mark: dict[str, Any]) -> np.ndarray:
    array = np.load(folder / f"{name}.npy", mmap_mode="r")
    if _mark(array) != mark:
        raise _DamagedError(f"{name}.npy is not what was written")
    return array


def _mark(array: np.ndarray) -> dict[str, Any]:
    return {
        "shape": list(array.shape),
        "dtype": array.dtype.str,
        "crc32": zlib.crc32(np.ascontiguousarray(array).data),
    }


def _write(folder: Path, entry: Entry) -> None:
    """Writes the entry beside `folder`, then renames; raises OSError."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for name, array in entry.arrays.items():
            np.save(temporary / f"{name}.npy", array)
        marks = {name: _mark(array) for name, array in entry.arrays.items()}
        manifest = {"format": _FORMAT, "facts": entry.facts, "arrays": marks}
        (temporary / _MANIFEST).write_text(json.dumps(manifest, indent=1))
        _replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _replace(temporary: Path, folder: Path) -> None:
    """Renames `temporary` to `folder`; what lay there is kept if valid, else moved away first."""
    temporary.chmod(0o755)  # mkdtemp gives 0o700, and a cache may be shared
    # Another writer may come, or take the folder away, between any two lines here. Each turn stores
    # the entry, finds that another has, or takes a damaged one away; an unreadable one stays.
    for turn in itertools.count():
        try:
            os.rename(temporary, folder)
            return
        except OSError as error:
            if turn == 20 or error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        try:
            if _read(folder) is not None:
                return
        except _DamagedError:
            damaged = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
            with contextlib.suppress(FileNotFoundError):
                os.replace(folder, damaged / "entry")
            shutil.rmtree(damaged, ignore_errors=True)
