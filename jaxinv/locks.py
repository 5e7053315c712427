"""Locks between processes, which the kernel releases when a process dies, however it does.

A lock is a file that is locked, not one that exists: it stays when nobody holds it. On a file
system without locks nobody is kept out; what locks guard is written atomically anyway, so all that
is lost then is time.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from jaxinv.errors import UserError


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
    """Waits for a lock and holds it; the arguments and errors are those of `acquire`."""
    file = acquire(path, wait=True)
    assert file is not None
    with file:
        yield file
