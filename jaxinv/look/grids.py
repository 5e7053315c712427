"""Grids of images, as PNG files: the originals above rows of reconstructions."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from jaxinv.look.canvas import (
    GAP,
    LABEL,
    MARGIN,
    TITLE,
    Size,
    diverged,
    measure,
    paste,
    write,
)
from jaxinv.look.text import printable
from jaxinv.store.files import atomic_write

_CELL = 112  # pixels: an image's longer side is enlarged to about this, by a whole factor


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
    sizes = [measure(label, LABEL) for label, _ in table]
    left = 2 * MARGIN + max(size[0] for size in sizes)
    top = MARGIN + (measure(title, TITLE)[1] + MARGIN if title else 0)
    pitch = GAP + max(height, *(size[1] for size in sizes))
    right = max(left + count * (width + GAP) - GAP, MARGIN + measure(title, TITLE)[0])
    bottom = top + len(table) * pitch - GAP
    page = Image.new("RGB", (right + MARGIN, bottom + MARGIN), "white")
    write(page, title, (MARGIN, MARGIN), TITLE, "la")
    for row, (label, images) in enumerate(table):
        middle = top + row * pitch + (pitch - GAP) // 2
        write(page, label, (left - MARGIN, middle), LABEL, "rm")
        for column, image in enumerate(images):
            corner = left + column * (width + GAP), middle - height // 2
            paste(page, _cell(image, (width, height)), corner)
    return page


def _cell(image: np.ndarray, size: Size) -> Image.Image:
    """Returns an image `[H, W, C]` enlarged to `size`, or a hatched cell if it diverged."""
    if not np.isfinite(image).all():
        return diverged(size)
    pixels = np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)
    colours = np.broadcast_to(in_colours(pixels), (*pixels.shape[:2], 3))
    return Image.fromarray(np.ascontiguousarray(colours)).resize(size, Image.Resampling.NEAREST)


def _check_shapes(table: Sequence[tuple[str, np.ndarray]]) -> None:
    shape = table[0][1].shape
    if len(shape) != 4 or not all(shape):
        raise ValueError(f"Expected images [N, H, W, C] with N >= 1, got {shape}.")
    for label, images in table:
        if images.shape != shape:
            raise ValueError(f"Expected images {shape} for row {label!r}, got {images.shape}.")
