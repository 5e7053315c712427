"""Numbers as text, with units; None is a dash. Standard library."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

MISSING = "\N{EN DASH}"
"""Stands for a value that is not there."""

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

    @property
    def or_all(self) -> float:
        """The mean as a rank: what is missing is above everything."""
        return math.inf if self.mean is None else self.mean


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


def percents(found: Measure, digits: int = 1) -> str:
    """`[low, high]` of a share, as percentages; nothing where there is none."""
    if found.low is None or found.high is None:
        return ""
    return f"[{percent(found.low, digits)}, {percent(found.high, digits)}]"


def listed(words: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join([*([", ".join(words[:-1])] if words[:-1] else []), *words[-1:]])


def span(values: Iterable[int]) -> str:
    """The least and the greatest: `200 to 1,000`, or one number if all are the same."""
    found = sorted(set(values))
    return " to ".join(f"{value:,}" for value in dict.fromkeys((found[0], found[-1])))
