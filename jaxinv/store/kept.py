"""Values that took long to find, kept as JSON in the work folder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxinv.store import files


def read(path: Path, is_whole: Callable[[Any], bool], what: str) -> Any:
    """Returns the value of a file, or None; a damaged file is renamed, which is said.

    Args:
      path: of the file.
      is_whole: tests a value; others are damaged.
      what: the file should hold, for people.
    """
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        files.set_aside(path, str(error))
        return None
    except OSError:  # nothing was found before
        return None
    if is_whole(found):
        return found
    files.set_aside(path, f"not {what}")
    return None


def write(path: Path, value: Any) -> None:
    """Writes a value of JSON, whole or not at all.

    Raises:
      UserError: the file cannot be written.
    """
    files.atomic_write(path, lambda file: file.write(json.dumps(value).encode()))
