"""The curve of a training run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jaxinv.look.charts import style
from jaxinv.look.charts.style import alt


def figure(history: Mapping[str, Sequence[float]], *, title: str = "") -> style.Figure:
    """Returns the loss and the accuracies of a training run, against epochs.

    Args:
      history: values per epoch, from the first: `train_loss` (nats), `train_accuracy` and
        `test_accuracy` (shares). Missing ones are left out.
      title: the words above the panels.
    """
    looks = style.looks_of(["train", "test"])
    scale = alt.Scale(zero=False, padding=10)
    x = alt.X("x:Q", title="epoch", axis=alt.Axis(tickMinStep=1, format="d"), scale=scale)
    panels = []
    for quantity, label, last, axis in (
        ("loss", "loss (nats)", "{} {:.4g}", ",~g"),
        ("accuracy", "accuracy", "{} {:.2%}", "%"),
    ):
        rows = style.known(
            {"series": name, "x": epoch, **style.measured({"y": value}, "y")}
            for name in looks
            for epoch, value in enumerate(history.get(f"{name}_{quantity}", ()), 1)
        )
        scale = alt.Scale(zero=quantity == "loss")
        y = alt.Y("y:Q", title=None, scale=scale, axis=alt.Axis(format=axis))
        chart = style.lines(rows, looks, x, y)
        ends = {row["series"]: last.format(row["series"], row["y"]) for row in rows}
        panels.append(style.Panel(f"{label}: {', '.join(ends.values()) or 'not known'}", chart))
    return style.Figure(title, panels, list(looks.values()))
