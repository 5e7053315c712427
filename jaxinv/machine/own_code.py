"""Values in Python files and modules of a user, and one clear line where their code fails.

A spelling is `FILE.py:name` or `package.module:name`.
"""

import functools
import hashlib
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from jaxinv.errors import UsageError, UserError

_MODULES = "jaxinv_own_"  # names of the files that are loaded begin so


def is_spelled(text: str) -> bool:
    """Tells whether a text spells a value of a user's code."""
    return ":" in text and not text.startswith(":")


def digest(path: Path | str | None) -> str:
    """Returns 12 hexadecimal digits of a file's content; "" for none."""
    return "" if path is None else hashlib.sha256(Path(path).read_bytes()).hexdigest()[:12]


def place(argument: str, spelling: str, what: str = "function") -> tuple[Path | None, str]:
    """Returns the file that a spelling names, None for a module, and the name of the value there.

    `what` is the value in a word, for messages.

    Raises:
      UsageError: there is no such file, or no value is named.
    """
    where, _, name = spelling.rpartition(":") if ":" in spelling else (spelling, "", "")
    path = Path(os.path.expanduser(where)) if where.endswith(".py") else None
    if path is not None and not path.is_file():
        raise UsageError(f"{argument}={spelling}: there is no file {where} in {Path.cwd()}.")
    if not name:
        raise UsageError(f"{argument}={spelling}: expected {where}:{what}, a {what} in it.")
    return path, name


def value(
    argument: str,
    spelling: str,
    file: Path | None,
    name: str,
    *,
    accepts: Callable[[Any], bool] = callable,
    what: str = "function",
) -> tuple[Any, str | None]:
    """Runs a file or imports a module, and returns what it has under a name.

    Args:
      argument: whose value the spelling is, for messages.
      spelling: as a user wrote it.
      file, name: as `place` returns them.
      accepts: tells whether a value is what is wanted.
      what: that is, in a word.

    Returns:
      The value, and the path of the code, None where there is none.

    Raises:
      UserError: the code fails, or has nothing of that name that is wanted.
    """
    with importable(file), guarded(argument, spelling, file):
        module = _module(argument, spelling, file)
    found = getattr(module, name, None)
    if not accepts(found):
        mine = {each: value for each, value in vars(module).items() if _is_own(value, module)}
        own = [each for each, value in mine.items() if accepts(value)]
        several = f"{what}es" if what.endswith("s") else f"{what}s"
        there = f"; {several} there: {', '.join(own[:10])}" if own else ""
        raise UsageError(f"{argument}={spelling}: there is no {what} {name}{there}.")
    return found, str(file) if file else getattr(module, "__file__", None)


def _is_own(value: Any, module: ModuleType) -> bool:
    return not callable(value) or getattr(value, "__module__", None) == module.__name__


@contextmanager
def importable(file: Path | None) -> Iterator[None]:
    """Lets a file import its neighbours, and modules be found from the current folder."""
    folder = str(file.resolve().parent if file else Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def _module(argument: str, spelling: str, file: Path | None) -> ModuleType:
    if file is None:
        return _imported(argument, spelling)
    return _run(file.resolve(), file.read_bytes())


@functools.lru_cache(maxsize=16)  # values are the same each time: programs are kept for them
def _run(file: Path, content: bytes) -> ModuleType:
    name = _MODULES + hashlib.sha256(str(file).encode()).hexdigest()[:12]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    # Not by the loader: its compiled file may be of an edit within the same second.
    exec(compile(content, str(file), "exec"), module.__dict__)
    return module


def forget() -> None:
    """Lets files be run again: their code may read others that have changed."""
    _run.cache_clear()


def _imported(argument: str, spelling: str) -> ModuleType:
    name = spelling.rpartition(":")[0]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if not f"{name}.".startswith(f"{error.name}."):  # another that it imports
            raise
        raise UsageError(f"{argument}={spelling}: there is no module {error.name}.") from error


@contextmanager
def guarded(argument: str, spelling: str, file: Path | str | None) -> Iterator[None]:
    """Tells in a line where somebody's code failed, and why."""
    try:
        yield
    except UserError as error:
        kind = UsageError if str(error).startswith(f"{argument}=") else UserError
        told = str(error) if kind is UsageError else f"{argument}={spelling}: {error}"
        raise kind(told) from error
    except (Exception, SystemExit) as error:
        why = " ".join(str(error).split()) or "no message"
        name = type(error).__name__
        raise UserError(f"{argument}={spelling}: {_line(error, file)}{name}: {why}") from error


def _line(error: BaseException, file: Path | str | None) -> str:
    """Returns the last line of a file that an error passed; "" where it passed none."""
    if isinstance(error, SyntaxError) and error.lineno:
        return f"line {error.lineno}: "
    known: Callable[[str], bool] = (
        (lambda name: False)
        if file is None
        else (lambda name: os.path.realpath(name) == os.path.realpath(file))
    )
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if known(frame.filename)
    ]
    return f"line {lines[-1]}: " if lines else ""
