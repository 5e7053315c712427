"""Values of a record as text and numbers, whatever the file holds. Standard library.

A record comes from a file, so nothing of it is taken on trust: what is no finite number is None,
and text is text of bounded length, to be escaped by whoever writes it into a page.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

Record = Mapping[str, Any]

MISSING = "\N{EN DASH}"
"""Stands for a value that is not there."""

_LARGEST = 1e30
_TEXT_LIMIT = 1000  # characters
_PREFIXES = (
    *((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")),
    *((1e-3, "m"), (1e-6, "µ"), (1e-9, "n"), (1e-12, "p")),
)


class Measure(NamedTuple):
    """A mean and its 95% interval; None for what is missing."""

    mean: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def or_nothing(self) -> float:
        """The mean as a rank: what is missing is below everything."""
        return -math.inf if self.mean is None else self.mean


def number(value: Any) -> float | None:
    """A number that can have been measured, or None: finite, and not beyond 1e30."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if abs(found) <= _LARGEST else None  # and so not NaN


def count(value: Any) -> int | None:
    """A whole number of at least 0, or None."""
    found = number(value)
    return int(found) if found is not None and found >= 0 and found == int(found) else None


def text(value: Any, default: str = "") -> str:
    """A short text; numbers are written out, anything else is the default."""
    if isinstance(value, str):
        return value if len(value) <= _TEXT_LIMIT else value[:_TEXT_LIMIT] + "…"
    found = number(value)
    return default if found is None else f"{found:g}"


def mapping(value: Any) -> Record:
    """A mapping, or an empty one."""
    return value if isinstance(value, Mapping) else {}


def items(value: Any) -> Sequence[Any]:
    """A list, or an empty one."""
    return value if isinstance(value, list | tuple) else ()


def measure(record: Record, mean: str, interval: str) -> Measure:
    """What a record says of a mean and its interval, by their keys."""
    bounds = [*items(record.get(interval)), None, None]
    return Measure(number(record.get(mean)), number(bounds[0]), number(bounds[1]))


def percent(share: float | None, digits: int = 1) -> str:
    """A share in [0, 1], as a percentage."""
    return MISSING if share is None else f"{100 * share:.{digits}f}%"


def points(share: float | None) -> str:
    """A difference of two shares, in percentage points."""
    return MISSING if share is None else f"{100 * share:.1f} points"


def fixed(value: float | None, digits: int) -> str:
    """A number with so many digits behind the point."""
    return MISSING if value is None else f"{value:.{digits}f}"


def signed(value: float | None, digits: int) -> str:
    """A difference, with its sign unless it is nothing."""
    if value is None:
        return MISSING
    rounded = round(value, digits)
    return f"{rounded:+.{digits}f}".replace("-", "\N{MINUS SIGN}") if rounded else f"{0:.{digits}f}"


def unit(value: float | None, symbol: str) -> str:
    """Three significant digits in the unit that suits: 0.0123 s is 12.3 ms."""
    if value is None:
        return MISSING
    if value == 0:
        return f"0 {symbol}"
    factor, prefix = next((each for each in _PREFIXES if abs(value) >= each[0]), _PREFIXES[-1])
    scaled = value / factor
    digits = max(0, 2 - math.floor(math.log10(abs(scaled))))
    return f"{scaled:,.{digits}f} {prefix}{symbol}"


def interval(found: Measure, digits: int) -> str:
    """`[low, high]`, or nothing where there is none."""
    if found.low is None or found.high is None:
        return ""
    return f"[{found.low:.{digits}f}, {found.high:.{digits}f}]"


def listed(words: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join([*([", ".join(words[:-1])] if words[:-1] else []), *words[-1:]])


def span(values: Iterable[int]) -> str:
    """The least and the greatest: `200 to 1,000`, or one number if all are the same."""
    found = sorted(set(values))
    return " to ".join(f"{value:,}" for value in dict.fromkeys((found[0], found[-1])))
