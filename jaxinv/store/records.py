"""What a run leaves behind: `<workdir>/<experiment>/<run_id>/{record.json, images.npz, ...}`.

A folder that holds a `record.json` is finished: every file is written aside and renamed into
place, and the record comes last, so a run killed at any moment leaves either no record or a whole
one. Records are strict JSON, flat, in base units (seconds, bytes); a value that is missing or not
finite is null. What is not as it was written is set aside, never deleted, and counts as none. NumPy
and the standard library; only `environment` asks JAX, for its devices.
"""

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxinv.errors import DamagedError, UserError
from jaxinv.machine import hosts
from jaxinv.store import files
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

_LABEL_LIMIT = 100  # characters; file systems allow 255 for a name


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
        files.atomic_write(
            Path(directory) / IMAGES_NAME, lambda file: np.savez_compressed(file, **arrays)
        )
    files.atomic_write(Path(directory) / RECORD_NAME, lambda file: file.write(text.encode()))


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
        raise UserError(f"Cannot read {path}: {files.reason(error)}.") from error
    try:
        return _parse(text)
    except (ValueError, RecursionError) as fault:
        files.set_aside(path, f"not a whole record: {fault}")
        return None


def read_images(directory: str | os.PathLike[str]) -> dict[str, np.ndarray] | None:
    """The images that `write` was given, or None; those that are damaged are set aside."""
    path = Path(directory) / IMAGES_NAME
    try:
        return load_images(path)
    except FileNotFoundError:
        return None
    except DamagedError as error:
        files.set_aside(path, error.why)
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
            raise UserError(f"Cannot write {listing}: {files.reason(error)}.") from error


def level_text(defense: Mapping[str, Any]) -> str:
    """A defence's level as flags spell it: `0.6`, or of several steps `0.2+0.3`."""
    level = defense["level"]
    return "+".join(f"{value:g}" for value in (level if isinstance(level, list) else [level]))


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


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
