"""Tables as text: columns, and styles on terminals that have them. Standard library."""

import os
import sys
from collections.abc import Collection, Sequence

from jaxinv.constants.verdicts import FAILS, HOLDS, UNDECIDED, Verdict

_BOLD, _RED, _GREEN, _YELLOW = "1", "31", "32", "33"  # as terminals number them
_COLOURS = {HOLDS: _GREEN, FAILS: _RED, UNDECIDED: _YELLOW}


def aligned(rows: Sequence[Sequence[str]], numbers: Collection[int] = ()) -> list[str]:
    """Returns a line for each row of cells, with columns as wide as what they hold.

    Args:
      rows: cells, as many in each row.
      numbers: columns that are aligned to the right; others are to the left.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(size) if place in numbers else cell.ljust(size)
            for place, (cell, size) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def heading(line: str) -> str:
    """Returns the heads of a table's columns, which stand out on a terminal."""
    return _styled(line, _BOLD)


def coloured(line: str, verdict: Verdict) -> str:
    """Returns a line in the colour of a verdict."""
    return _styled(line, _COLOURS[verdict])


def recommended(line: str) -> str:
    """Returns the line of what is recommended, which stands out on a terminal."""
    return _styled(line, f"{_BOLD};{_GREEN}")


def _styled(line: str, style: str) -> str:
    return f"\x1b[{style}m{line}\x1b[0m" if _has_styles() else line


def _has_styles() -> bool:
    """Tells whether stdout shows styles.

    `NO_COLOR` leaves them out and `FORCE_COLOR` puts them in, where they are set and not empty; a
    terminal that is called "dumb" has none.
    """
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return os.environ.get("TERM") not in (None, "", "dumb") and sys.stdout.isatty()
