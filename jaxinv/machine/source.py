"""Digests of the package's own source: they tell whether other code computed a result.

A digest names the code of some modules and of all that they import from the rooms in which numbers
are decided. Comments, docstrings and blank lines do not count; where the package lies, when its
files were written and which Python runs them do not either. Standard library.
"""

import ast
import functools
import hashlib
import importlib.resources
import re
import threading
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

_PACKAGE = "jaxinv"
_LIST = "jaxinv.attacks.registry"  # names all attacks and computes nothing: one more changes none
_ROOMS = ("machine", "constants", "networks", "defenses", "attacks", "training", "measures")
_STRING_OR_COMMENT = re.compile(
    r'"""(?:\\.|[^\\])*?"""|\'\'\'(?:\\.|[^\\])*?\'\'\''
    r'|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|#[^\n]*',
    re.S,
)
_PARSING = threading.Lock()
"""Python 3.11 counts the depth of all threads' syntax trees together, and stops at a mismatch."""

_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")


@functools.cache
def digest(*modules: str) -> str:
    """Returns 12 hexadecimal digits of the source of modules and of what they import.

    Args:
      modules: full names, each hashed whatever its room; a package stands for all of its modules.

    Raises:
      ValueError: there is no such module.
    """
    total = hashlib.sha256()
    for name in sorted(_reached(modules)):
        total.update(f"{name}\n{_module(name).code}\n".encode())
    return total.hexdigest()[:12]


def _reached(modules: Sequence[str]) -> set[str]:
    found: set[str] = set()
    waiting = [name for module in modules for name in _inside(module)]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += filter(_decides, _module(name).imports)
    return found


def _decides(name: str) -> bool:
    return name != _LIST and name.split(".")[1] in _ROOMS


def _inside(name: str) -> list[str]:
    """Returns a module, or a package and all of its modules."""
    folder = importlib.resources.files(_PACKAGE).joinpath(*name.split(".")[1:])
    if not folder.is_dir():
        return [name]
    inside = [name]
    for entry in folder.iterdir():
        stem = entry.name.removesuffix(".py")
        if stem != "__init__" and _text(f"{name}.{stem}") is not None:
            inside += _inside(f"{name}.{stem}")
    return inside


class _Module(NamedTuple):
    """A module: its code without comments and docstrings, and its imports from the package."""

    code: str
    imports: tuple[str, ...]


@functools.cache
def _module(name: str) -> _Module:
    text = _text(name)
    if text is None:
        raise ValueError(f"Expected a module of {_PACKAGE}, got {name!r}.")
    return _read(text)


def _read(text: str) -> _Module:
    lines = text.splitlines()
    imports: set[str] = set()
    with _PARSING:
        tree = ast.parse(text)
    for statement in _statements(tree.body):
        if isinstance(statement, ast.Import | ast.ImportFrom):
            imports.update(_imported(statement))
        elif _is_docstring(statement, lines):
            here = slice(statement.lineno - 1, statement.end_lineno)
            lines[here] = [""] * len(lines[here])
    bare = _STRING_OR_COMMENT.sub(_without_comment, "\n".join(lines))
    kept = [line for each in bare.splitlines() if (line := each.rstrip())]
    return _Module("\n".join(kept), tuple(sorted(imports)))


def _is_docstring(statement: ast.stmt, lines: Sequence[str]) -> bool:
    """Returns whether a statement is text alone, on lines of its own."""
    value = statement.value if isinstance(statement, ast.Expr) else None
    alone = not lines[statement.lineno - 1][: statement.col_offset].strip()
    return alone and isinstance(value, ast.Constant) and isinstance(value.value, str)


def _without_comment(found: re.Match[str]) -> str:
    return "" if found[0].startswith("#") else found[0]


def _statements(body: Sequence[Any]) -> Iterator[Any]:
    """Walks all statements, but for imports that are there for type checkers alone."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING":
            continue
        for block in _BLOCKS:
            yield from _statements(getattr(statement, block, []))


def _imported(statement: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """Yields the names of the package's modules that a statement imports."""
    if isinstance(statement, ast.Import):
        names = [alias.name for alias in statement.names]
    else:
        inside = [f"{statement.module}.{alias.name}" for alias in statement.names]
        names = [str(statement.module), *inside]
    for name in names:
        if name.startswith(f"{_PACKAGE}.") and _text(name) is not None:
            yield name


@functools.cache
def _text(name: str) -> str | None:
    """Returns a module's source, or None where there is no such module."""
    package, *path = name.split(".")
    if package != _PACKAGE or not path:
        return None
    root = importlib.resources.files(_PACKAGE)
    for file in (root.joinpath(*path[:-1], f"{path[-1]}.py"), root.joinpath(*path, "__init__.py")):
        if file.is_file():
            return file.read_text("utf-8")
    return None
