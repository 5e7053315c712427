"""Styles of printed text, on terminals that have them. Standard library."""

import os
import sys

BOLD, RED, GREEN, YELLOW = "1", "31", "32", "33"
"""Styles, as terminals number them."""


def styled(text: str, *styles: str) -> str:
    """Returns text as it is printed on stdout: in some styles on a terminal, else as it is.

    `NO_COLOR` leaves styles out and `FORCE_COLOR` puts them in, where they are set and not empty;
    a terminal that is called "dumb" has none.

    Args:
      text: one line or several, each of which is styled by itself.
      styles: some of `BOLD` and the colours.
    """
    if not styles or not _has_styles():
        return text
    begin, end = f"\x1b[{';'.join(styles)}m", "\x1b[0m"
    return "\n".join(f"{begin}{line}{end}" if line else line for line in text.split("\n"))


def _has_styles() -> bool:
    """Tells whether stdout shows styles."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return os.environ.get("TERM") not in (None, "", "dumb") and sys.stdout.isatty()
