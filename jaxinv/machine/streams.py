"""The standard streams of this process, which take whatever is printed. Standard library.

A path need not be text, and a terminal, a log or a pipe need not know every character. Nobody needs
to listen, either: a stream that was closed before the start is the null device.
"""

import codecs
import contextlib
import io
import os
import sys

_DESCRIPTORS = (0, 1, 2)


def open_all() -> None:
    """Makes stdout and stderr take any text, also where they are closed or know ASCII alone.

    Bytes of a path that are no text are written as they are. Other characters that the stream does
    not know are escaped, as in `\\xe9`.
    """
    for descriptor in _DESCRIPTORS:
        try:
            os.fstat(descriptor)
        except OSError:  # else the next file that is opened would take its place
            os.open(os.devnull, os.O_RDWR)  # takes the least that is free
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            nowhere = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, until it ends
            setattr(sys, name, nowhere)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ANY_TEXT)


def abandon_stdout() -> None:
    """Keeps the interpreter from writing to a broken stdout again when it ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _spelled(error: UnicodeError) -> tuple[bytes, int]:
    """Spells the characters that an encoding lacks."""
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end]
    return b"".join(map(_bytes, text)), error.end


def _bytes(character: str) -> bytes:
    try:
        return character.encode("ascii", "surrogateescape")  # a byte of a path
    except UnicodeEncodeError:
        return character.encode("ascii", "backslashreplace")


_ANY_TEXT = "jaxinv.any_text"
codecs.register_error(_ANY_TEXT, _spelled)
