"""Files as strict JSON: no extras of Python, and text that a page can show."""

import json
import math
import re
from typing import Any

_LARGEST = 1e30  # nothing that is measured here is beyond
_LONGEST = 1000  # characters of a text
# Control characters, separators that end a line in JavaScript, and what a terminal acts on.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]+")
_HALVES = re.compile("[\ud800-\udfff]")  # of surrogate pairs


def loads(content: bytes) -> dict[str, Any]:
    """Parses a file as strict JSON in UTF-8, without what Python takes and JSON has not.

    Text is made printable and short: halves of surrogate pairs become a mark, what cannot be shown
    a space. A number beyond 1e30 is null.

    Raises:
      ValueError: it is no JSON object, has a key twice, or a number that is not finite.
      RecursionError: it is nested too deeply.
    """
    found = json.loads(
        content.decode(),
        object_pairs_hook=_object,
        parse_constant=_refuse,
        parse_float=_number,
        parse_int=_number,
    )
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    return found


def keeps(text: str) -> bool:
    """Tells whether a text is read back as it was written."""
    try:
        text.encode()
    except UnicodeEncodeError:  # a path need not be text
        return False
    return _text(text) == text


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{_text(twice)!r} is there twice")
    return {_text(key): _printable(value) for key, value in pairs}


def _printable(value: Any) -> Any:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list) and any(isinstance(item, str | list) for item in value):
        return [_printable(item) for item in value]
    return value


def _text(value: str) -> str:
    clean = _UNPRINTABLE.sub(" ", _HALVES.sub("\N{REPLACEMENT CHARACTER}", value))
    return clean if len(clean) <= _LONGEST else f"{clean[: _LONGEST - 1]}…"


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _number(text: str) -> int | float | None:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large a number")
    if abs(value) > _LARGEST:
        return None
    return value if set(text) & set(".eE") else int(text)
