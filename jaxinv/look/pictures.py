"""Pictures of reconstructions, by kind of input: grids of images, curves, rows of a table."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from jaxinv.constants import kinds
from jaxinv.look import curves, grids
from jaxinv.look import rows as table_rows
from jaxinv.look.text import printable
from jaxinv.store.files import atomic_write

Rows = Sequence[tuple[str, np.ndarray]]


def reconstructions(
    path: str | Path,
    originals: np.ndarray | None,
    rows: Rows,
    inputs: Mapping[str, Any] | None = None,
    *,
    title: str = "",
) -> None:
    """Writes a PNG of originals and reconstructions, whole or not at all.

    Args:
      path: of the file.
      originals: `[N, ...]` in unit space, as a run keeps them; None where they are not known.
      rows: a label and reconstructions of the same shape for each row.
      inputs: what a record says of series and tables; None for images.
      title: above the picture.

    Raises:
      UserError: the file cannot be written.
    """
    if inputs is None:
        grids.reconstruction_grid(path, originals, rows, title=title)
        return
    page = of_vectors(originals, rows, inputs, title=title)

    def save(file: IO[bytes]) -> None:
        page.save(file, format="PNG")

    atomic_write(path, save)


def of_vectors(
    originals: np.ndarray | None, rows: Rows, inputs: Mapping[str, Any], *, title: str = ""
) -> Image.Image:
    """Draws series or rows of a table; see `reconstructions`."""
    named = [(printable(label), np.asarray(found)) for label, found in rows]
    title = printable(title)
    columns = inputs["columns"]
    if inputs["kind"] == kinds.SERIES.name:
        shape = (-1, inputs["shape"][0], len(columns))
        placed = None if originals is None else originals.reshape(shape)
        names = [printable(_name(each)) for each in columns]
        shaped = [(label, found.reshape(shape)) for label, found in named]
        return curves.picture(placed, shaped, title=title, names=names)
    told = [
        table_rows.Column(printable(_name(each)), each["low"], each["high"]) for each in columns
    ]
    return table_rows.picture(originals, named, title=title, columns=told)


def _name(column: Mapping[str, Any]) -> str:
    return f"{column['name']} [{column['unit']}]" if column["unit"] else str(column["name"])
