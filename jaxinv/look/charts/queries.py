"""Quality against the number of queries that an attacker may ask."""

from __future__ import annotations

from collections.abc import Sequence

from jaxinv.look.charts import style
from jaxinv.look.charts.style import alt


def figure(rows: Sequence[style.Row], *, title: str = "") -> style.Figure:
    """Returns SSIM and PSNR against queries, a line for each split.

    Args:
      rows: `split`, `num_queries`, `ssim_mean`, `ssim_ci`, `psnr_mean` and `psnr_ci` (dB), as
        records have them. Splits keep their order.
      title: the words above the panels.

    Raises:
      ValueError: there is no row.
    """
    if not rows:
        raise ValueError("Expected at least one split, got none.")
    looks = style.looks_of(row["split"] for row in rows)
    rows = sorted(rows, key=lambda row: row["num_queries"])
    numbers = [row["num_queries"] for row in rows]
    x = alt.X(
        "x:Q",
        title="queries that the attacker may ask",
        **style.logarithmic(numbers, numbers),
    )
    panels = []
    for name, label in (("ssim", "SSIM"), ("psnr", "PSNR (dB)")):
        points = [
            {"series": row["split"], "x": row["num_queries"], **style.measured(row, name)}
            for row in rows
        ]
        y = alt.Y("y:Q", title=None, scale=alt.Scale(zero=False))
        chart = style.lines(points, looks, x, y)
        panels.append(style.Panel(label, chart))
    return style.Figure(title, panels, list(looks.values()))
