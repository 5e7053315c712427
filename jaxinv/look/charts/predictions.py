"""Leakage as it was predicted, against what the strongest attack found."""

from __future__ import annotations

from collections.abc import Sequence

from jaxinv.look.charts import style
from jaxinv.look.charts.style import alt

_LABELS = {
    "ssim": "SSIM of the strongest attack",
    "psnr": "PSNR of the strongest attack (dB)",
    "reid": "share that an attacker re-identifies",
}
_MOST = 50.0  # dB, beyond which attacks are exact but for rounding


def figure(
    triples: Sequence[style.Row], *, statistic: str = "posterior_psnr", title: str = ""
) -> style.Figure:
    """Returns what the strongest attack found against a statistic, a point for each release.

    Args:
      triples: `network`, `split`, `defense`, `statistics` and `leaks`, by name. PSNRs are drawn up
        to 50 dB.
      statistic: name of the statistic; by default the predicted PSNR.
      title: the words above the panels.

    Raises:
      ValueError: there is no triple.
    """
    if not triples:
        raise ValueError("Expected at least one release, got none.")
    looks = style.looks_of(row["network"] for row in triples)
    panels = []
    for leak, label in _LABELS.items():
        points = [
            {
                **{"series": row["network"], "x": row["statistics"][statistic]},
                **{"y": _value(row["leaks"][leak]), "split": row["split"]},
                "defense": row["defense"],
            }
            for row in triples
        ]
        x = alt.X("x:Q", title="predicted PSNR (dB)", scale=alt.Scale(zero=False))
        y = alt.Y("y:Q", title=None, scale=alt.Scale(zero=False))
        chart = style.marks(points, looks, x, y).mark_point(size=46, opacity=0.8)
        shaped = chart.encode(
            shape=style.scaled(alt.Shape, looks), tooltip=["split:N", "defense:N"]
        )
        panels.append(style.Panel(label, style.layered(shaped)))
    legend = [look._replace(dash=()) for look in looks.values()]
    return style.Figure(title, panels, legend, columns=3)


def _value(leak: float | None) -> float | None:
    return None if leak is None else min(leak, _MOST)
