"""Names of similarity in files: SSIM of images, correlation of series and rows of tables.

Programs treat all kinds of inputs alike, and say `ssim` for how much a reconstruction looks like
its original. A file says what it is; its `inputs` tell the kind, and images have none.
"""

from collections.abc import Mapping
from typing import Any

from jaxinv.constants import kinds

_KEPT = ("flags", "inputs", "versions")
_WORD = kinds.IMAGE.similarity


def kind_of(fields: Mapping[str, Any]) -> kinds.Kind:
    """Returns the kind of inputs that a record is about."""
    told = fields.get("inputs")
    name = told.get("kind") if isinstance(told, Mapping) else None
    return kinds.KINDS.get(str(name), kinds.IMAGE)


def outward(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a record as its file has it."""
    word = kind_of(fields).similarity
    return dict(fields) if word == _WORD else _renamed(fields, _WORD, word)


def inward(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a record as programs read it; one that they have read already stays as it is."""
    word = kind_of(fields).similarity
    return dict(fields) if word == _WORD else _renamed(fields, word, _WORD)


def _renamed(fields: Mapping[str, Any], old: str, new: str) -> dict[str, Any]:
    return {
        key if key in _KEPT else _of_key(key, old, new): value
        if key in _KEPT
        else _of_value(value, old, new)
        for key, value in fields.items()
    }


def _of_key(key: str, old: str, new: str) -> str:
    """Returns `max_new` for `max_old`, `new_mean` for `old_mean`, and any other key as it is."""
    parts = key.split("_")
    return "_".join(new if part == old else part for part in parts)


def _of_value(value: Any, old: str, new: str) -> Any:
    if isinstance(value, Mapping):
        return {_of_key(key, old, new): _of_value(each, old, new) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_of_value(each, old, new) for each in value]
    return value.replace(f"max_{old}", f"max_{new}") if isinstance(value, str) else value
