"""Defences at equal accuracy: what the claimed attacker finds, and the strongest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jaxinv.look.charts import style
from jaxinv.look.charts.style import alt

CLAIMED, STRONGEST = "claimed", "strongest"
_LOOKS = {
    CLAIMED: style.Key("the attacker that papers judge by", style.COLOURS[0], "circle"),
    STRONGEST: style.Key("the strongest of all attackers", style.COLOURS[1], "diamond"),
}
_PITCH = 26  # pixels from one defence to the next


def figure(
    rows: Sequence[style.Row], *, title: str = "", tooltip: Sequence[str] = ()
) -> style.Figure:
    """Returns the SSIM that two attackers reach behind each defence, a panel for each loss.

    The two points of a defence are joined: the longer the line, the less its paper's attacker tells
    of it. Defences are below each other, the one that leaks least to the strongest first.

    Args:
      rows: an attacker behind a defence: `defense`, `loss` (points of accuracy), `attacker`
        ("claimed" or "strongest"), `ssim_mean` and `ssim_ci`.
      title: the words above the panels.
      tooltip: fields of the rows that the page shows with a point.

    Raises:
      ValueError: there is no row.
    """
    if not rows:
        raise ValueError("Expected at least one defence, got none.")
    panels = []
    for loss in dict.fromkeys(row["loss"] for row in rows):
        points = style.known(
            {
                **{key: row[key] for key in tooltip},
                **{"series": row["attacker"], "y": row["defense"]},
                **style.measured(row, "ssim", "x"),
            }
            for row in rows
            if row["loss"] == loss
        )
        words = f"SSIM at {loss:g} point{'s' * (loss != 1)} of accuracy"
        panels.append(style.Panel(words, _panel(points, tooltip)))
    return style.Figure(title, panels, list(_LOOKS.values()))


def _panel(points: Sequence[style.Row], tooltip: Sequence[str]) -> alt.LayerChart:
    most: dict[str, float] = {}
    for row in points:
        most[row["y"]] = max(most.get(row["y"], row["x"]), row["x"])
    order = sorted(most, key=lambda name: most[name])
    y = alt.Y("y:N", title=None, sort=order, axis=alt.Axis(grid=True))
    scale = alt.Scale(domain=[0, 1], padding=10, nice=False, clamp=True)
    x = alt.X("x:Q", title=None, scale=scale)
    joined = alt.Chart(alt.InlineData(values=_joined(points))).mark_rule(
        color=style.GREY, strokeWidth=5, opacity=0.35
    )
    base = style.marks(points, _LOOKS, x, y)
    symbols = base.mark_point(filled=True, size=70, opacity=1).encode(
        shape=style.scaled(alt.Shape, _LOOKS), tooltip=[f"{name}:N" for name in tooltip]
    )
    bars = base.mark_rule(opacity=0.6, strokeWidth=1.5).encode(x="x_low:Q", x2="x_high:Q")
    height = _PITCH * max(1, len(order))
    return style.layered(joined.encode(x=x, x2="x2:Q", y=y), bars, symbols, height=height)


def _joined(points: Sequence[style.Row]) -> list[Mapping[str, Any]]:
    """Returns, for each defence that both attacked, where the two are."""
    ends: dict[str, dict[str, float]] = {}
    for row in points:
        ends.setdefault(row["y"], {})[row["series"]] = row["x"]
    return [
        {"y": name, "x": both[CLAIMED], "x2": both[STRONGEST]}
        for name, both in ends.items()
        if len(both) == 2
    ]
