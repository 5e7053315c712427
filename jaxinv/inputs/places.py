"""Folders that belong to the user: caches, and where TFDS keeps prepared datasets."""

import functools
import os
import sys
import tempfile
from pathlib import Path

from jaxinv.errors import UsageError
from jaxinv.store import files


def print_to_stderr(line: str) -> None:
    """Prints one line to stderr."""
    print(line, file=sys.stderr, flush=True)


def cache_root(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Returns the directory of files that can be made again (it may not exist yet).

    It is the first of: `cache_dir`, the environment's `JAXINV_CACHE`, the user's cache directory. A
    user without a home gets one that goes with the process, which is said.
    """
    if cache_dir:
        return Path(files.expanded("cache_dir", cache_dir))
    if given := os.environ.get("JAXINV_CACHE"):
        return Path(files.expanded("JAXINV_CACHE", given))
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(files.expanded("XDG_CACHE_HOME", xdg)) / "jaxinv"
    home = _home()
    if home is None:
        return Path(_of_this_process().name)
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "jaxinv"


def of_tfds(data_dir: str | os.PathLike[str] | None) -> list[Path]:
    """Returns the directories of prepared TFDS datasets; one is downloaded into the first.

    Raises:
      UsageError: `data_dir` is given and is no directory.
    """
    if data_dir is not None:
        root = Path(files.expanded("data_dir", data_dir))
        if not os.path.isdir(root):  # Path's would raise where a name is too long
            raise UsageError(
                f"data_dir={data_dir}: no such directory; expected one with "
                "<name>/<version>/ below it, as TFDS prepares datasets."
            )
        return [root]
    given, home = os.environ.get("TFDS_DATA_DIR"), _home() or cache_root()
    return [
        *([Path(files.expanded("TFDS_DATA_DIR", given))] if given else []),
        home / "tensorflow_datasets",
    ]


def _home() -> Path | None:
    try:
        return Path.home()
    except RuntimeError:  # no HOME, and an account that the system does not know
        return None


@functools.cache
def _of_this_process() -> "tempfile.TemporaryDirectory[str]":
    print_to_stderr(
        "There is no home folder: what is cached goes with this process; the variable "
        "JAXINV_CACHE names a folder that stays."
    )
    return tempfile.TemporaryDirectory(prefix="jaxinv-")
