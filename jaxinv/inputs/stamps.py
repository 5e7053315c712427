"""Stamps of files: size and times, by which a file is known to be unchanged without reading it.

Times are in nanoseconds. Stamps, and what was found in the files, are remembered as JSON; if that
is lost or damaged, the files are read again. The standard library.
"""

import contextlib
import hashlib
import json
import os
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

_SETTLED = 2e9  # nanoseconds, in which a coarse file system may give two changes the same time
_BLOCK, _BLOCKS = 4096, 64  # bytes of a sample, and samples of a file


def stamp(path: Path) -> list[int]:
    """Returns `[bytes, time of modification, time of change]` of a file; raises OSError."""
    facts = path.stat()
    return [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns]


def are_settled(stamps: Iterable[list[int]]) -> bool:
    """Returns True if files changed so long ago that a later change has another time.

    Asked before the files are read, since they may change while they are.
    """
    newest = max((max(times) for _, *times in (each[:3] for each in stamps)), default=0)
    return newest < time.time_ns() - _SETTLED


def sample(path: Path) -> list[int]:
    """Returns the stamp of a file and a CRC-32 of blocks of it: first, last, and between them."""
    size, *times = stamp(path)
    last, total = max(size - _BLOCK, 0), 0
    with path.open("rb") as file:
        for number in range(_BLOCKS):
            file.seek(last * number // (_BLOCKS - 1))
            total = zlib.crc32(file.read(_BLOCK), total)
    return [size, *times, total]


def remembered(path: Path) -> Any:
    """Returns the JSON value that `remember` wrote, or None."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None


def remember(path: Path, value: Any) -> None:
    """Writes a JSON value. A folder that cannot be written costs only time, half a value too."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value), encoding="utf-8")


def digest(
    place: Path,
    paths: Mapping[str, Path],
    memory: Path,
    look: Callable[[Path], list[int]] = sample,
) -> str:
    """Returns 16 hex digits that identify files by their names and content.

    Files are read whole only if the name or stamp of one changed since they were read before.

    Args:
      place: that the files belong to, whose digest is remembered.
      paths: name -> path of each file.
      memory: folder that remembers digests.
      look: `stamp` or, for files that are few, `sample`.
    """
    stamps = {name: look(path) for name, path in sorted(paths.items())}
    settled = are_settled(stamps.values())
    seen = hashlib.sha256(json.dumps(stamps).encode()).hexdigest()
    record = memory / f"{hashlib.sha256(os.fsencode(place.resolve())).hexdigest()[:16]}.json"
    known = remembered(record)
    if isinstance(known, dict) and known.get("seen") == seen and "digest" in known:
        return known["digest"]
    total = hashlib.sha256()
    for name in stamps:
        with paths[name].open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{name} {content}\n".encode("utf-8", "surrogateescape"))
    found = total.hexdigest()[:16]
    if settled:
        remember(record, {"seen": seen, "digest": found})
    return found
