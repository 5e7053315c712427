"""What is accepted of a record's file: strict JSON, and values of the types that readers rely on.

Standard library.
"""

import json
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any


def loads(text: bytes) -> Any:
    """Parses JSON in UTF-8, without what Python takes and JSON has not.

    Raises:
      ValueError: it is no JSON, has a key twice, a number that is not finite, or half a surrogate.
      RecursionError: it is nested too deeply.
    """
    found = json.loads(
        text.decode(), object_pairs_hook=_object, parse_constant=_refuse, parse_float=_finite
    )
    json.dumps(found, ensure_ascii=False).encode()  # half a surrogate pair is no text
    return found


def check(record: Mapping[str, Any], *, numbers: Collection[str]) -> None:
    """Checks the types of a record's values.

    Args:
      record: with any keys; those that nothing is known of hold what they like.
      numbers: keys that are a number, or null, if they are no others that are known.

    Raises:
      ValueError: one is of another type.
    """
    types = {**dict.fromkeys(numbers, (_is_number_or_null, "a number")), **_TYPES}
    for key, value in record.items():
        fits, kind = _INTERVAL if key.endswith("_ci") else types.get(key, _ANYTHING)
        if not fits(value):
            raise ValueError(f"{key} is not {kind}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} is there twice")
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large a number")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_number_or_null(value: Any) -> bool:
    return value is None or _is_number(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_number_or_null, value))


def _is_pair(value: Any) -> bool:
    return _is_numbers(value) and len(value) == 2


def _is_defense(value: Any) -> bool:
    if not isinstance(value, dict) or not {"kind", "site", "level"} <= value.keys():
        return False
    level = value["level"]
    levels = level if isinstance(level, list) else [level]
    return _is_text(value["kind"]) and _is_text(value["site"]) and all(map(_is_number, levels))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_printed(value: Any) -> bool:
    return value is None or (
        isinstance(value, dict) and all(_is_number(value.get(key)) for key in ("psnr", "ssim"))
    )


_Type = tuple[Callable[[Any], bool], str]
_ANYTHING: _Type = (lambda value: True, "anything")
_INTERVAL: _Type = (_is_pair, "an interval")
_TYPES: dict[str, _Type] = {
    **dict.fromkeys(
        (
            *("experiment", "dataset", "config_hash"),
            *("split", "method", "attacker_knowledge", "surrogate", "threat_model"),
        ),
        (_is_text, "text"),
    ),
    **dict.fromkeys(("seed", "num_images", "releases", "diverged"), (_is_count, "a count")),
    **dict.fromkeys(("versions", "config", "target"), (_is_object, "an object")),
    **dict.fromkeys(("psnr", "ssim"), (_is_numbers, "a list of numbers")),
    "defense": (_is_defense, "a defence"),
    "paper": (_is_printed, "the paper's figures"),
}
