"""Looks and parts of charts: panels that share one legend.

A panel has no legend of its own. A picture has the panels side by side above a legend drawn from
`Key`s; the report's page lays out the same panels and keys in HTML. Names from records are data
here, never expressions.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxinv.constants import kinds
from jaxinv.look.text import printable
from jaxinv.machine.environment import some_home
from jaxinv.store.files import atomic_write

if TYPE_CHECKING:
    import altair as alt
else:

    class _Altair:
        """Altair, which takes a second to start: imported when the first chart is drawn."""

        def __getattr__(self, name: str) -> Any:
            with some_home():
                module = importlib.import_module("altair")
            return getattr(module, name)

    alt = _Altair()

Row = Mapping[str, Any]

WIDTH, HEIGHT = 380, 300
"""Size of a panel in a picture; on the page a panel is as wide as the box that holds it."""

INK, GREY = "currentColor", "#808080"
# 3:1 or more on white and on the dark page alike, and told apart by colour-blind readers.
COLOURS = (
    *("#0072b2", "#d55e00", "#008a68", "#b5558f", "#8a6d00"),
    *("#6a5acd", "#5f6b7a", "#a8443c", "#2a859c", "#6f7a1a"),
)
GLYPHS = {
    **{"circle": "●", "square": "■", "triangle-up": "▲", "diamond": "◆", "cross": "✚"},
    **{"triangle-down": "▼", "triangle-right": "▶", "triangle-left": "◀"},
}
SOLID, DASHED, DOTTED = [1, 0], [6, 3], [2, 3]

_HOLLOW = {"circle": "○", "diamond": "◇"}
_ROW, _LETTER = 20, 6.4  # pixels: height of a legend's row, width of most letters
_SCALE = 2.0  # pixels of a PNG for each of the chart


class Key(NamedTuple):
    """An entry of a legend, and the look of a series: a line, a symbol, or both."""

    label: str
    colour: str = INK
    shape: str = ""
    dash: Sequence[int] = ()
    filled: bool = True

    @property
    def glyph(self) -> str:
        """Returns the symbol as a character."""
        return (GLYPHS if self.filled else _HOLLOW).get(self.shape, "")

    @property
    def dashed(self) -> bool:
        """Returns whether the line has gaps."""
        return bool(self.dash) and self.dash != SOLID


class Panel(NamedTuple):
    """A chart, and the words above it. On the page it `fades` all series but that pointed at."""

    title: str
    chart: alt.LayerChart
    fades: bool = False


class Figure(NamedTuple):
    """Panels with one legend, in rows of `columns` panels, in words about a kind of input."""

    title: str
    panels: list[Panel]
    legend: list[Key]
    columns: int = 2
    kind: kinds.Kind = kinds.IMAGE


def looks_of(names: Iterable[str]) -> dict[str, Key]:
    """Returns a look for each name: a colour, a symbol and, where colours run out, a dash."""
    shapes, dashes = list(GLYPHS), (SOLID, DASHED, DOTTED)
    return {
        name: Key(
            name,
            COLOURS[place % len(COLOURS)],
            shapes[place % len(shapes)],
            dashes[place // len(COLOURS) % len(dashes)],
        )
        for place, name in enumerate(dict.fromkeys(names))
    }


def finite(value: Any, otherwise: Any = None) -> Any:
    """Returns a number if it is finite, else `otherwise`."""
    return otherwise if value is None or not math.isfinite(value) else value


def measured(row: Row, name: str, axis: str = "y") -> dict[str, Any]:
    """Returns a mean of a record, `<name>_mean` or `<name>`, and its interval `<name>_ci`.

    The keys are `<axis>`, `<axis>_low` and `<axis>_high`; the latter are the mean where they are
    not known.
    """
    mean = row.get(f"{name}_mean", row.get(name))
    low, high = row.get(f"{name}_ci") or (None, None)
    return {axis: mean, f"{axis}_low": finite(low, mean), f"{axis}_high": finite(high, mean)}


def known(rows: Iterable[Row]) -> list[Row]:
    """Returns the rows whose `x` and `y` are finite or text, and numbers them: `place`."""
    return [
        {**row, "place": place}
        for place, row in enumerate(rows)
        if all(isinstance(row[key], str) or finite(row[key]) is not None for key in "xy")
    ]


def marks(
    rows: Iterable[Row], looks: Mapping[str, Key], x: alt.X, y: alt.Y, *, dodge: str = ""
) -> alt.Chart:
    """Returns a chart of known rows in the colour of their `series`, without a mark yet.

    Args:
      rows: `series`, `x` and `y`.
      looks: a look for each series.
      x: how the field `x` is drawn.
      y: how the field `y` is drawn.
      dodge: "xOffset" or "yOffset" where the series of a discrete axis stand side by side.
    """
    base = alt.Chart(alt.InlineData(values=tuple(known(rows)))).encode(
        x=x, y=y, color=scaled(alt.Color, looks), detail="series:N"
    )
    offset = {"field": "series", "type": "nominal", "scale": {"domain": list(looks)}}
    return base.encode(**{dodge: offset}) if dodge else base


def lines(
    rows: Sequence[Row],
    looks: Mapping[str, Key],
    x: alt.X,
    y: alt.Y,
    *,
    band: bool = False,
    dodge: str = "",
    tooltip: Sequence[str] = (),
    under: Sequence[alt.Chart] = (),
) -> alt.LayerChart:
    """Returns a line for each series, and the intervals of its points.

    Args:
      rows: as of `marks`, with `y_low` and `y_high`, and for intervals along x also `x_low` and
        `x_high`. A line joins its rows in their order.
      looks, x, y, dodge: as of `marks`.
      band: whether the interval is a band, and the line has no points.
      tooltip: fields that the page shows with a point.
      under: charts that are drawn below the lines.
    """
    base = marks(rows, looks, x, y, dodge=dodge)
    line = base.mark_line(strokeWidth=1.6).encode(
        order="place:Q", strokeDash=scaled(alt.StrokeDash, looks)
    )
    if band:
        area = base.mark_area(opacity=0.15).encode(y="y_low:Q", y2="y_high:Q")
        return layered(*under, area, line)
    bars = [base.mark_rule(opacity=0.6).encode(y="y_low:Q", y2="y_high:Q")]
    if rows and "x_low" in rows[0]:
        bars.append(base.mark_rule(opacity=0.6).encode(x="x_low:Q", x2="x_high:Q"))
    points = base.mark_point(filled=True, size=46, opacity=1).encode(
        shape=scaled(alt.Shape, looks), tooltip=[f"{name}:N" for name in tooltip]
    )
    return layered(*under, *bars, line, points)


def layered(*charts: alt.Chart, height: int = HEIGHT) -> alt.LayerChart:
    """Returns charts on top of each other, the last one uppermost."""
    return alt.LayerChart(layer=list(charts), height=height)


def scaled(channel: Any, looks: Mapping[str, Key]) -> Any:
    """Returns a channel of the field `series` that gives each series its own look."""
    part = {alt.Color: "colour", alt.Fill: "colour", alt.Shape: "shape", alt.StrokeDash: "dash"}[
        channel
    ]
    values = [getattr(look, part) for look in looks.values()]
    return channel("series:N", scale=alt.Scale(domain=list(looks), range=values), legend=None)


def rule(axis: alt.X | alt.Y, value: float) -> alt.Chart:
    """Returns a dotted line across a panel, at a value of the field `x` or `y`."""
    data = alt.InlineData(values=[{"x": value, "y": value}])
    return alt.Chart(data).mark_rule(color=GREY, strokeDash=DOTTED, size=1.5).encode(axis)


def logarithmic(values: Iterable[float], ticks: Iterable[float] = ()) -> dict[str, Any]:
    """Returns a logarithmic scale and axis with a little room around positive `values`.

    Ticks are at powers of 10, and of few powers also at 2 and 5 times these, or where they are
    wanted.
    """
    found = [value for value in values if finite(value, 0) > 0] or [1.0]
    room = max((max(found) / min(found)) ** 0.04, 1.1)
    low, high = min(found) / room, max(found) * room
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if len(powers) < 5 else (1,)
    at = sorted(set(ticks)) or [step * 10.0**power for power in powers for step in steps]
    shown = ".3~s" if low > 0.5 else "~g"
    axis = alt.Axis(values=at, format=shown, labelOverlap="greedy")
    return {"scale": alt.Scale(type="log", domain=[low, high], nice=False), "axis": axis}


def shares(values: Iterable[float]) -> dict[str, Any]:
    """Returns the scale and the axis of accuracies (shares), with a little room around them."""
    found = [value for value in values if finite(value) is not None] or [0.0, 1.0]
    low, high = min(found), max(found)
    room = 0.06 * max(high - low, 0.04, 1e-3 * abs(high))  # a part of huge numbers, too
    scale = alt.Scale(domain=[max(0.0, low - room), high + room], nice=False, clamp=True)
    return {"scale": scale, "axis": alt.Axis(format="%" if high - low > 0.05 else ".1%")}


def page(panel: Panel) -> dict[str, Any]:
    """Returns the specification of a panel for the page, as wide as the box that holds it."""
    chart = panel.chart.properties(width="container")
    if panel.fades:
        hover = alt.selection_point(
            name="hover", fields=["series"], on="pointerover", clear="pointerout"
        )
        chart.layer[-1] = chart.layer[-1].add_params(hover)
        chart = chart.encode(opacity=alt.when(hover).then(alt.value(1)).otherwise(alt.value(0.15)))
    return _finished(chart.to_dict(), "system-ui, sans-serif", "transparent")


def picture(figure: Figure) -> dict[str, Any]:
    """Returns the specification of a whole figure: title, panels, legend."""
    # Put together as dictionaries: Altair copies all data at each step.
    panels = [
        {**panel.chart.properties(width=WIDTH).to_dict(), "title": panel.title}
        for panel in figure.panels
    ]
    legend = _legend(figure.legend, min(figure.columns, len(panels))).to_dict()
    whole: dict[str, Any] = {"datasets": {}, "params": []}
    panels, legend = kinds.in_words(panels, figure.kind), kinds.in_words(legend, figure.kind)
    for part in (*panels, legend):
        whole["$schema"] = part.pop("$schema")
        whole["datasets"] |= part.pop("datasets", {})
        whole["params"] = part.pop("params", whole["params"])
        del part["config"]
    whole["title"] = {
        "text": kinds.in_words(figure.title, figure.kind),
        "fontSize": 15,
        "offset": 14,
    }
    whole["vconcat"] = [{"concat": panels, "columns": figure.columns}, legend]
    # The converter has no font of a system; and a picture stands on white.
    return _finished(whole, "sans-serif", "white")


def save(path: str | Path, figure: Figure) -> None:
    """Writes a figure, whole or not at all, as a PNG or, where the path ends in .pdf, as a PDF.

    Raises:
      UserError: the file cannot be written.
    """
    import vl_convert

    spec = picture(figure)

    def write(file: IO[bytes]) -> None:
        if Path(path).suffix == ".pdf":
            file.write(vl_convert.vegalite_to_pdf(spec))
        else:
            file.write(vl_convert.vegalite_to_png(spec, scale=_SCALE))

    atomic_write(path, write)


def _legend(keys: Sequence[Key], panels: int) -> alt.LayerChart:
    """Returns the keys from left to right, in as many rows as they need."""
    x, y, rows = 0.0, 0, []
    for key in keys:
        pitch = 62 + _LETTER * len(key.label)
        if x and x + pitch > panels * (WIDTH + 70):
            x, y = 0.0, y + _ROW
        rows.append({"x": x, "y": y, **key._asdict()})
        x += pitch

    def part(of: str) -> alt.Chart:
        data = alt.InlineData(values=[row for row in rows if row[of]])
        bare: Any = {"scale": None, "axis": None}
        return alt.Chart(data).encode(x=alt.X("x:Q", **bare), y=alt.Y("y:Q", **bare))

    ink: Any = {"field": "colour", "type": "nominal", "scale": None}
    line = part("dash").transform_calculate(x2="datum.x + 30").mark_rule(strokeWidth=2)
    point = part("shape").mark_point(size=70, xOffset=15, opacity=1)
    label = part("label").mark_text(dx=40, align="left", fontSize=12, color=INK)
    fill = alt.when("datum.filled").then(alt.Fill(**ink)).otherwise(alt.value("white"))
    chart = layered(
        line.encode(x2="x2:Q", color=ink, strokeDash=alt.StrokeDash("dash:N", scale=None)),
        point.encode(shape=alt.Shape("shape:N", scale=None), stroke=ink, fill=fill),
        label.encode(text="label:N"),
        height=y + _ROW,
    )
    return chart.properties(width=panels * WIDTH)


def _finished(spec: dict[str, Any], font: str, background: str) -> dict[str, Any]:
    axis = {
        **{"labelColor": INK, "titleColor": INK, "domainColor": GREY, "tickColor": GREY},
        **{"gridColor": "#80808040", "labelFontSize": 12, "labelLimit": 0, "labelFlush": False},
        **{"titleFontSize": 12.5, "titleFontWeight": "normal", "titlePadding": 8},
    }
    title = {"fontSize": 12.5, "fontWeight": "normal", "anchor": "start", "color": INK}
    config = {"font": font, "view": {"stroke": None}, "axis": axis, "title": title}
    return _cleaned({**spec, "background": background, "config": config})


def _cleaned(value: Any) -> Any:
    """Returns a specification with text that can be drawn, and null for what is not finite."""
    if isinstance(value, dict):
        return {key: _cleaned(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_cleaned(each) for each in value]
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, np.generic):
        value = value.item()
    return finite(value) if isinstance(value, float) else value
