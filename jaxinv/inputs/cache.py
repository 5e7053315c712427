"""Cached NumPy arrays: each entry is valid, or set aside and built again. NumPy code.

An entry is `<name>.npy` for every array and one `entry.json` with the entry's name, the facts
about the arrays and, for each, shape, dtype and CRC-32. `checked.json` remembers the size, times
and sampled blocks of each array when its CRC-32 was last checked: all bytes are read again only if
these changed. An entry appears by one rename, so readers see all of it or nothing, and one of
several writers wins. A cache never makes a run fail: an entry that cannot be read is built again,
and one that cannot be written is announced in one line.
"""

import contextlib
import errno
import itertools
import json
import os
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxinv.errors import DamagedError
from jaxinv.inputs import stamps
from jaxinv.store import files, locks

_FORMAT = 2  # raise it when an entry, or how any entry is made, changes
_MANIFEST, _CHECKED = "entry.json", "checked.json"


class Entry(NamedTuple):
    """Arrays and facts of a cache entry."""

    arrays: dict[str, np.ndarray]
    facts: dict[str, Any]  # JSON values


def fetch(folder: Path, build: Callable[[], Entry], *, announce: Callable[[str], None]) -> Entry:
    """Reads the entry at `folder`, or builds and stores it.

    Args:
      folder: where the entry is or will be, but for a suffix: entries of other versions of this
        code stay beside it.
      build: makes the entry; called only if there is no valid one.
      announce: receives one line if the entry was damaged or cannot be stored.

    Returns:
      The entry; its arrays are read-only, and memory-mapped if they were read from disk.
    """
    folder = folder.with_name(f"{folder.name}-v{_FORMAT}")
    with contextlib.suppress(OSError):
        locks.remove_abandoned(folder.parent.glob(f"{_prefix(folder)}*"))
    try:
        entry = _read(folder)
    except DamagedError as error:
        files.set_aside(folder, error.why, say=announce)
        entry = None
    if entry is not None:
        return entry
    entry = build()
    try:
        _write(folder, entry, announce)
    except (OSError, DamagedError) as error:
        announce(
            f"The cache of decoded data {folder} cannot be written "
            f"({files.reason(error) if isinstance(error, OSError) else error}); the next run "
            "decodes the data again."
        )
    for array in entry.arrays.values():
        array.flags.writeable = False
    return entry


def _read(folder: Path) -> Entry | None:
    """Returns the entry, or None where there is none (or none that this user may read)."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_text("utf-8"))
        content = {key: manifest[key] for key in ("name", "facts", "arrays")}
        if manifest["crc32"] != _crc(content):
            raise DamagedError(folder, f"{_MANIFEST} is not what was written")
        if manifest["name"] != folder.name:
            raise DamagedError(folder, f"it is {manifest['name']}")
        return Entry(_read_arrays(folder, manifest["arrays"]), manifest["facts"])
    except DamagedError:
        raise
    except FileNotFoundError as error:
        if folder.is_dir():
            raise DamagedError(folder, f"{Path(error.filename).name} is missing") from error
        return None
    except OSError as error:
        if not isinstance(error, IsADirectoryError):
            return None
        raise DamagedError(folder, f"{_MANIFEST} is a folder") from error
    except Exception as error:  # JSON and NumPy raise many kinds
        raise DamagedError(folder, f"{type(error).__name__}: {error}") from error


def _read_arrays(folder: Path, marks: dict[str, dict[str, Any]]) -> dict[str, np.ndarray]:
    """Maps the arrays of an entry, and reads all bytes of those that were not checked before."""
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in marks}
    now = {name: stamps.sample(folder / f"{name}.npy") for name in marks}
    if stamps.remembered(folder / _CHECKED) != now:
        for name, array in arrays.items():
            if _mark(array) != marks[name]:
                raise DamagedError(folder, f"{name}.npy is not what was written")
        stamps.remember(folder / _CHECKED, now)
    return arrays


def _mark(array: np.ndarray) -> dict[str, Any]:
    return {
        "shape": list(array.shape),
        "dtype": array.dtype.str,
        "crc32": zlib.crc32(np.ascontiguousarray(array).data),
    }


def _write(folder: Path, entry: Entry, announce: Callable[[str], None]) -> None:
    """Writes the entry beside `folder`, then renames; raises OSError."""
    folder.parent.mkdir(parents=True, exist_ok=True)

    def new() -> Path:
        return Path(tempfile.mkdtemp(prefix=_prefix(folder), dir=folder.parent))

    with locks.temporary(new) as temporary:
        for name, array in entry.arrays.items():
            np.save(temporary / f"{name}.npy", array)
        marks = {name: _mark(array) for name, array in entry.arrays.items()}
        content = {"name": folder.name, "facts": entry.facts, "arrays": marks}
        manifest = {**content, "crc32": _crc(content)}
        (temporary / _MANIFEST).write_text(json.dumps(manifest, indent=1), "utf-8")
        _read_arrays(temporary, marks)
        _replace(temporary, folder, announce)


def _prefix(folder: Path) -> str:
    """Returns the prefix of folders in which an entry is written."""
    return f".{folder.name}-"


def _crc(content: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())


def _replace(temporary: Path, folder: Path, announce: Callable[[str], None]) -> None:
    """Renames `temporary` to `folder`, unless a valid entry is there; sets a damaged one aside."""
    temporary.chmod(0o755)  # mkdtemp gives 0o700, and a cache may be shared
    # Another writer may come, or take the folder away, between any two lines here. Each turn stores
    # the entry, finds that another has, or sets a damaged one aside; an unreadable one stays.
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
        except DamagedError as error:
            files.set_aside(folder, error.why, say=announce)
