"""Rows of a table, and what attacks made of them: a line for each column. Pillow."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from jaxinv.look import canvas

_LINE, _PAD = 24, 10  # pixels: height of a line, and space beside a value
_NEAR, _FAR = 0.02, 0.25  # shares of a column's range: errors as small leak, as large do not
_LEAK = (233, 120, 90)
_GROUP = "#F2F2F2"

LEGEND = "red: within 2% of the column's range; white: off by 25% or more"


class Column(NamedTuple):
    """A column's name with its unit, and its range in that."""

    name: str
    low: float
    high: float


def picture(
    originals: np.ndarray | None,
    rows: Sequence[tuple[str, np.ndarray]],
    *,
    title: str,
    columns: Sequence[Column],
    max_images: int = 3,
    max_columns: int = 30,
) -> Image.Image:
    """Draws values in the columns' units, a block for each row of the table.

    Args:
      originals: `[N, F]` in unit space; None where they are not known.
      rows: a label and reconstructions `[N, F]` for each attack.
      title: above the picture.
      columns: F of them.
      max_images: rows of the table that are drawn, from the first: fewer beside several attacks.
      max_columns: columns that are drawn, from the first.
    """
    shown = min(len(rows[0][1]), max_images if len(rows) < 3 else 2)
    named = list(columns[:max_columns])
    labels = [label for label, _ in rows]
    heads = ([] if originals is None else ["original"]) + labels
    widths = [max(canvas.measure(head, canvas.NOTE)[0], 84) + 2 * _PAD for head in heads]
    left = max(canvas.measure(each.name, canvas.NOTE)[0] for each in named) + 2 * _PAD
    block = sum(widths) + canvas.GAP
    lines = max(head.count("\n") for head in heads) + 1
    top_lines = _LINE * (lines + 1)
    left_out = len(columns) - len(named)
    note = LEGEND + (f"; {left_out} more columns" if left_out else "")
    height = _LINE + top_lines + _LINE * len(named)
    width = max(left + shown * block, canvas.measure(note, canvas.NOTE)[0])
    page, top = canvas.page_of(title, width, height)
    canvas.write(page, note, (canvas.MARGIN, top), canvas.NOTE, "la")
    first = top + _LINE + top_lines
    for line, each in enumerate(named):
        y = first + line * _LINE + _LINE // 2
        canvas.write(page, each.name, (canvas.MARGIN, y), canvas.NOTE, "lm")
    for place in range(shown):
        corner = canvas.MARGIN + left + place * block, top + _LINE
        known = None if originals is None else originals[place]
        found = [each[place] for _, each in rows]
        _block(page, corner, f"row {place + 1}", known, found, heads, widths, named)
    return page


def _block(
    page: Image.Image,
    corner: canvas.Size,
    name: str,
    original: np.ndarray | None,
    found: Sequence[np.ndarray],
    heads: Sequence[str],
    widths: Sequence[int],
    columns: Sequence[Column],
) -> None:
    """Draws one row of the table: its original and every reconstruction, column by column."""
    x, y = corner
    draw = ImageDraw.Draw(page)
    lines = max(head.count("\n") for head in heads) + 1
    draw.rectangle([x, y, x + sum(widths) - 1, y + _LINE - 2], fill=_GROUP)
    canvas.write(page, name, (x + _PAD, y + _LINE // 2), canvas.NOTE, "lm")
    values = ([] if original is None else [original]) + list(found)
    for number, (head, width, own) in enumerate(zip(heads, widths, values, strict=True)):
        canvas.write(page, head, (x + width - _PAD, y + _LINE + 4), canvas.NOTE, "ra")
        is_original = original is not None and not number
        for line, column in enumerate(columns):
            at = y + _LINE * (lines + 1 + line)
            if not is_original and original is not None:
                shade = _shade(own[line] - original[line])
                draw.rectangle([x, at, x + width - 2, at + _LINE - 2], fill=shade)
            text = _told(own[line], column)
            canvas.write(page, text, (x + width - _PAD, at + _LINE // 2), canvas.NOTE, "rm")
        x += width


def _told(share: float, column: Column) -> str:
    if not np.isfinite(share):
        return "diverged"
    return f"{column.low + float(np.clip(share, 0, 1)) * (column.high - column.low):.4g}"


def _shade(error: float) -> tuple[int, int, int]:
    """Returns a colour: the nearer to the original, the stronger."""
    if not np.isfinite(error):
        return (230, 230, 230)
    kept = float(np.clip((_FAR - abs(error)) / (_FAR - _NEAR), 0, 1))
    red, green, blue = (round(255 + kept * (each - 255)) for each in _LEAK)
    return red, green, blue
