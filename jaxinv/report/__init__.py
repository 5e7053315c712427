"""One page of what all runs found: what to choose, curves, pictures, and where it is all from.

Reads records and the pictures beside them, and computes nothing again; JAX is not imported. The
page is one HTML file that loads nothing: charts are Vega-Lite by Altair, drawn by the browser. What
records hold is not trusted: it is escaped, and what is no number is shown as missing.

`read` finds the records, `build` makes the page of them, `write` writes it and its figures.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from jaxinv.errors import UserError
from jaxinv.look.charts import style
from jaxinv.report import page, results
from jaxinv.store import files, records
from jaxinv.store.record import Record

FORMATS = ("png", "pdf")
"""Formats of the figures beside the page."""


def read(workdir: str | os.PathLike[str], datasets: Sequence[str] | None = None) -> list[Record]:
    """Reads every record under a work folder.

    Args:
      workdir: where runs lie.
      datasets: names of those that are wanted; None for all.

    Raises:
      UserError: there is none.
    """
    found = records.find(workdir)
    if not found:
        raise UserError(
            f"workdir={workdir} holds no finished run; an experiment makes some: jaxinv whitebox"
        )
    if datasets is None:
        return found
    chosen = [record for record in found if record.dataset in datasets]
    if not chosen:
        there = ", ".join(sorted({record.dataset for record in found}))
        raise UserError(f"dataset={','.join(datasets)}: the runs there are of {there}.")
    return chosen


def build(found: Sequence[Record]) -> str:
    """Returns the page of records; their pictures are read here."""
    return page.render(results.sort(found))[0]


def write(
    found: Sequence[Record],
    path: str | os.PathLike[str],
    *,
    formats: Sequence[str] = FORMATS,
) -> list[Path]:
    """Writes the page, and its figures into `figures/` beside it.

    Args:
      found: the records.
      path: of the HTML file.
      formats: of the figures, of `FORMATS`; none writes none.

    Returns:
      What was written, the page first.

    Raises:
      UserError: something cannot be written.
    """
    path = Path(path)
    html, figures = page.render(results.sort(found))
    files.atomic_write(path, lambda file: file.write(html.encode()))
    written = [path]
    names = _names([f"{kind} {figure.title}" for kind, figure in figures])
    for (_, figure), name in zip(figures, names, strict=True):
        for kind in formats:
            written.append(path.parent / "figures" / f"{name}.{kind}")
            style.save(written[-1], figure)
    return written


def _names(titles: Sequence[str]) -> list[str]:
    """Names of files, safe and different."""
    safe = [re.sub(r"[^A-Za-z0-9]+", "-", title)[:80].strip("-").lower() for title in titles]
    return [
        name if safe.count(name) == 1 else f"{name}-{place}" for place, name in enumerate(safe, 1)
    ]
