"""Kinds of inputs: images, series and rows of a table, told by the grid that one lies on.

Every input is `(H, W, C)`: channels at places of a grid. An image has its pixels there, a series of
T steps is a column of T places, a row of a table is a single place whose channels are its columns.
So whatever works on neighbours works on a series in time, and on a row not at all.
"""

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple


class Kind(NamedTuple):
    """A kind of input.

    Attributes:
      name: "image", "series" or "table".
      singular, plural: what one input is called, and what several are.
      similarity: key of records that tells how much a reconstruction looks like its original.
      title: of this similarity, for people.
    """

    name: str
    singular: str
    plural: str
    similarity: str
    title: str

    @property
    def limit(self) -> str:
        """The argument that limits the similarity."""
        return f"max_{self.similarity}"


IMAGE = Kind("image", "image", "images", "ssim", "SSIM")
SERIES = Kind("series", "series", "series", "correlation", "correlation")
TABLE = Kind("table", "row", "rows", "correlation", "correlation")
KINDS = {kind.name: kind for kind in (IMAGE, SERIES, TABLE)}


def of(shape: Sequence[int]) -> Kind:
    """Returns the kind of inputs that lie on a grid `(H, W, C)`."""
    if len(shape) != 3 or shape[1] > 1:
        return IMAGE
    return SERIES if shape[0] > 1 else TABLE


def grid_of(shape: Sequence[int], kind: Kind) -> tuple[int, ...]:
    """Returns the grid of inputs of a shape of their own: `(T, C)`, `(T,)` or `(F,)`.

    Images `(H, W, C)` have theirs already.
    """
    if kind == IMAGE:
        return tuple(shape)
    if kind == TABLE:
        return (1, 1, math.prod(shape))
    return (shape[0], 1, math.prod(shape[1:]))


# Words, and neither parts of flags, file names and addresses, nor data.
_WORDS = re.compile(r"(?<![\w:/.=-])(SSIM\b|max_ssim\b|(?:an image|[Ii]mages?)\b(?![\w/=]|\.\w))")
# Heads of columns, which stay as wide.
_HEADS = (
    (re.compile(r" {7}SSIM(?= \[)"), "correlation"),
    (re.compile(r"SSIM(?= {2})|(?<= {2})SSIM(?! \[)"), "corr"),
)


def in_words(value: Any, kind: Kind) -> Any:
    """Returns text about images as text about another kind: its similarity, its inputs.

    Args:
      value: text, or mappings, lists and tuples of it, whose keys are text, too.
      kind: that it is about; text about images stays as it is.
    """
    if kind == IMAGE or value is None:
        return value
    if type(value) is str:
        return value if value.startswith("data:") else _worded(value, kind)
    if isinstance(value, dict):
        return {in_words(key, kind): in_words(each, kind) for key, each in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(in_words(each, kind) for each in value))
    if isinstance(value, list | tuple):
        return type(value)(in_words(each, kind) for each in value)
    return value


def _worded(text: str, kind: Kind) -> str:
    words = {"SSIM": kind.title, "max_ssim": kind.limit}
    words |= {"an image": f"a {kind.singular}", "image": kind.singular, "images": kind.plural}
    words |= {"Image": kind.singular.capitalize(), "Images": kind.plural.capitalize()}
    for head, word in _HEADS:
        text = head.sub(word, text)

    def replaced(match: re.Match[str]) -> str:
        is_head = text[match.end() : match.end() + 2] == "  "
        return words[match[1]].ljust(len(match[1]) if is_head else 0)

    return _WORDS.sub(replaced, text)
