"""Memory that there is, and how much of it one step may hold. JAX for accelerators.

The environment's `JAXINV_MEMORY`, such as `6G`, stands for the memory there is. It decides how many
examples are computed at once, and what is refused; no result depends on it. Where the number of
examples at once decides a result, as in training, `TRAINING` bounds it, the same on every machine.
"""

import functools
import os
import re
from pathlib import Path

import jax

from jaxinv.errors import UsageError, UserError

VARIABLE = "JAXINV_MEMORY"
TRAINING = 1 << 30
"""Bytes of intermediate values of one step, where their number decides the result."""

_SHARE, _MOST = 8, 2 << 30  # of a device's memory; bytes of a host's: one step holds no more
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SPELLED = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
_GROUPS = Path("/sys/fs/cgroup")


def there() -> int:
    """Returns the bytes of memory there are for this process, as its environment says or measured.

    Raises:
      UsageError: the environment's `JAXINV_MEMORY` is no number of bytes.
    """
    given = os.environ.get(VARIABLE)
    return _measured() if not given else _read(given)


def step() -> int:
    """Returns the bytes that one step of a computation may hold, on one device."""
    known = {} if os.environ.get(VARIABLE) else jax.local_devices()[0].memory_stats() or {}
    own = known.get("bytes_limit")
    return min(there() // _SHARE, _MOST) if own is None else own // _SHARE


def check(name: str, wanted: int, lower: str) -> None:
    """Checks that something fits, before it is allocated.

    Args:
      name: of the argument or attack, with its value.
      wanted: bytes.
      lower: says how it would fit.

    Raises:
      UserError: there is less memory.
    """
    have = there()
    if wanted > have:
        raise UserError(
            f"{name}: takes {spelled(wanted)} of memory, {spelled(have)} are there; {lower}."
        )


def spelled(size: float) -> str:
    """Returns a number of bytes for people, such as `1.5 GiB`."""
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:,.1f} GiB"


def _read(text: str) -> int:
    found = _SPELLED.fullmatch(text.strip())
    size = int(float(found[1]) * _UNITS[found[2].upper()]) if found else 0
    if not size:
        raise UsageError(f"{VARIABLE}={text}: expected a number of bytes, such as 6G or 500M.")
    return size


@functools.cache
def _measured() -> int:
    """Measures once what is free, so that slices keep their size while a process works."""
    return min([_free(), *_left_to_groups()])


def _free() -> int:
    try:
        found = re.search(r"MemAvailable:\s*(\d+) kB", _text(Path("/proc/meminfo")))
    except OSError:
        found = None
    if found:
        return int(found[1]) << 10
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _left_to_groups() -> list[int]:
    """Returns what the control groups of this process leave to it, of both versions."""
    try:
        lines = _text(Path("/proc/self/cgroup")).splitlines()
    except OSError:
        return []
    left = []
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if kinds and "memory" not in kinds.split(","):
            continue
        root = _GROUPS / "memory" if kinds else _GROUPS
        names = (
            ("memory.limit_in_bytes", "memory.usage_in_bytes")
            if kinds
            else ("memory.max", "memory.current")
        )
        folder = root / path.strip("/")
        for group in (folder, *folder.parents):
            if group == root.parent:
                break
            left += _left(group, *names)
    return left


def _left(group: Path, limit: str, usage: str) -> list[int]:
    """Returns the bytes left to a group; files that are cached count as free."""
    try:
        most, used = (int(_text(group / name)) for name in (limit, usage))
        cached = re.search(
            r"^(?:total_)?inactive_file (\d+)", (group / "memory.stat").read_text(), re.M
        )
    except (OSError, ValueError):  # no limit, or another layout
        return []
    return [max(most - used + (int(cached[1]) if cached else 0), 1)]


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")
