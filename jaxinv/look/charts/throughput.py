"""The speed of attacks."""

from __future__ import annotations

from collections.abc import Sequence

from jaxinv.look.charts import style
from jaxinv.look.charts.style import alt

_RATE = "image_iterations_per_s"


def figure(rows: Sequence[style.Row], *, title: str = "") -> style.Figure:
    """Returns the image-iterations a second of attacks, against images at once.

    A line for each cut and method, in the colour of the cut and with the symbol of the method; bars
    for the extremes. Where several numbers of devices were measured, the first panel is of the
    least, and a second one has the largest batch against their number, with dotted lines in
    proportion to it. All axes are logarithmic. Training is not drawn.

    Args:
      rows: of a `benchmark` record: `split`, `method`, `phase`, `batch`, `devices`,
        `image_iterations_per_s`, and its `_low` and `_high`.
      title: the words above the panels.

    Raises:
      ValueError: there is no attack.
    """
    attacks = [row for row in rows if row["phase"] == "attack"]
    if not attacks:
        raise ValueError("Expected at least one attack, got none.")
    cuts = style.looks_of(row["split"] for row in attacks)
    methods = style.looks_of(row["method"] for row in attacks)
    looks = {
        f"{cut}, {method}": colour._replace(shape=shape.shape)
        for cut, colour in cuts.items()
        for method, shape in methods.items()
    }
    fewest, most = min(row["devices"] for row in attacks), max(row["batch"] for row in attacks)
    devices = f", {fewest} devices" if fewest > 1 else ""
    label = f"batch: images at once on each device{devices}"
    own = [row for row in attacks if row["devices"] == fewest]
    panels = [style.Panel("", _panel(own, "batch", label, looks))]
    if any(row["devices"] != fewest for row in attacks):
        own = [row for row in attacks if row["batch"] == most]
        label = f"devices, each with {most:,} images at once"
        panels.append(style.Panel("", _panel(own, "devices", label, looks)))
    legend = [look._replace(shape="") for look in cuts.values()]
    legend += [style.Key(name, shape=look.shape) for name, look in methods.items()]
    return style.Figure(title, panels, legend)


def _panel(
    rows: Sequence[style.Row], along: str, label: str, looks: dict[str, style.Key]
) -> alt.LayerChart:
    points, ideal = [], []
    first: dict[str, style.Row] = {}
    for row in sorted(rows, key=lambda row: row[along]):
        series, (rate, low, high) = f"{row['split']}, {row['method']}", _rates(row)
        points.append({"series": series, "x": row[along], "y": rate, "y_low": low, "y_high": high})
        start = first.setdefault(series, points[-1])
        ideal.append({**points[-1], "y": start["y"] * row[along] / start["x"]})
    counts = [row[along] for row in rows]
    x = alt.X(
        "x:Q",
        title=label,
        **style.logarithmic(counts, counts),
    )
    ends = [row[end] for row in points for end in ("y_low", "y_high")]
    y = alt.Y("y:Q", title="image-iterations a second", **style.logarithmic(ends))
    dotted = style.marks(ideal, looks, x, y).mark_line(strokeDash=style.DOTTED)
    under = [dotted.encode(color=alt.value(style.GREY))] if along == "devices" else []
    return style.lines(points, looks, x, y, under=under)


def _rates(row: style.Row) -> list[float]:
    return [row[f"{_RATE}{end}"] for end in ("", "_low", "_high")]
