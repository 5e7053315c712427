"""Grids of images, as PNG files: the originals above rows of reconstructions."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jaxinv.look.text import printable
from jaxinv.store.files import atomic_write

_CELL = 112  # pixels: an image's longer side is enlarged to about this, by a whole factor
_GAP = 6  # pixels between cells
_MARGIN = 18  # pixels around the grid, and between the labels and the images
_TITLE, _LABEL, _NOTE = 22, 18, 15  # pixels: sizes of text
_INK, _FRAME = "black", "#D0D0D0"  # a frame shows where an image as white as the page ends
_DIVERGED, _HATCH = "#E6E6E6", "#BBBBBB"

Size = tuple[int, int]  # width and height in pixels


def reconstruction_grid(
    path: str | Path,
    originals: np.ndarray | None,
    rows: Sequence[tuple[str, np.ndarray]],
    *,
    title: str | None = None,
    max_images: int = 10,
) -> None:
    """Draws the originals above one row of reconstructions per label (Fig. 3 of the paper).

    Every pixel of an image becomes a square of whole pixels. An image with a non-finite pixel is
    drawn as a hatched cell with the word "diverged".

    Args:
      path: the PNG to write, whole or not at all.
      originals: `[N, H, W, C]` in unit space; None where they are not known. Of more than three
        channels the first three are shown, of two the first.
      rows: a label (left of the row, may hold line breaks) and images `[N, H, W, C]`, clipped to
        unit space, for each row.
      title: drawn above the grid.
      max_images: number of the N images that are drawn, from the first.

    Raises:
      UserError: the file cannot be written.
      ValueError: there are no images, or the shapes differ.
    """
    known = [] if originals is None else [("original", originals)]
    table = [
        (printable(label), np.asarray(images[:max_images])) for label, images in [*known, *rows]
    ]
    _check_shapes(table)
    page = _draw(table, printable(title or ""))
    atomic_write(path, lambda file: page.save(file, format="PNG"))


def in_colours(images: np.ndarray) -> np.ndarray:
    """Returns the channels of `[..., C]` that a picture shows: the first three, or one of fewer."""
    return images[..., : 3 if images.shape[-1] >= 3 else 1]


def _draw(table: Sequence[tuple[str, np.ndarray]], title: str) -> Image.Image:
    count, *sides = table[0][1].shape[:3]
    scale = max(1, round(_CELL / max(sides)))
    height, width = (scale * side for side in sides)
    sizes = [_size(label, _LABEL) for label, _ in table]
    left = 2 * _MARGIN + max(size[0] for size in sizes)
    top = _MARGIN + (_size(title, _TITLE)[1] + _MARGIN if title else 0)
    pitch = _GAP + max(height, *(size[1] for size in sizes))
    right = max(left + count * (width + _GAP) - _GAP, _MARGIN + _size(title, _TITLE)[0])
    bottom = top + len(table) * pitch - _GAP
    page = Image.new("RGB", (right + _MARGIN, bottom + _MARGIN), "white")
    _write(page, title, (_MARGIN, _MARGIN), _TITLE, "la")
    for row, (label, images) in enumerate(table):
        middle = top + row * pitch + (pitch - _GAP) // 2
        _write(page, label, (left - _MARGIN, middle), _LABEL, "rm")
        for column, image in enumerate(images):
            corner = left + column * (width + _GAP), middle - height // 2
            _paste(page, _cell(image, (width, height)), corner)
    return page


def _cell(image: np.ndarray, size: Size) -> Image.Image:
    """Returns an image `[H, W, C]` enlarged to `size`, or a hatched cell if it diverged."""
    if not np.isfinite(image).all():
        return _diverged(size)
    pixels = np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)
    colours = np.broadcast_to(in_colours(pixels), (*pixels.shape[:2], 3))
    return Image.fromarray(np.ascontiguousarray(colours)).resize(size, Image.Resampling.NEAREST)


def _diverged(size: Size) -> Image.Image:
    cell = Image.new("RGB", size, _DIVERGED)
    draw = ImageDraw.Draw(cell)
    for start in range(-size[1], size[0], 12):
        draw.line([(start, size[1]), (start + size[1], 0)], fill=_HATCH)
    middle = size[0] // 2, size[1] // 2
    box = draw.textbbox(middle, "diverged", font=ImageFont.load_default(_NOTE), anchor="mm")
    draw.rectangle([box[0] - 4, box[1] - 4, box[2] + 4, box[3] + 4], fill="white")
    _write(cell, "diverged", middle, _NOTE, "mm")
    return cell


def _paste(page: Image.Image, cell: Image.Image, corner: Size) -> None:
    x, y = corner
    frame = [x - 1, y - 1, x + cell.width, y + cell.height]
    ImageDraw.Draw(page).rectangle(frame, outline=_FRAME)
    page.paste(cell, corner)


def _write(page: Image.Image, text: str, at: Size, size: int, anchor: str) -> None:
    align = "right" if anchor[0] == "r" else "left"
    font = ImageFont.load_default(size)
    ImageDraw.Draw(page).multiline_text(at, text, _INK, font, anchor, spacing=5, align=align)


def _size(text: str, size: int) -> Size:
    """Returns the width and height of `text` in pixels, rounded up."""
    draw = ImageDraw.Draw(Image.new("L", (1, 1)))
    box = draw.multiline_textbbox((0, 0), text, ImageFont.load_default(size), spacing=5)
    return int(np.ceil(box[2])), int(np.ceil(box[3]))


def _check_shapes(table: Sequence[tuple[str, np.ndarray]]) -> None:
    shape = table[0][1].shape
    if len(shape) != 4 or not all(shape):
        raise ValueError(f"Expected images [N, H, W, C] with N >= 1, got {shape}.")
    for label, images in table:
        if images.shape != shape:
            raise ValueError(f"Expected images {shape} for row {label!r}, got {images.shape}.")
