"""The cost of each split."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from jaxinv.look.charts import style
from jaxinv.look.charts.style import alt

_LEGEND = {
    "edge": style.Key("edge computes", style.COLOURS[1], "square"),
    "uplink": style.Key("radio wakes and sends, round trip", style.COLOURS[0], "square"),
    "cloud": style.Key("cloud computes", style.COLOURS[2], "square"),
    "wait": style.Key("edge waits", style.COLOURS[3], "square"),
    "tail": style.Key("tail of the radio", style.COLOURS[4], "square"),
}


def figure(rows: Sequence[style.Row], *, title: str = "") -> style.Figure:
    """Returns the latency of each split and the energy of the edge, by part (Fig. 2 of the paper).

    Args:
      rows: a bar each, from above: `split`, `edge_s`, `uplink_s`, `cloud_s` (seconds, medians),
        `edge_j`, `uplink_j`, `wait_j` and `tail_j` (joules).
      title: the words above the panels.

    Raises:
      ValueError: there is no row.
    """
    if not rows:
        raise ValueError("Expected at least one split, got none.")
    panels = []
    for key, parts, words in (
        ("s", ("edge", "uplink", "cloud"), "median latency of one image"),
        ("j", ("edge", "uplink", "wait", "tail"), "energy of the edge for one image"),
    ):
        totals = {row["split"]: sum(row[f"{part}_{key}"] for part in parts) for row in rows}
        factor, prefix = prefix_of(totals.values())
        bars = [
            {"series": part, "y": row["split"], "x": factor * row[f"{part}_{key}"]}
            for row in rows
            for part in parts
        ]
        ends = [
            {"series": parts[0], "y": split, "x": factor * total, "text": f"{factor * total:.3g}"}
            for split, total in totals.items()
        ]
        limit = 1.12 * factor * max(totals.values()) or 1.0
        scale = alt.Scale(domain=[0, limit], nice=False)
        unit = "J" if key == "j" else "s"
        x = alt.X("x:Q", title=f"{words} ({prefix}{unit})", scale=scale)
        y = alt.Y("y:N", title=None, sort=list(totals), scale=alt.Scale(padding=0.2))
        text = style.marks(ends, _LEGEND, x, y).mark_text(align="left", dx=4)
        chart = style.layered(
            style.marks(bars, _LEGEND, x, y).mark_bar(opacity=1).encode(order="place:Q"),
            text.encode(text="text:N", color=alt.value(style.GREY)),
            height=22 * len(totals),
        )
        panels.append(style.Panel("", chart))
    return style.Figure(title, panels, list(_LEGEND.values()))


def prefix_of(values: Iterable[float]) -> tuple[float, str]:
    """Returns the factor and the prefix of a unit that make the largest value 1 or more."""
    largest = max(values)
    prefixes = ((1.0, ""), (1e3, "m"), (1e6, "µ"))
    return next((each for each in prefixes if each[0] * largest >= 1), prefixes[-1])
