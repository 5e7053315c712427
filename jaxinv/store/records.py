"""Runs on disk: `<workdir>/<experiment>/<run_id>/{record.json, images.npz, ...}`.

A folder that holds a `record.json` is finished: every file is written aside and renamed into
place, and the record comes last, so a run killed at any moment leaves either no record or a whole
one. A damaged file is renamed, never deleted, and treated as missing. NumPy and the standard
library.
"""

import hashlib
import json
import math
import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxinv.errors import DamagedError, UserError
from jaxinv.machine import hosts
from jaxinv.store import files, similarity
from jaxinv.store.record import SCHEMA, Record, VersionError, typed
from jaxinv.store.strict import loads

RECORD_NAME = "record.json"
IMAGES_NAME = "images.npz"

_PICTURED = ("originals", "reconstructions")
_FEW = 16  # values in a list, beyond which a line of JSON leaves it out
_LABEL_LIMIT = 100  # characters; file systems allow 255 for a name


def config_hash(config: Mapping[str, Any]) -> str:
    """Returns 10 hex digits that name a configuration, whatever the order of its keys.

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
    """Returns `<workdir>/<experiment>/<label>-<hash of config>`, safe as a file name."""
    safe = re.sub(r"[^A-Za-z0-9.,=+_-]+", "_", label)[:_LABEL_LIMIT].strip("._-")
    return Path(workdir) / experiment / f"{safe or 'run'}-{config_hash(config)}"


def write(
    directory: str | os.PathLike[str],
    fields: Mapping[str, Any],
    *,
    images: Mapping[str, np.ndarray] | None,
) -> None:
    """Writes `images` to images.npz and then, as the last file, a record to record.json.

    Arrays become lists, their floats rounded to 6 significant digits; scalars keep every digit.
    NaN and infinities become null. The order of the keys is kept; `schema` is added.

    Args:
      directory: of the run.
      fields: the record, as its class in `record` names them, and any others.
      images: arrays by name.

    Raises:
      UserError: the folder cannot be written.
      ValueError: a key is missing (null is a value) or of another type.
    """
    text = _to_json(similarity.outward({**fields, "schema": SCHEMA}))
    typed(loads(text.encode()))
    if images is not None:
        arrays: dict[str, Any] = dict(images)
        files.atomic_write(
            Path(directory) / IMAGES_NAME, lambda file: np.savez_compressed(file, **arrays)
        )
    files.atomic_write(Path(directory) / RECORD_NAME, lambda file: file.write(text.encode()))


def read(
    directory: str | os.PathLike[str], config: Mapping[str, Any] | None = None
) -> Record | None:
    """Reads the record of a finished run, or None; of several hosts, the first reads.

    A file that is not a whole record is renamed `record.json.corrupt-<n>`, with a line on stderr,
    and treated as missing. One that another version wrote, in a form that is not read, stays where
    it is, with a line on stderr.

    Args:
      directory: of the run.
      config: of the run, if it is known. The record of another one, which was copied or edited, is
        renamed `record.json.other-<n>`, with a line on stderr, and treated as missing.

    Raises:
      UserError: the record exists and cannot be opened.
    """
    path = Path(directory) / RECORD_NAME
    fields = hosts.first(lambda: _read(path))
    if fields is None:
        return None
    found = typed(fields, str(path))
    if config is None or _is_of(found, config):
        return found
    hosts.first(lambda: files.make_way(path, "the record of another configuration"))
    return None


def is_as_written(record: Record) -> bool:
    """Tells whether a configuration is the one that the hash names; either may be edited."""
    return record.config_hash == config_hash(record.config)


def _is_of(record: Record, config: Mapping[str, Any]) -> bool:
    """Tells whether a configuration is a record's, which holds it as a file can."""
    return record.config_hash == config_hash(config) and record.config == loads(
        _to_json(config).encode()
    )


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"Cannot read {path}: {files.reason(error)}.") from error
    try:
        fields = loads(content)
        typed(fields)
        return fields
    except VersionError as error:
        print(f"{path} {error} and is not shown.", file=sys.stderr, flush=True)
    except (ValueError, RecursionError) as fault:
        files.set_aside(path, f"not a whole record: {fault}")
    return None


def read_images(directory: str | os.PathLike[str]) -> dict[str, np.ndarray] | None:
    """Reads the images that `write` was given, or None; damaged ones are set aside.

    Raises:
      UserError: they exist and cannot be opened.
    """
    path = Path(directory) / IMAGES_NAME
    try:
        return load_images(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"Cannot read {path}: {files.reason(error)}.") from error
    except DamagedError as error:
        files.set_aside(path, error.why)
        return None


def load_images(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads the arrays of an images.npz; no code is loaded.

    Returns:
      At least `originals` and `reconstructions`, each `[K, H, W, C]`, or series `[K, T]` or `[K, T,
      C]`, or rows `[K, F]`, all in unit space.

    Raises:
      OSError: it cannot be opened.
      DamagedError: it is not what was written.
    """
    with open(path, "rb") as file:
        try:
            with np.load(file, allow_pickle=False) as arrays:
                found = {name: arrays[name] for name in arrays.files}
        except Exception as error:  # zipfile, zlib and NumPy raise many kinds
            raise DamagedError(path, _one_line(error)) from error
    forms = [found[name].shape for name in _PICTURED if _is_pictures(found.get(name))]
    if len(forms) != len(_PICTURED) or len(set(forms)) != 1:
        raise DamagedError(path, "no originals and reconstructions of one shape")
    return found


def _is_pictures(array: np.ndarray | None) -> bool:
    if array is None or not 2 <= array.ndim <= 4 or not array.size:
        return False
    return array.dtype == np.uint8 or np.issubdtype(array.dtype, np.floating)


def find(workdir: str | os.PathLike[str], experiment: str | None = None) -> list[Record]:
    """Reads every finished record under a work folder, of one experiment or all, by their paths."""

    def search() -> list[str]:
        pattern = f"{experiment or '*'}/*/{RECORD_NAME}"
        return [str(path.parent) for path in sorted(Path(workdir).glob(pattern))]

    found = [read(folder) for folder in hosts.first(search)]
    return [record for record in found if record is not None]


def note(path: str | os.PathLike[str]) -> None:
    """Adds a finished record to the list that a sweep wants of this process, if one does.

    The list is a file that the environment's `JAXINV_RECORDS` names, with a path on each line, as
    a text of JSON: a path need not be text, and may have several lines.
    """
    listing = os.environ.get("JAXINV_RECORDS")
    if listing and hosts.is_first():
        try:
            with open(listing, "a", encoding="utf-8") as file:
                file.write(f"{json.dumps(os.fspath(path))}\n")
        except OSError as error:
            raise UserError(f"Cannot write {listing}: {files.reason(error)}.") from error


def in_a_line(found: Iterable[Mapping[str, Any]]) -> str:
    """Returns records as a line of JSON, `{"records": [...]}`, for programs that read output.

    Fields that hold more than a few values in a list, such as those of every image, are left out.
    """

    def is_short(value: Any) -> bool:
        if isinstance(value, dict):
            return all(map(is_short, value.values()))
        return not isinstance(value, list) or (len(value) <= _FEW and all(map(is_short, value)))

    plain = [_plain(record) for record in found]
    short = [{name: each for name, each in fields.items() if is_short(each)} for fields in plain]
    return json.dumps({"records": short}, allow_nan=False)


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
