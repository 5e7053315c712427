"""The page's charts, as Vega-Lite by Altair: panels for the page, one picture for PNG and PDF.

A panel is as wide as what it stands in, and has no legend: the page writes one legend for all
panels of a figure. The picture has them side by side, with Vega's own legends. Names from records
are data in here, never expressions.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import altair as alt

from jaxinv.report import advice, findings
from jaxinv.report.findings import SAFE_SSIM, Tradeoff
from jaxinv.report.results import THREATS, Attack, Choice, Partition, in_order
from jaxinv.report.values import MISSING, fixed, percent, unit

Row = dict[str, Any]
Chart = alt.LayerChart | alt.FacetChart  # as Altair types `add_params`

# 3:1 or more on white and on the dark page alike; shapes tell them apart without colour.
_COLOURS = (
    *("#0072b2", "#d55e00", "#008a68", "#b5558f", "#8a6d00"),
    *("#6a5acd", "#5f6b7a", "#a8443c", "#2a859c", "#6f7a1a"),
)
_SHAPES = {
    "circle": "●",
    "square": "■",
    "triangle-up": "▲",
    "diamond": "◆",
    "cross": "✚",
    "triangle-down": "▼",
    "triangle-right": "▶",
    "triangle-left": "◀",
}
_DASHES = {"feature": [1, 0], "input": [6, 3], "input+feature": [2, 2]}
_LEAK = ("#2166ac", "#8e8aa0", "#c2410c")  # SSIM 0, middle, 1
_SIZE, _STILL_WIDTH = 300, 380  # pixels: height of a panel, width of one in a picture


class Key(NamedTuple):
    """One entry of a legend: a glyph, or a line."""

    label: str
    colour: str
    glyph: str = ""
    dashed: bool = False


class Panel(NamedTuple):
    """A chart of the page and what it shows, in words."""

    title: str
    description: str
    chart: Chart


class Figure(NamedTuple):
    """Panels with one legend. `kind` is what they show, `still` the whole as a picture."""

    kind: str
    title: str
    panels: list[Panel]
    legend: list[Key]
    still: Callable[[], alt.TopLevelMixin]


class _Scale(NamedTuple):
    """How names are drawn: colours or shapes by name."""

    looks: dict[str, str]

    @property
    def vega(self) -> alt.Scale:
        return alt.Scale(domain=list(self.looks), range=list(self.looks.values()))


def _scale(names: Sequence[str], looks: Sequence[str]) -> _Scale:
    return _Scale(dict(zip(dict.fromkeys(names), itertools.cycle(looks), strict=False)))


# --- Partitions ---------------------------------------------------------------------------------

_TOLD = [
    f"{key}:N"
    for key in (
        *("Accuracy", "Latency", "Energy", "Memory", "SSIM", "Re-identified"),
        *("Attacker", "Constraints", "Worth having"),
    )
]
_COSTS = {"latency_ms": "latency of an image (ms)", "energy_mj": "energy of an image (mJ)"}


def pareto(partition: Partition, title: str) -> Figure | None:
    """Accuracy against latency and energy, coloured by what the strongest attacker gets."""
    rows = [_choice_row(choice, partition) for choice in partition.choices]
    rows = [row for row in rows if row["accuracy"] is not None]
    shapes = _scale([row["kind"] for row in rows], list(_SHAPES))
    panels = {
        title: (cost, own)
        for cost, title in _COSTS.items()
        if (own := [row for row in rows if row[cost] is not None])
    }
    if not panels:
        return None

    def chart(title: str, still: bool) -> Chart:
        cost, own = panels[title]
        return _pareto_panel(own, cost, title, shapes, still=still)

    legend = [Key(kind, "currentColor", _SHAPES[shape]) for kind, shape in shapes.looks.items()] + [
        Key("SSIM 0", _LEAK[0], "●"),
        Key("0.5", _LEAK[1], "●"),
        Key("1", _LEAK[2], "●"),
    ]
    return _figure(
        "pareto", title, panels, chart, legend, f"accuracy of {len(rows)} choices against "
    )


def _choice_row(choice: Choice, partition: Partition) -> Row:
    first = (partition.recommended, partition.recommended_split)
    defense = choice.defense
    return {
        "name": choice.name,
        "split": choice.split,
        "kind": "none" if choice.defense.is_none else choice.defense.kind,
        "accuracy": choice.accuracy.mean,
        "latency_ms": None if choice.latency_s is None else 1e3 * choice.latency_s,
        "energy_mj": None if choice.energy_j is None else 1e3 * choice.energy_j,
        "ssim": choice.ssim.mean,
        "pareto": choice.pareto,
        "meets": choice.meets,
        "rank": first.index(choice) + 1 if choice in first else 0,
        "short": choice.split
        if defense.is_none
        else f"{choice.split} + {defense.kind} {defense.level}",
        "Accuracy": percent(choice.accuracy.mean, 2),
        "Latency": unit(choice.latency_s, "s"),
        "Energy": unit(choice.energy_j, "J"),
        "Memory": unit(choice.memory_bytes, "B"),
        "SSIM": fixed(choice.ssim.mean, 3),
        "Re-identified": percent(choice.reid.mean),
        "Attacker": choice.attacker or "none",
        "Constraints": advice.verdict(choice),
        "Worth having": "yes" if choice.pareto else "no",
    }


def _pareto_panel(rows: list[Row], cost: str, title: str, shapes: _Scale, *, still: bool) -> Chart:
    low, high = (pick(row[cost] for row in rows) for pick in (min, max))
    log = 0 < 10 * low < high
    shown = "(split == '' || datum.split == split) && (kind == '' || datum.kind == kind)"
    base = (
        alt.Chart(alt.Data(values=rows))
        .transform_filter(f"{shown} && (!meets || datum.meets)")
        .encode(
            x=alt.X(
                f"{cost}:Q",
                title=title,
                scale=_spread(low, high, log=log),
            ),
            y=_accuracy_axis([row["accuracy"] for row in rows], headroom=0.12),
            tooltip=[alt.Tooltip("name:N", title="Choice"), *map(alt.Tooltip, _TOLD)],
        )
    )
    points = base.mark_point(filled=True, stroke="currentColor").encode(
        color=alt.Color(
            "ssim:Q",
            title="SSIM of the strongest attacker",
            scale=alt.Scale(domain=[0, 0.5, 1], range=list(_LEAK), interpolate="rgb"),
            legend=alt.Legend(orient="bottom") if still else None,
        ),
        shape=alt.Shape(
            "kind:N",
            title="defence",
            scale=shapes.vega,
            legend=alt.Legend(orient="bottom") if still else None,
        ),
        size=alt.condition("datum.pareto", alt.value(130), alt.value(45)),
        opacity=alt.condition("datum.pareto", alt.value(1), alt.value(0.4)),
        strokeWidth=alt.condition("datum.pareto", alt.value(1), alt.value(0)),
        order=alt.Order("pareto:Q"),
    )
    chosen = base.transform_filter("datum.rank > 0")
    ring = chosen.mark_point(filled=False, size=420, strokeWidth=2, stroke="currentColor")
    names = [_name(base, row, cost, rows, log=log) for row in rows if row["rank"]]
    layers = alt.layer(points, *([ring] if names else []), *names)
    variables = [alt.param(name=name, value="") for name in ("split", "kind")]
    return layers.add_params(*variables, alt.param(name="meets", value=False))


def _name(base: alt.Chart, row: Row, cost: str, rows: list[Row], *, log: bool) -> alt.Chart:
    """Names a recommended choice: the first above its point, the second below; inside the panel."""
    along = math.log if log else float
    low, here, high = (
        along(value)
        for value in (min(r[cost] for r in rows), row[cost], max(r[cost] for r in rows))
    )
    place = (here - low) / (high - low) if high > low else 0.5
    align: Any = "left" if place < 0.25 else "right" if place > 0.75 else "center"
    mark = base.transform_filter(f"datum.rank == {row['rank']}").mark_text(
        dx={"left": -10, "right": 10, "center": 0}[align],
        dy=-19 if row["rank"] == 1 else 21,
        align=align,
        fontWeight="bold",
        fontSize=12,
        color="currentColor",
    )
    return mark.encode(text="short:N")


def _spread(low: float, high: float, *, log: bool) -> alt.Scale:
    """Of costs: equal factors or equal differences, with room on both sides for names."""
    if log:
        room = (high / low) ** 0.08
        return alt.Scale(type="log", domain=[low / room, high * room], nice=False)
    margin = 0.08 * (high - low) or 0.1 * high or 1.0
    return alt.Scale(domain=[low - margin, high + margin], zero=False, nice=False)


# --- Defences -----------------------------------------------------------------------------------

_ATTACKERS = {
    "paper": "paper: the authors' attack, which ignores the defence",
    "adaptive": "adaptive: knows the defence and its level",
}


def tradeoff(found: Tradeoff) -> Figure | None:
    """Accuracy against SSIM and PSNR: a panel for each attacker and quantity."""
    lines = [
        line
        for line in found.lines
        if any(each.ssim.mean is not None or each.psnr.mean is not None for each in line.attacks)
    ]
    if not lines:
        return None
    kinds = _scale([line.kind for line in lines], _COLOURS)
    shapes = _scale(list(kinds.looks), list(_SHAPES))
    methods = sorted({line.method for line in lines}, key=lambda name: (name != "paper", name))
    panels = {
        f"{label} · {_ATTACKERS.get(method, method)}": (method, quantity)
        for method in methods
        for quantity, label in (("ssim", "SSIM"), ("psnr", "PSNR"))
    }
    known = [each.accuracy for line in lines for each in line.attacks]
    values = [value for found in known for value in found if value is not None]
    decibels = [row["x"] for row in _line_rows(lines, "psnr")] or [0.0]
    domains = {
        "ssim": [0, 1],
        "psnr": [math.floor(min(decibels)) - 1, math.ceil(max(decibels)) + 1],
    }

    def chart(title: str, still: bool) -> Chart:
        method, quantity = panels[title]
        rows = _line_rows([line for line in lines if line.method == method], quantity)
        axis = alt.X(
            "x:Q",
            title="SSIM of the reconstructions" if quantity == "ssim" else "their PSNR (dB)",
            scale=alt.Scale(domain=domains[quantity], nice=False, clamp=True),
        )
        return _tradeoff_panel(rows, axis, quantity, values, kinds, shapes, still=still)

    sites = dict.fromkeys(line.site for line in lines)
    legend = [
        Key(kind, colour, _SHAPES[shapes.looks[kind]]) for kind, colour in kinds.looks.items()
    ] + [Key(f"at the {site}", "currentColor", dashed=site != "feature") for site in sites]
    threat = THREATS.get(found.threat, found.threat)
    title = f"{found.dataset}, {found.split}, {threat}"
    return _figure("tradeoff", title, panels, chart, legend, "accuracy against ")


def _line_rows(lines: Sequence[findings.Line], quantity: str) -> list[Row]:
    rows = []
    for number, line in enumerate(lines):
        for place, each in enumerate(line.attacks):
            found = each.ssim if quantity == "ssim" else each.psnr
            if found.mean is None:
                continue
            rows.append(
                {
                    "line": number,
                    "place": place,
                    "kind": line.kind,
                    "site": line.site,
                    "level": each.defense.level,
                    "x": found.mean,
                    "low": found.mean if found.low is None else found.low,
                    "high": found.mean if found.high is None else found.high,
                    "accuracy": each.accuracy.mean,
                    "accuracy_low": each.accuracy.low or each.accuracy.mean,
                    "accuracy_high": each.accuracy.high or each.accuracy.mean,
                    "Defence": line.name,
                    "Level": each.defense.level,
                    "Accuracy": percent(each.accuracy.mean, 2),
                    "SSIM": fixed(each.ssim.mean, 3),
                    "PSNR": f"{fixed(each.psnr.mean, 1)} dB",
                    "Re-identified": percent(each.reid.mean),
                }
            )
    return rows


def _tradeoff_panel(
    rows: list[Row],
    axis: alt.X,
    quantity: str,
    values: list[float],
    kinds: _Scale,
    shapes: _Scale,
    *,
    still: bool,
) -> Chart:
    legend = alt.Legend(orient="bottom", columns=4) if still else None
    hover = alt.selection_point(name="hover", fields=["line"], on="pointerover", clear="pointerout")
    looks: dict[str, Any] = {
        "color": alt.Color("kind:N", title="defence", scale=kinds.vega, legend=legend),
    }
    if not still:
        looks["opacity"] = alt.condition(hover, alt.value(1), alt.value(0.15))
    base = alt.Chart(alt.Data(values=rows)).encode(x=axis, y=_accuracy_axis(values), **looks)
    dashes = alt.Scale(domain=list(_DASHES), range=list(_DASHES.values()))
    line = base.mark_line(strokeWidth=1.6).encode(
        detail="line:N",
        order="place:Q",
        strokeDash=alt.StrokeDash("site:N", title="site", scale=dashes, legend=legend),
    )
    points = base.mark_point(filled=True, size=46, opacity=1).encode(
        shape=alt.Shape("kind:N", title="defence", scale=shapes.vega, legend=legend),
        tooltip=[
            alt.Tooltip(f"{key}:N")
            for key in ("Defence", "Level", "Accuracy", "SSIM", "PSNR", "Re-identified")
        ],
    )
    across = base.mark_rule(strokeWidth=0.8).encode(x="low:Q", x2="high:Q")
    along = base.mark_rule(strokeWidth=0.8).encode(y="accuracy_low:Q", y2="accuracy_high:Q")
    layers = [across, along, line, points if still else points.add_params(hover)]
    if quantity == "ssim":
        layers.insert(0, _claim())
    return alt.layer(*layers)


def _claim() -> alt.Chart:
    """Where the paper says that a picture tells nothing."""
    rule = alt.Chart(alt.Data(values=[{"x": SAFE_SSIM}])).mark_rule(
        color="currentColor", opacity=0.45, strokeDash=[2, 3]
    )
    return rule.encode(x="x:Q")


# --- Quality at each split ----------------------------------------------------------------------


def quality(attacks: Sequence[Attack], dataset: str) -> Figure | None:
    """PSNR and SSIM at each cut, a line for each attacker, and what the paper prints."""
    best = findings.best_of_splits(attacks)
    if not best:
        return None
    threats = dict.fromkeys(each.threat for each in best)
    colours = dict(zip([*THREATS, *threats], itertools.cycle(_COLOURS[:3]), strict=False))
    names = list(
        dict.fromkeys(each.attacker for each in sorted(best, key=lambda each: each.attacker_rank))
    )
    own = {each.attacker: each for each in best}
    series = _Scale({name: colours[own[name].threat] for name in names})
    methods = dict(
        zip(
            dict.fromkeys(own[name].method for name in names),
            itertools.cycle(_SHAPES),
            strict=False,
        )
    )
    shapes = _Scale({name: methods[own[name].method] for name in names})
    splits = in_order(each.split for each in best)
    panels = {
        label: key
        for key, label in (("ssim", "SSIM"), ("psnr", "PSNR (dB)"))
        if any(getattr(each, key).mean is not None for each in best)
    }

    def chart(title: str, still: bool) -> Chart:
        return _quality_panel(best, panels[title], title, splits, series, shapes, still=still)

    legend = [
        Key(name, colour, _SHAPES[shapes.looks[name]], own[name].method == "paper")
        for name, colour in series.looks.items()
    ]
    note = ""
    if any(each.printed for each in best):
        legend.append(Key("the paper prints", "currentColor", "◇"))
        note = "; diamonds: the paper's numbers"
    title = f"{dataset}, undefended"
    return _figure("splits", title, panels, chart, legend, "quality at each cut, ", note=note)


def _quality_panel(
    best: Sequence[Attack],
    quantity: str,
    title: str,
    splits: Sequence[str],
    series: _Scale,
    shapes: _Scale,
    *,
    still: bool,
) -> Chart:
    legend = alt.Legend(orient="bottom", columns=3) if still else None
    rows = [_quality_row(each, quantity) for each in best]
    rows = [row for row in rows if row["y"] is not None]
    x = alt.X(
        "split:N",
        title="split: the last layer on the device",
        sort=list(splits),
        scale=alt.Scale(domain=list(splits)),
        axis=alt.Axis(labelAngle=-40),
    )
    y = alt.Y(
        "y:Q", title=title, scale=alt.Scale(domain=[0, 1]) if quantity == "ssim" else alt.Scale()
    )
    colour = alt.Color("attacker:N", title="attacker", scale=series.vega, legend=legend)
    base = alt.Chart(alt.Data(values=rows)).encode(x=x, y=y, color=colour)
    line = base.mark_line(strokeWidth=1.4).encode(
        detail="attacker:N",
        strokeDash=alt.condition("datum.method == 'paper'", alt.value([5, 3]), alt.value([1, 0])),
    )
    bars = base.mark_rule(strokeWidth=1).encode(y="low:Q", y2="high:Q")
    points = base.mark_point(filled=True, size=60, opacity=1).encode(
        shape=alt.Shape("attacker:N", title="attacker", scale=shapes.vega, legend=legend),
        tooltip=[
            alt.Tooltip("attacker:N", title="Attacker"),
            alt.Tooltip("split:N", title="Split"),
            *(alt.Tooltip(f"{key}:N") for key in ("SSIM", "PSNR", "Images", "The paper prints")),
        ],
    )
    printed = (
        alt.Chart(alt.Data(values=[row for row in rows if row["printed"] is not None]))
        .mark_point(filled=False, shape="diamond", size=130, strokeWidth=2, opacity=1)
        .encode(x=x, y="printed:Q", color=colour, tooltip=alt.Tooltip("The paper prints:N"))
    )
    layers = [line, bars, points]
    return (
        alt.layer(*layers, printed) if any(row["printed"] for row in rows) else alt.layer(*layers)
    )


def _quality_row(each: Attack, quantity: str) -> Row:
    found = each.ssim if quantity == "ssim" else each.psnr
    words = MISSING
    if each.printed:
        words = (
            f"{each.printed[0]:.2f} dB, SSIM {each.printed[1]:.2f} ({each.threat}, {each.split})"
        )
    return {
        "split": each.split,
        "attacker": each.attacker,
        "method": each.method,
        "y": found.mean,
        "low": found.mean if found.low is None else found.low,
        "high": found.mean if found.high is None else found.high,
        "printed": each.printed[quantity == "ssim"] if each.printed else None,
        "SSIM": fixed(each.ssim.mean, 3),
        "PSNR": f"{fixed(each.psnr.mean, 2)} dB",
        "Images": f"{each.num_images or 0:,}",
        "The paper prints": words,
    }


# --- What they share ----------------------------------------------------------------------------


def _accuracy_axis(values: Sequence[float], headroom: float = 0.0) -> alt.Y:
    low, high = min(values), max(values)
    middle, reach = (low + high) / 2, max(high - low, 0.04) / 2
    domain = [max(0.0, middle - 1.1 * reach), middle + (1.1 + headroom) * reach]
    return alt.Y(
        "accuracy:Q",
        title="accuracy",
        scale=alt.Scale(domain=domain, nice=False),
        axis=alt.Axis(format="%" if high - low > 0.05 else ".1%", tickCount=8),
    )


def _figure(
    kind: str,
    title: str,
    panels: Mapping[str, Any],
    chart: Callable[[str, bool], Chart],
    legend: list[Key],
    described: str,
    *,
    note: str = "",
) -> Figure:
    def still() -> alt.TopLevelMixin:
        parts = [
            chart(panel, True).properties(width=_STILL_WIDTH, height=_SIZE, title=panel)
            for panel in panels
        ]
        whole = alt.concat(*parts, columns=2, title=f"{title}{note}")
        # The converter has no system font; and a picture stands on white.
        return _configured(whole, "sans-serif", "white")

    shown = [
        Panel(panel, f"{title}: {described}{panel}", _page_panel(chart(panel, False)))
        for panel in panels
    ]
    return Figure(kind, title, shown, legend, still)


def _page_panel(chart: Chart) -> Chart:
    sized = chart.properties(width="container", height=_SIZE)
    return _configured(sized, "system-ui, sans-serif", "transparent")


def _configured(chart: Any, font: str, background: str) -> Any:
    grid = "#80808040"
    return (
        chart.configure(font=font, background=background)
        .configure_view(stroke=None)
        .configure_axis(
            labelColor="currentColor",
            titleColor="currentColor",
            domainColor="#808080",
            tickColor="#808080",
            gridColor=grid,
            labelFontSize=12,
            titleFontSize=12.5,
            titleFontWeight="normal",
            titlePadding=8,
        )
        .configure_legend(labelFontSize=11, titleFontSize=11, symbolOpacity=1)
        .configure_title(fontSize=12, fontWeight="normal", anchor="start", color="currentColor")
    )
