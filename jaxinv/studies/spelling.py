"""Values of settings as a command line spells them: the same in runs, in sweeps and in lists.

Numbers are of ASCII digits, as in 12, -.5 or 1e-3. Spaces around a value do not count, but for
paths.
"""

import math
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from absl import flags

if TYPE_CHECKING:
    from jaxinv.studies.experiment import Setting

_MOST = 2**31 - 1
_WHOLE = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def whole(text: str) -> int:
    """Returns the whole number that a text spells.

    Raises:
      ValueError: it spells none.
    """
    if not _WHOLE.fullmatch(text.strip()):
        raise ValueError("expected a whole number")
    return int(text)


def number(text: str) -> float:
    """Returns the finite number that a text spells.

    Raises:
      ValueError: it spells none.
    """
    if not _NUMBER.fullmatch(text.strip()) or not math.isfinite(float(text)):
        raise ValueError("expected a finite number")
    return float(text)


def define(values: flags.FlagValues, each: "Setting") -> None:
    """Defines the flag of a setting."""
    serializer: Any = flags.ArgumentSerializer()
    default, parser = each.default, _parser(each)
    if each.kind is bool:
        flags.DEFINE_boolean(each.name, default, each.text, values)
        return
    if each.many:
        serializer = flags.CsvListSerializer(",")
        default = None if default is None else text_of(default)
    flags.DEFINE(parser, each.name, default, each.text, values, serializer)


def text_of(value: Any) -> str:
    """Returns a setting's value as a flag spells it."""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _parser(each: "Setting") -> flags.ArgumentParser:
    if each.many:
        return _List(each)
    if each.kind is int:
        least = 1 if each.least is None else int(each.least)
        return _Whole(least, _MOST if each.most is None else int(each.most))
    if each.kind is float:
        return _Number(each.least, each.most)
    if each.choices is not None:
        return _Choice(each.choices)
    return flags.ArgumentParser() if each.is_path else _Text()


class _Whole(flags.IntegerParser):
    """Reads a whole number."""

    def convert(self, argument: Any) -> int:
        return whole(argument) if isinstance(argument, str) else super().convert(argument)


class _Number(flags.FloatParser):
    """Reads a finite number."""

    def convert(self, argument: Any) -> float:
        return number(argument) if isinstance(argument, str) else super().convert(argument)


class _Text(flags.ArgumentParser):
    """Reads a text."""

    def parse(self, argument: str) -> Any:
        return argument.strip()


class _Choice(flags.EnumParser):
    """Reads one of several texts."""

    def __init__(self, choices: Sequence[str]):
        super().__init__(list(choices))

    def parse(self, argument: str) -> str:
        return super().parse(argument.strip())


_WANTED = {int: "expected positive numbers", float: "expected numbers", str: "expected names"}


class _List(flags.ListParser):
    """Reads texts or numbers with commas between."""

    def __init__(self, each: "Setting"):
        super().__init__()
        self._kind, self._may_be_empty = each.kind, each.may_be_empty
        self._wanted = _WANTED[each.kind]

    def parse(self, argument: Any) -> list[Any]:
        parts = [part.strip() for part in super().parse(argument)]
        if not parts and self._may_be_empty:
            return []
        if not all(parts) or not parts:
            raise ValueError(f"{self._wanted}, one or several with commas between")
        if self._kind is str:
            return parts
        if self._kind is float:
            return self._read(number, parts)
        found = self._read(whole, parts)
        if not all(0 < one <= _MOST for one in found):
            raise ValueError(f"{self._wanted} below 2^31, one or several with commas between")
        return list(dict.fromkeys(found))

    def _read(self, read: Callable[[str], Any], parts: Sequence[str]) -> list[Any]:
        try:
            return [read(part) for part in parts]
        except ValueError as error:
            below = " below 2^31" if self._kind is int else ""
            many = "one or several with commas between"
            raise ValueError(f"{self._wanted}{below}, {many}") from error
