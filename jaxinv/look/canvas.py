"""Text on pictures, and the cell of what diverged. Pillow."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

MARGIN, GAP = 18, 6  # pixels around a picture, and between its cells
TITLE, LABEL, NOTE = 22, 18, 15  # pixels: sizes of text
INK, FRAME = "black", "#D0D0D0"  # a frame shows where an image as white as the page ends
_DIVERGED, _HATCH = "#E6E6E6", "#BBBBBB"

Size = tuple[int, int]
"""Width and height in pixels."""


def write(
    page: Image.Image, text: str, at: Size, size: int, anchor: str, colour: str = INK
) -> None:
    """Writes text, which may have several lines; `anchor` is as Pillow has them."""
    align = "right" if anchor[0] == "r" else "left"
    font = ImageFont.load_default(size)
    ImageDraw.Draw(page).multiline_text(at, text, colour, font, anchor, spacing=5, align=align)


def measure(text: str, size: int) -> Size:
    """Returns the width and height of text in pixels, rounded up."""
    draw = ImageDraw.Draw(Image.new("L", (1, 1)))
    box = draw.multiline_textbbox((0, 0), text, ImageFont.load_default(size), spacing=5)
    return int(np.ceil(box[2])), int(np.ceil(box[3]))


def paste(page: Image.Image, cell: Image.Image, corner: Size) -> None:
    """Pastes a cell with a frame around it."""
    x, y = corner
    frame = [x - 1, y - 1, x + cell.width, y + cell.height]
    ImageDraw.Draw(page).rectangle(frame, outline=FRAME)
    page.paste(cell, corner)


def diverged(size: Size) -> Image.Image:
    """Returns a hatched cell with the word "diverged"."""
    cell = Image.new("RGB", size, _DIVERGED)
    draw = ImageDraw.Draw(cell)
    for start in range(-size[1], size[0], 12):
        draw.line([(start, size[1]), (start + size[1], 0)], fill=_HATCH)
    middle = size[0] // 2, size[1] // 2
    box = draw.textbbox(middle, "diverged", font=ImageFont.load_default(NOTE), anchor="mm")
    draw.rectangle([box[0] - 4, box[1] - 4, box[2] + 4, box[3] + 4], fill="white")
    write(cell, "diverged", middle, NOTE, "mm")
    return cell


def page_of(title: str, width: int, height: int) -> tuple[Image.Image, int]:
    """Returns a white page for a body of this size below a title, and the body's first row."""
    top = MARGIN + (measure(title, TITLE)[1] + MARGIN if title else 0)
    right = max(width, measure(title, TITLE)[0] + MARGIN if title else 0)
    page = Image.new("RGB", (MARGIN + right + MARGIN, top + height + MARGIN), "white")
    write(page, title, (MARGIN, MARGIN), TITLE, "la")
    return page, top
