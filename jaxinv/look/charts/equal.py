"""Defences at equal accuracy: what the claimed attacker finds, and the strongest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jaxinv.look.charts import style
from jaxinv.look.charts.style import alt
from jaxinv.store.standing import Reconstructed, Standing
from jaxinv.store.standing import points as words

_LOOKS = {
    "claimed": style.Key("the attacker that papers judge by", style.COLOURS[0], "circle"),
    "strongest": style.Key("the strongest of all attackers", style.COLOURS[1], "diamond"),
}
_PITCH = 26  # pixels from one defence to the next
_TOLD = ("Defence", "Level", "Attacker", "SSIM")


def figure(standings: Sequence[Standing], *, title: str = "") -> style.Figure | None:
    """Returns the SSIM that two attackers reach behind each defence, a panel for each loss.

    The two points of a defence are joined: the longer the line, the less its paper's attacker tells
    of it. Defences are below each other, the one that leaks least to the strongest first. On the
    page a point tells its defence, level, attacker and interval.

    Args:
      standings: defences at one or several losses of accuracy.
      title: the words above the panels.

    Returns:
      The figure; None if no attacker has a finite SSIM.
    """
    panels = []
    for loss in dict.fromkeys(each.loss for each in standings):
        points = style.known(
            _point(each, name, found)
            for each in standings
            for name, found in (("claimed", each.claimed), ("strongest", each.strongest))
            if each.loss == loss and found is not None
        )
        if points:
            panels.append(style.Panel(f"SSIM at {words(loss)} of accuracy", _panel(points)))
    return style.Figure(title, panels, list(_LOOKS.values())) if panels else None


def _point(standing: Standing, name: str, found: Reconstructed) -> dict[str, Any]:
    quality = {"ssim": found.ssim_mean, "ssim_ci": found.ssim_ci}
    told = (standing.defense, standing.level, found.attacker, _interval(found))
    own = {"series": name, "y": standing.defense, **style.measured(quality, "ssim", "x")}
    return {**dict(zip(_TOLD, told, strict=True)), **own}


def _interval(found: Reconstructed) -> str:
    if found.ssim_mean is None:
        return ""
    low, high = found.ssim_ci
    ends = "" if low is None or high is None else f" [{low:.3f}, {high:.3f}]"
    return f"{found.ssim_mean:.3f}{ends}"


def _panel(points: Sequence[style.Row]) -> alt.LayerChart:
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
        shape=style.scaled(alt.Shape, _LOOKS), tooltip=[f"{name}:N" for name in _TOLD]
    )
    bars = base.mark_rule(opacity=0.6, strokeWidth=1.5).encode(x="x_low:Q", x2="x_high:Q")
    height = _PITCH * len(order)
    return style.layered(joined.encode(x=x, x2="x2:Q", y=y), bars, symbols, height=height)


def _joined(points: Sequence[style.Row]) -> list[Mapping[str, Any]]:
    """Returns, for each defence that both attacked, where the two are."""
    ends: dict[str, dict[str, float]] = {}
    for row in points:
        ends.setdefault(row["y"], {})[row["series"]] = row["x"]
    return [
        {"y": name, "x": both["claimed"], "x2": both["strongest"]}
        for name, both in ends.items()
        if len(both) == 2
    ]
