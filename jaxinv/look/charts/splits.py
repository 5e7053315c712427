"""Quality at each split."""

from __future__ import annotations

from collections.abc import Sequence

from jaxinv.look.charts import style
from jaxinv.look.charts.style import alt

_PRINTED = style.Key("the paper prints", style.INK, "diamond", filled=False)


def figure(
    rows: Sequence[style.Row],
    splits: Sequence[str],
    *,
    title: str = "",
    tooltip: Sequence[str] = (),
) -> style.Figure:
    """Returns SSIM and PSNR at each split, a line for each attacker (Fig. 15 of the paper).

    Args:
      rows: `split`, `attacker`, `ssim_mean`, `ssim_ci`, `psnr_mean` and `psnr_ci` (dB); and where
        they are known `threat` and `method`, which give the attacker a colour and a shape, and
        `ssim_printed` and `psnr_printed`, the paper's numbers.
      splits: names of layers, in order.
      title: the words above the panels.
      tooltip: fields of the rows that the page shows with a point.

    Raises:
      ValueError: there is no row.
    """
    if not rows:
        raise ValueError("Expected at least one attacker, got none.")
    looks = _looks(rows)
    x = alt.X(
        "x:N",
        title="split: the last layer on the edge",
        scale=alt.Scale(domain=list(splits)),
        axis=alt.Axis(labelAngle=-40),
    )
    legend, panels = list(looks.values()), []
    for name, label in (("ssim", "SSIM"), ("psnr", "PSNR (dB)")):
        points = style.known(
            {**row, "series": row["attacker"], "x": row["split"], **style.measured(row, name)}
            for row in sorted(rows, key=lambda row: splits.index(row["split"]))
        )
        if not points:
            continue
        scale = alt.Scale(domain=[0, 1], clamp=True) if name == "ssim" else alt.Scale(zero=False)
        y = alt.Y("y:Q", title=None, scale=scale)
        printed = [
            {**row, "y": row[f"{name}_printed"]}
            for row in points
            if row.get(f"{name}_printed") is not None
        ]
        diamonds = style.marks(printed, looks, x, y, dodge="xOffset").mark_point(
            shape="diamond", size=150, strokeWidth=2, opacity=1
        )
        legend = [*looks.values(), *([_PRINTED] if printed else [])]
        under = [diamonds] if printed else []
        chart = style.lines(points, looks, x, y, dodge="xOffset", tooltip=tooltip, under=under)
        panels.append(style.Panel(label, chart, fades=True))
    return style.Figure(title, panels, legend)


def _looks(rows: Sequence[style.Row]) -> dict[str, style.Key]:
    """Returns a look for each attacker; the paper's are dashed."""
    own = {row["attacker"]: row for row in rows}
    threats = style.looks_of(row.get("threat", name) for name, row in own.items())
    methods = style.looks_of(row.get("method", name) for name, row in own.items())
    return {
        name: style.Key(
            name,
            threats[row.get("threat", name)].colour,
            methods[row.get("method", name)].shape,
            style.DASHED if row.get("method") == "paper" else style.SOLID,
        )
        for name, row in own.items()
    }
