"""Text as it can be drawn, whatever a record holds. Standard library."""

import math

_MARKS = frozenset("\\|`*_[]<>#~")


def markdown(text: str) -> str:
    """Returns text for a cell of a Markdown table: in one line, with nothing marked up."""
    shown = " ".join(printable(text).split())
    return "".join(f"\\{character}" if character in _MARKS else character for character in shown)


def rounded_up(limit: float, digits: int = 3) -> float:
    """Returns an upper limit with some digits behind the point, so that it is one still."""
    return math.ceil(limit * 10**digits - 1e-9) / 10**digits


def printable(text: str) -> str:
    """Returns text with a mark in place of every character that cannot be drawn.

    Control characters and lone surrogates abort the program that draws charts. Line breaks stay;
    other white space becomes a space.
    """
    return "".join(map(_printable, text))


def _printable(character: str) -> str:
    if character == "\n" or character.isprintable():
        return character
    return " " if character.isspace() else "\N{REPLACEMENT CHARACTER}"
