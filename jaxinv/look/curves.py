"""Series as curves: each original, and what an attack made of it, over one another. Pillow."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from jaxinv.look import canvas

_WIDTH, _HEIGHT = 190, 100  # pixels of a cell
_FINE = 3  # lines are drawn so much larger, and reduced: Pillow's are not smooth
_ORIGINAL, _FOUND = "#9A9A9A", "#1F5FA8"
_MOST_CHANNELS = 3  # in a cell, one below another

LEGEND = "grey: original; blue: reconstruction"


def picture(
    originals: np.ndarray | None,
    rows: Sequence[tuple[str, np.ndarray]],
    *,
    title: str,
    names: Sequence[str],
    max_images: int = 6,
) -> Image.Image:
    """Draws a row of cells for each attack, one for each series.

    Args:
      originals: `[N, T, C]` in unit space; None where they are not known.
      rows: a label and reconstructions `[N, T, C]` for each row.
      title: above the picture.
      names: of the channels, of which three at most are drawn.
      max_images: series that are drawn, from the first.
    """
    shown = min(len(rows[0][1]), max_images)
    channels = min(len(names), _MOST_CHANNELS)
    height = _HEIGHT if channels == 1 else 64 * channels
    told = LEGEND if originals is not None else "blue: reconstruction"
    if len(names) > 1:
        told += f"; from the top {', '.join(names[:channels])}"
    left = canvas.MARGIN + max(canvas.measure(label, canvas.LABEL)[0] for label, _ in rows)
    pitch = height + canvas.GAP
    note = canvas.measure(told, canvas.NOTE)[1] + canvas.GAP
    width = max(left + shown * (_WIDTH + canvas.GAP), canvas.measure(told, canvas.NOTE)[0])
    page, top = canvas.page_of(title, width, note + len(rows) * pitch)
    canvas.write(page, told, (canvas.MARGIN, top), canvas.NOTE, "la")
    for row, (label, found) in enumerate(rows):
        corner = top + note + row * pitch
        canvas.write(page, label, (left, corner + height // 2), canvas.LABEL, "rm")
        for column in range(shown):
            original = None if originals is None else originals[column]
            cell = _cell(original, found[column], (_WIDTH, height), channels)
            x = left + canvas.MARGIN + column * (_WIDTH + canvas.GAP)
            canvas.paste(page, cell, (x, corner))
    return page


def _cell(
    original: np.ndarray | None, found: np.ndarray, size: canvas.Size, channels: int
) -> Image.Image:
    if not np.isfinite(found).all():
        return canvas.diverged(size)
    cell = Image.new("RGB", (size[0] * _FINE, size[1] * _FINE), "white")
    draw = ImageDraw.Draw(cell)
    band = size[1] * _FINE / channels
    for channel in range(channels):
        curves = [found[:, channel]] + ([] if original is None else [original[:, channel]])
        ends = min(map(np.min, curves)), max(map(np.max, curves))
        if original is not None:
            draw.line(_points(original[:, channel], ends, cell.width, band, channel), _ORIGINAL, 9)
        draw.line(_points(found[:, channel], ends, cell.width, band, channel), _FOUND, 4)
    return cell.resize(size, Image.Resampling.LANCZOS)


def _points(
    values: np.ndarray, ends: tuple[float, float], width: int, band: float, channel: int
) -> list[tuple[float, float]]:
    """Returns the points of a curve in its band of a cell."""
    low, high = ends
    share = (values - low) / (high - low) if high > low else np.full(len(values), 0.5)
    x = np.linspace(0.02 * width, 0.98 * width, len(values))
    y = (channel + 0.92 - 0.84 * share) * band
    return list(zip(x.tolist(), y.tolist(), strict=True))
