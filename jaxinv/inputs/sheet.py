"""Tables in a CSV file: a line of names, and a line of numbers for each row. NumPy.

A column named `label`, `class`, `target` or `y` holds classes, numbers or words; one named `part`
tells target, attacker, test or train. A unit follows a name in brackets: `radius [mm]`.
"""

import csv
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxinv.constants import kinds
from jaxinv.errors import UserError
from jaxinv.inputs import parts
from jaxinv.inputs.vectors import Vectors, checked

LABELS = ("label", "class", "target", "y")
_PART = "part"
_UNIT = re.compile(r"(.+?)\s*[\[(]([^\])]+)[\])]")


def read(path: Path) -> Vectors:
    """Reads a table.

    Raises:
      UserError: it is no such file; the message continues a sentence about it.
    """
    names, rows = _rows(path)
    lower = [name.lower() for name in names]
    label = next((lower.index(each) for each in LABELS if each in lower), None)
    part = lower.index(_PART) if _PART in lower else None
    used = [place for place in range(len(names)) if place not in (label, part)]
    if not used:
        raise UserError(f"has the columns {', '.join(names)}; expected some of numbers.")
    values = np.array([[_number(row[place], names[place], n) for place in used] for n, row in rows])
    split = [_UNIT.fullmatch(names[place]) for place in used]
    told = {
        "names": [m[1] if m else names[p] for m, p in zip(split, used, strict=True)],
        "units": [match[2] if match else "" for match in split],
    }
    labels = None if label is None else _classes([row[label].strip() for _, row in rows])
    given: Sequence[str | None] = [None] * len(rows)
    if part is not None:
        spelled = [row[part].strip().lower() for _, row in rows]
        which = parts.named({*spelled})
        if not {*spelled} <= which.keys():
            unused = min({*spelled} - which.keys())
            raise UserError(f"has the part {unused}, which is none of those that are used.")
        given = [which[each] for each in spelled]
    return Vectors(checked(values, kinds.TABLE, name="columns"), labels, given, kinds.TABLE, told)


def _rows(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Returns the names of columns, and numbered lines; blank ones are left out."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            names = [name.strip() for name in next(reader, [])]
            rows = [(reader.line_num, row) for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot be read as FILE.csv ({error}).") from error
    if not rows or not all(names) or all(_is_number(name) for name in names):
        raise UserError("has no line of names with rows below; expected a header and numbers.")
    if len({*names}) < len(names):
        raise UserError(f"names the column {max(names, key=names.count)} twice.")
    for number, row in rows:
        if len(row) != len(names):
            raise UserError(f"has {len(row)} values in line {number}; expected {len(names)}.")
    return names, rows


def _number(text: str, name: str, line: int) -> float:
    if not _is_number(text):
        told = text.strip() or "nothing"
        raise UserError(
            f"has {told} in column {name}, line {line}; expected a number (fill missing values, "
            "and write categories as numbers)."
        )
    return float(text)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _classes(given: list[str]) -> np.ndarray:
    """Returns classes as whole numbers: those of the file, or places among its words in order."""
    if all(text.isdecimal() for text in given):
        return np.array([int(text) for text in given], np.int32)
    words = sorted({*given})
    return np.array([words.index(text) for text in given], np.int32)
