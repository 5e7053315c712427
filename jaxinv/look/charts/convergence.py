"""The way of several attacks to their reconstructions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxinv.look.charts import style
from jaxinv.look.charts.style import alt, finite

Curve = Mapping[str, Sequence[Any]]
_ALONG = {
    "steps": "iterations of the method's solver",
    "seconds": "seconds an image (a chunk's time / its images)",
}
_QUALITY = {
    "psnr": ("mean", "PSNR (dB): mean, quartiles"),
    "misfit": ("median", "misfit |edge(x) - v|² / |v|²: median, quartiles"),
}


def figure(curves: Mapping[str, Curve], *, title: str = "") -> style.Figure:
    """Returns PSNR and misfit against iterations and against seconds, a line for each attack.

    A dot is where an attack ends, a ring where one of its later stages begins. All axes but that of
    the PSNR are logarithmic. Values that are not finite are left out, and so are misfits of 0.

    Args:
      curves: for each attack, by its name in the legend, lists of one length: `steps`, `seconds`
        (an image), `psnr_mean`, `psnr_low`, `psnr_high` (dB), `misfit_median`, `misfit_low` and
        `misfit_high`; and, where it has several stages, `stage_steps` and `stage_seconds`.
      title: the words above the panels.

    Raises:
      ValueError: there is no attack.
    """
    if not curves:
        raise ValueError("Expected at least one attack, got none.")
    looks = style.looks_of(curves)
    panels = [_panel(curves, looks, name, along) for name in _QUALITY for along in _ALONG]
    legend = []
    for name, look in looks.items():
        last = finite(curves[name]["psnr_mean"][-1])
        words = "all diverged" if last is None else f"{last:.1f} dB"
        legend.append(look._replace(label=f"{name}: {words}", shape="circle"))
    if any(len(curve.get("stage_steps", ())) for curve in curves.values()):
        legend.append(style.Key("a later stage begins", style.GREY, "circle", filled=False))
    return style.Figure(title, panels, legend)


def _panel(
    curves: Mapping[str, Curve], looks: Mapping[str, style.Key], name: str, along: str
) -> style.Panel:
    middle, label = _QUALITY[name]
    points, ends, stages = [], [], []
    for series, curve in curves.items():
        columns = (curve[along], *(curve[f"{name}_{end}"] for end in (middle, "low", "high")))
        own = [
            {"series": series, "x": x, "y": y, "y_low": finite(low, y), "y_high": finite(high, y)}
            for x, y, low, high in zip(*columns, strict=True)
            if finite(x, 0) > 0 and finite(y) is not None and (name == "psnr" or y > 0)
        ]
        points += own
        ends += own[-1:]
        xs, ys = ([row[axis] for row in own] for axis in "xy")
        for at in curve.get(f"stage_{along}", ()) if own else ():
            stages.append({"series": series, "x": at, "y": float(np.interp(at, xs, ys))})
    x = alt.X("x:Q", title=_ALONG[along], **style.logarithmic(row["x"] for row in points))
    heights = [row[end] for row in points for end in ("y_low", "y_high")]
    options = style.logarithmic(heights) if name == "misfit" else {"scale": alt.Scale(zero=False)}
    y = alt.Y("y:Q", title=label, **options)
    dots = [
        style.marks(rows, looks, x, y).mark_point(filled=filled, size=70, opacity=1)
        for rows, filled in ((ends, True), (stages, False))
    ]
    return style.Panel("", style.lines(points, looks, x, y, band=True, under=dots))
