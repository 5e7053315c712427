"""What a run leaves behind: `<workdir>/<experiment>/<run_id>/{record.json, images.npz, ...}`.

A folder that holds a `record.json` is finished: every file is written aside and renamed into
place, and the record comes last, so a run killed at any moment leaves either no record or a whole
one. Records are strict JSON, flat, in base units (seconds, bytes); a value that is missing or not
finite is null. What is not as it was written is set aside, never deleted, and counts as none. NumPy
and the standard library; only `environment` asks JAX, for its devices.
"""

import contextlib
import hashlib
import json
import math
import os
import platform
import re
import secrets
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import numpy as np

from jaxinv.errors import DamagedError, UserError
from jaxinv.machine import hosts
from jaxinv.store import locks
from jaxinv.store import strict as _strict

RECORD_NAME = "record.json"
IMAGES_NAME = "images.npz"

REQUIRED_KEYS = frozenset(
    ("experiment", "dataset", "data_source", "seed", "device", "versions", "config", "config_hash")
)
# What the record of an attack has besides: one whose experiment cuts the network at a `split`.
REQUIRED_ATTACK_KEYS = frozenset(
    (
        *("split", "method", "attacker_knowledge", "surrogate", "num_images", "defense"),
        *("releases", "accuracy", "accuracy_undefended", "exact_fraction", "diverged", "paper"),
        *("psnr_mean", "psnr_std", "psnr_median", "psnr", "ssim_mean", "ssim_std", "ssim"),
        *("compile_s", "fit_s", "attack_s", "images_per_s"),
    )
)

_VERSIONED = (
    *("jaxinv", "jax", "jaxlib", "flax", "optax"),
    *("dm-pix", "numpy", "tensorflow-datasets"),
)
_LABEL_LIMIT = 100  # characters; file systems allow 255 for a name
_TEMPORARY = re.compile(r"\.[0-9a-f]{12}\.tmp")
_DEEPEST = 2  # folders of the work folder that files are written into


def config_hash(config: Mapping[str, Any]) -> str:
    """10 hex digits that name a configuration, whatever the order of its keys.

    Tuples count as lists, NumPy scalars as Python's; 1 and 1.0 are different.

    Raises:
      ValueError: a value is NaN or infinite.
      TypeError: a value has no JSON form.
    """
    text = json.dumps(
        config, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_python_scalar
    )
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def run_dir(
    workdir: str | os.PathLike[str], experiment: str, config: Mapping[str, Any], *, label: str
) -> Path:
    """`<workdir>/<experiment>/<label>-<hash of config>`; the label is made safe as a file name."""
    safe = re.sub(r"[^A-Za-z0-9.,=+_-]+", "_", label)[:_LABEL_LIMIT].strip("._-")
    return Path(workdir) / experiment / f"{safe or 'run'}-{config_hash(config)}"


def ensure_writable(workdir: str | os.PathLike[str]) -> None:
    """Makes the folder if need be and tries it, so that a long run fails before it starts.

    What killed processes were writing there, or up to two folders deeper, is removed.

    Raises:
      UserError: nothing can be written there.
    """
    try:
        Path(workdir).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=workdir, buffering=0) as probe:
            probe.write(bytes(4096))
    except OSError as error:
        raise UserError(f"--workdir={workdir} cannot be written: {_reason(error)}.") from error
    locks.remove_abandoned(_temporaries(os.fspath(workdir), _DEEPEST))


def atomic_write(path: str | os.PathLike[str], writer: Callable[[IO[bytes]], object]) -> None:
    """Replaces `path` by what `writer(file)` writes, whole or not at all.

    The folder is made if need be. If the writer raises, the old file stays and nothing else is
    left. Of several processes that write one path, the last one wins; of those that work together
    (`hosts`), the first writes.

    Raises:
      UserError: the path cannot be written (read-only, full disk, not a folder).
    """
    if not hosts.is_first():
        return
    path = Path(path)

    def new() -> Path:
        found = path.with_name(f".{secrets.token_hex(6)}.tmp")
        found.touch(exist_ok=False)
        return found

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locks.temporary(new) as temporary:
            with temporary.open("wb") as file:
                writer(file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
    except OSError as error:
        raise UserError(f"Cannot write {path}: {_reason(error)}.") from error


def write(
    directory: str | os.PathLike[str],
    record: Mapping[str, Any],
    *,
    images: Mapping[str, np.ndarray] | None,
) -> None:
    """Writes `images` to images.npz and then, as the last file, `record` to record.json.

    Arrays become lists, their floats rounded to 6 significant digits; scalars keep every digit.
    NaN and infinities become null. The order of the keys is kept.

    Raises:
      UserError: the folder cannot be written.
      ValueError: a required key is missing (null is a value).
    """
    _check_keys(record)
    text = _to_json(record)
    if images is not None:
        arrays: dict[str, Any] = dict(images)
        atomic_write(
            Path(directory) / IMAGES_NAME, lambda file: np.savez_compressed(file, **arrays)
        )
    atomic_write(Path(directory) / RECORD_NAME, lambda file: file.write(text.encode()))


def read(directory: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The record of a finished run, or None; of several hosts, what the first finds.

    A record that does not parse, lacks a required key or has one of another type is renamed
    `record.json.corrupt-<n>`, with a line on stderr, and counts as none: the run is done again.

    Raises:
      UserError: the record exists and cannot be opened.
    """
    return hosts.first(lambda: _read(Path(directory) / RECORD_NAME))


def _read(path: Path) -> dict[str, Any] | None:
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"Cannot read {path}: {_reason(error)}.") from error
    try:
        return _parse(text)
    except (ValueError, RecursionError) as fault:
        set_aside(path, f"not a whole record: {fault}")
        return None


def read_images(directory: str | os.PathLike[str]) -> dict[str, np.ndarray] | None:
    """The images that `write` was given, or None; those that are damaged are set aside."""
    path = Path(directory) / IMAGES_NAME
    try:
        return load_images(path)
    except FileNotFoundError:
        return None
    except DamagedError as error:
        set_aside(path, error.why)
        return None


def load_images(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of an images.npz; no code is loaded.

    Raises:
      OSError: it cannot be opened.
      DamagedError: it is not what was written.
    """
    with open(path, "rb") as file:
        try:
            with np.load(file, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
        except Exception as error:  # zipfile, zlib and NumPy raise many kinds
            raise DamagedError(path, _one_line(error)) from error


def set_aside(
    path: str | os.PathLike[str], why: str, *, say: Callable[[str], object] | None = None
) -> None:
    """Renames a damaged file or folder `<name>.corrupt-<n>` and says so, by default on stderr.

    Args:
      path: of it.
      why: in what way it is damaged.
      say: is given the line.
    """
    path = Path(path)
    names = (path.with_name(f"{path.name}.corrupt-{n}") for n in range(1, sys.maxsize))
    aside = next(name for name in names if not name.exists())
    outcome = "and is ignored"
    with contextlib.suppress(OSError):  # a read-only folder; or another process was first
        path.rename(aside)
        outcome = f"and is now {aside.name}"
    line = f"{path} is damaged ({why}) {outcome}."
    print(line, file=sys.stderr, flush=True) if say is None else say(line)


def find(workdir: str | os.PathLike[str], experiment: str | None = None) -> list[dict[str, Any]]:
    """Every finished record under `workdir`, of one experiment or all, sorted by path.

    Each has one key more than its file, `path`: that of its record.json, as a string.
    """

    def search() -> list[dict[str, Any]]:
        paths = sorted(Path(workdir).glob(f"{experiment or '*'}/*/{RECORD_NAME}"))
        found = [(path, read(path.parent)) for path in paths]
        return [{**record, "path": str(path)} for path, record in found if record is not None]

    return hosts.first(search)


def note(path: str | os.PathLike[str]) -> None:
    """Adds a finished record to the list that a sweep wants of this process, if one does.

    The list is a file that the environment's `JAXINV_RECORDS` names, with a path on each line.
    """
    listing = os.environ.get("JAXINV_RECORDS")
    if listing and hosts.is_first():
        try:
            with open(listing, "a") as file:
                file.write(f"{path}\n")
        except OSError as error:
            raise UserError(f"Cannot write {listing}: {_reason(error)}.") from error


def level_text(defense: Mapping[str, Any]) -> str:
    """A defence's level as flags spell it: `0.6`, or of several steps `0.2+0.3`."""
    level = defense["level"]
    return "+".join(f"{value:g}" for value in (level if isinstance(level, list) else [level]))


def environment() -> dict[str, Any]:
    """The keys `device` and `versions` of a record; starts JAX's default backend.

    `device` is "<platform>: <kind> x<count>", where a CPU counts the cores that this process may
    use. `versions` maps package names to versions, null for what is not installed.
    """
    versions = {name: version(name) for name in _VERSIONED}
    return {
        "device": _device(),
        "versions": {**versions, "python": platform.python_version()},
    }


def _check_keys(record: Mapping[str, Any]) -> None:
    required = REQUIRED_KEYS | (REQUIRED_ATTACK_KEYS if "split" in record else frozenset())
    if missing := required - record.keys():
        raise ValueError(f"the record lacks {', '.join(sorted(missing))}")


def _parse(text: bytes) -> dict[str, Any]:
    record = _strict.loads(text)
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")
    _check_keys(record)
    # The rest of what attacks have are numbers, or null where there was nothing to measure.
    _strict.check(record, numbers=REQUIRED_ATTACK_KEYS)
    return record


def _to_json(record: Mapping[str, Any]) -> str:
    """Strict JSON, one top-level key a line: ten thousand PSNRs should not be as many lines."""
    lines = (
        f" {json.dumps(key)}: {json.dumps(_plain(value), allow_nan=False)}"
        for key, value in record.items()
    )
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _plain(value: Any) -> Any:
    """`value` in JSON's types."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if getattr(value, "ndim", 0):
        return [_plain(item) for item in _rounded(np.asarray(value)).tolist()]
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, str):  # file names may hold bytes that are no text
        return value.encode(errors="backslashreplace").decode()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _rounded(array: np.ndarray) -> np.ndarray:
    if not np.issubdtype(array.dtype, np.floating):
        return array
    return np.array([float(f"{value:.6g}") for value in array.flat]).reshape(array.shape)


def _python_scalar(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r} of type {type(value).__name__} has no place in a configuration.")


def _temporaries(folder: str, depth: int) -> Iterator[Path]:
    """What `atomic_write` is writing, or was, in a folder and so many levels below it."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _TEMPORARY.fullmatch(entry.name):
                yield Path(entry.path)
            elif depth and entry.is_dir(follow_symlinks=False):
                yield from _temporaries(entry.path, depth - 1)


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _reason(error: OSError) -> str:
    if isinstance(error, FileExistsError):  # what mkdir says of a file where a folder should be
        return "Not a directory"
    return error.strerror or str(error)


def version(package: str) -> str | None:
    """The version of a package that is installed, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _device() -> str:
    import jax  # here, so that reading records does not wait for it

    devices = jax.devices()
    if devices[0].platform == "cpu":
        return f"cpu: {_cpu_name()} x{usable_cores()}"
    return f"{devices[0].platform}: {devices[0].device_kind} x{len(devices)}"


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
        if match:
            return match[1]
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux only
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
