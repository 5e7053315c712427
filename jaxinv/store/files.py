"""Files that are whole or not there: atomic writes, damaged files renamed, folders that take files.

The standard library.
"""

import contextlib
import errno
import os
import re
import secrets
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from jaxinv.errors import UsageError, UserError
from jaxinv.machine import hosts
from jaxinv.store import locks

_TEMPORARY = re.compile(r"\.[0-9a-f]{12}\.tmp")
_DEEPEST = 2  # folders of the work folder that files are written into


def expanded(argument: str, path: str | os.PathLike[str]) -> str:
    """Returns a path with `~` or `~name` at its beginning replaced by that home folder.

    Args:
      argument: whose value the path is, for the error.
      path: as a user writes it.

    Raises:
      UsageError: there is no such home, or no path can be so here.
    """
    text = os.fspath(path)
    if "\0" in text:
        raise UsageError(f"{argument}={text}: expected a path, which has no null character.")
    found = os.path.expanduser(text)
    if text.startswith("~") and found == text:
        raise UsageError(
            f"{argument}={text}: there is no such home folder; expected a path, as ./{text} for a "
            "folder of this name."
        )
    try:
        os.fsencode(found)
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{argument}={text}: expected a path in {sys.getfilesystemencoding()}, the encoding of "
            "names here (the variables LC_ALL, LANG and PYTHONUTF8 choose it)."
        ) from error
    return found


def check_writable(path: str | os.PathLike[str], argument: str = "workdir") -> None:
    """Refuses a folder that cannot be made or written, as far as that shows without trying it.

    Args:
      path: of the folder.
      argument: that names it, for the message.

    Raises:
      UserError: nothing can be written there.
    """
    try:
        folder = os.path.abspath(path)
        while not os.path.lexists(folder) and folder != os.path.dirname(folder):
            folder = os.path.dirname(folder)
        if not os.path.isdir(folder):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:  # also where this process's own folder is gone
        raise UserError(f"{argument}={path} cannot be written: {reason(error)}.") from error


def ensure_writable(workdir: str | os.PathLike[str]) -> None:
    """Makes a folder if need be and tries it, so that a long run fails before it starts.

    Removes the temporary files that killed processes left there, or up to two folders deeper.

    Raises:
      UserError: nothing can be written there.
    """
    try:
        try_writing(workdir)
    except OSError as error:
        raise UserError(f"workdir={workdir} cannot be written: {reason(error)}.") from error
    clear(workdir, depth=_DEEPEST)


def clear(folder: str | os.PathLike[str], *, depth: int = 0) -> None:
    """Removes the temporary files that killed processes left in a folder.

    Args:
      folder: need not be there.
      depth: of the folders below it that are looked into, too.
    """
    locks.remove_abandoned(_temporaries(os.fspath(folder), depth))


def try_writing(folder: str | os.PathLike[str]) -> None:
    """Makes a folder if need be, and a file in it that is gone at once; raises OSError."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder, buffering=0) as probe:
        probe.write(bytes(4096))


def atomic_write(path: str | os.PathLike[str], writer: Callable[[IO[bytes]], object]) -> None:
    """Replaces a file by the bytes that `writer(file)` writes, whole or not at all.

    Makes the folder if need be. If the writer raises, the old file stays and nothing else is left.
    Of several processes that write one path, the last one wins; of those that work together
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
        raise UserError(f"Cannot write {path}: {reason(error)}.") from error


def set_aside(
    path: str | os.PathLike[str], why: str, *, say: Callable[[str], object] | None = None
) -> None:
    """Renames a damaged file or folder `<name>.corrupt-<n>` and says so, by default on stderr.

    Args:
      path: of the file or folder.
      why: how it is damaged, in words.
      say: is given the line.
    """
    _rename(Path(path), "corrupt", f"damaged ({why})", say)


def make_way(path: str | os.PathLike[str], what: str) -> None:
    """Renames a whole file whose place is needed `<name>.other-<n>`, and says so on stderr.

    Args:
      path: of the file.
      what: it is, in words.
    """
    _rename(Path(path), "other", what, None)


def _rename(path: Path, suffix: str, what: str, say: Callable[[str], object] | None) -> None:
    names = (path.with_name(f"{path.name}.{suffix}-{n}") for n in range(1, sys.maxsize))
    aside = next(name for name in names if not os.path.lexists(name))
    outcome = "and is ignored"
    with contextlib.suppress(OSError):  # a read-only folder; or another process was first
        path.rename(aside)
        outcome = f"and is now {aside.name}"
    line = " ".join(f"{path} is {what} {outcome}.".splitlines())
    print(line, file=sys.stderr, flush=True) if say is None else say(line)


def reason(error: OSError) -> str:
    """Returns why the system refused, in words."""
    if isinstance(error, FileExistsError):  # what mkdir says of a file where a folder should be
        return "Not a directory"
    return error.strerror or str(error)


def _temporaries(folder: str, depth: int) -> Iterator[Path]:
    """Yields the files that `atomic_write` writes, or wrote, so many levels below a folder."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _TEMPORARY.fullmatch(entry.name):
                yield Path(entry.path)
            elif depth and entry.is_dir(follow_symlinks=False):
                yield from _temporaries(entry.path, depth - 1)
