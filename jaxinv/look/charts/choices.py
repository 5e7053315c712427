"""Choices of a cut and a defence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxinv.look.charts import style
from jaxinv.look.charts.costs import prefix_of
from jaxinv.look.charts.style import alt

_MOST = 8  # defences that are told apart by their levels too
_LABELS = {
    "ssim": "SSIM left to the strongest attacker",
    "reid": "share that an attacker re-identifies",
    "usability": "accuracy",
    "energy_j": "energy of the edge for one image",
    "latency_s": "latency of one image",
}
_SHOWN = (
    "(split == '' || datum.y == split) && (kind == '' || datum.kind == kind)"
    " && (!meets || datum.meets)"
)


def figure(
    rows: Sequence[style.Row],
    *,
    title: str = "",
    tooltip: Sequence[str] = (),
    measure: str = "accuracy",
) -> style.Figure:
    """Returns what each choice leaves to the strongest attacker, its usability and its costs.

    Cuts are below each other, in order, and so are the defences of a cut: none hides another. On
    the page, the parameters `split`, `kind` and `meets` choose what is shown.

    Args:
      rows: `split`, `defense` (a name with its level), `kind`, `ssim_mean`, `ssim_ci`, `reid` and
        `usability_mean` (shares), `energy_j`, `latency_s`; `pareto`, `meets` and `recommended` are
        whether it is in the Pareto set, meets the constraints, and is recommended.
      title: the words above the panels.
      tooltip: fields of the rows that the page shows with a point.
      measure: name of the usability.

    Raises:
      ValueError: there is no choice.
    """
    if not rows:
        raise ValueError("Expected at least one choice, got none.")
    name = "defense" if len({row["defense"] for row in rows}) <= _MOST else "kind"
    looks = style.looks_of(row[name] for row in rows)
    kept = ("kind", "pareto", "meets", "recommended", *tooltip)
    panels = []
    for quantity in _LABELS:
        points = style.known(
            {
                **{key: row[key] for key in kept},
                **{"series": row[name], "y": row["split"]},
                **style.measured(row, quantity, "x"),
            }
            for row in rows
        )
        if points:
            label = measure if quantity == "usability" else _LABELS[quantity]
            panels.append(_panel(points, quantity, label, looks, tooltip))
    notes = {"in a ring: recommended": "circle", "hollow: not in the Pareto set": "diamond"}
    legend = [look._replace(dash=()) for look in looks.values()]
    legend += [style.Key(words, shape=shape, filled=False) for words, shape in notes.items()]
    return style.Figure(title, panels, legend)


def _panel(
    points: Sequence[style.Row],
    quantity: str,
    label: str,
    looks: dict[str, style.Key],
    tooltip: Sequence[str],
) -> style.Panel:
    cuts = list(dict.fromkeys(row["y"] for row in points))
    y = alt.Y("y:N", title=None, sort=cuts, axis=alt.Axis(grid=True))
    factor, label, options = _scale([row["x"] for row in points], quantity, label)
    x = alt.X("x:Q", title=None, **options)
    ends = ("x", "x_low", "x_high")
    rows = [{**row, **{end: factor * row[end] for end in ends}} for row in points]
    base = style.marks(rows, looks, x, y, dodge="yOffset").transform_filter(_SHOWN)
    symbols = base.mark_point(size=50, opacity=1).encode(
        shape=style.scaled(alt.Shape, looks),
        fill=style.scaled(alt.Fill, looks),
        fillOpacity=alt.when("datum.pareto").then(alt.value(1)).otherwise(alt.value(0)),
        tooltip=[f"{name}:N" for name in tooltip],
    )
    bars = base.mark_rule(opacity=0.6).encode(x="x_low:Q", x2="x_high:Q")
    rings = base.transform_filter("datum.recommended").mark_point(
        shape="circle", size=230, strokeWidth=1.5, opacity=1, color=style.INK
    )
    rings = rings.encode(color=alt.value(style.INK))
    height = len(cuts) * max(22, 9 * len(looks))
    chart = style.layered(bars, rings, symbols, height=height)  # the mouse finds what is on top
    chart = chart.add_params(*(alt.param(name=name, value="") for name in ("split", "kind")))
    return style.Panel(label, chart.add_params(alt.param(name="meets", value=False)))


def _scale(values: Sequence[float], quantity: str, label: str) -> tuple[float, str, dict[str, Any]]:
    """Returns the factor, the name and the scale of a quantity; costs are in equal factors."""
    if quantity in ("ssim", "reid"):
        return 1.0, label, {"scale": alt.Scale(domain=[0, 1], padding=10, nice=False, clamp=True)}
    if quantity == "usability":
        return 1.0, label, style.shares(values)
    factor, prefix = prefix_of(values)
    unit = "J" if quantity == "energy_j" else "s"
    options = style.logarithmic(factor * value for value in values)
    return factor, f"{label} ({prefix}{unit})", options
