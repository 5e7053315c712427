"""Locks between processes, which the kernel releases when a process dies, however it does.

A lock is a file that is locked, not one that exists: it stays when nobody holds it. On a file
system without locks nobody is kept out; what locks guard is written atomically anyway, so all that
is lost then is time.

Whoever writes a temporary file or folder holds a lock on it, so that what a killed process left
behind can be told from what is being written, and is removed.
"""

import contextlib
import fcntl
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

from jaxinv.errors import UserError

_OLD = 24 * 3600.0  # seconds; where there are no locks, a temporary file of this age is nobody's


def acquire(path: str | os.PathLike[str], *, wait: bool) -> IO[bytes] | None:
    """Takes a lock; closing the file, or the end of all processes that inherited it, releases it.

    Args:
      path: of the lock; its folder is made if need be.
      wait: whether to wait for whoever holds it.

    Returns:
      The locked file, or None if another process holds the lock.

    Raises:
      UserError: the file cannot be written.
    """
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        file = Path(path).open("ab")  # noqa: SIM115 (the caller closes it)
    except OSError as error:
        raise UserError(f"Cannot write {path}: {error.strerror or error}.") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        file.close()
        return None
    except OSError:  # no locks here
        return file
    except BaseException:
        file.close()
        raise
    return file


@contextlib.contextmanager
def held(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Waits for a lock, which is said on stderr, and holds it; errors are those of `acquire`."""
    file = acquire(path, wait=False)
    if file is None:
        print(f"Waiting for another process, which has locked {path}.", file=sys.stderr, flush=True)
        file = acquire(path, wait=True)
    assert file is not None
    with file:
        yield file


@contextlib.contextmanager
def temporary(make: Callable[[], Path]) -> Iterator[Path]:
    """A file or folder that `remove_abandoned` leaves alone; it is removed at the end, if there.

    Args:
      make: makes one under a new name, and returns its path.
    """
    path, descriptor = _held_new(make)
    try:
        yield path
    finally:
        _remove(path)
        os.close(descriptor)


def remove_abandoned(paths: Iterable[Path]) -> None:
    """Removes temporary files and folders whose makers are gone, as far as that is possible."""
    for path in paths:
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                if _is_abandoned(descriptor):
                    _remove(path)
            finally:
                os.close(descriptor)


def _held_new(make: Callable[[], Path]) -> tuple[Path, int]:
    while True:
        path = make()
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:  # removed as abandoned, before it was locked
            continue
        with contextlib.suppress(OSError):  # no locks here
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if path.exists():
            return path, descriptor
        os.close(descriptor)


def _is_abandoned(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return time.time() - os.fstat(descriptor).st_mtime > _OLD
    return True


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
