"""Curves of runs, as PNG files.

NumPy and matplotlib, through its object-oriented API alone: no window, no global state, safe in
any process. matplotlib is imported when the first picture is drawn.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jaxinv.store.files import atomic_write
from jaxinv.store.records import level_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend
    from matplotlib.lines import Line2D
    from matplotlib.text import Text

_DPI = 150
_BLUE, _ORANGE, _GREY = "#0072B2", "#D55E00", "#666666"  # told apart by colour-blind eyes
_PALETTE = (_ORANGE, _BLUE, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_SITES: dict[str, dict[str, Any]] = {  # how lines are drawn, by where a defence stands
    "feature": {"marker": "o", "linestyle": "-"},
    "input": {"marker": "o", "linestyle": "--", "markerfacecolor": "white"},
    "both": {"marker": "s", "linestyle": ":", "markerfacecolor": "white"},
}
_CLAIM = "#999999"  # of lines that the paper draws


def learning_curve(
    path: str | Path, history: Mapping[str, Sequence[float]], *, title: str | None = None
) -> None:
    """Draws a training run: the loss on the left, the accuracies on the right, against epochs.

    Args:
      path: the PNG to write, whole or not at all.
      history: values per epoch, from the first: `train_loss` (nats), `train_accuracy` and
        `test_accuracy` (fractions in [0, 1]). Those that are missing are left out.
      title: drawn above both.

    Raises:
      UserError: the file cannot be written.
    """
    figure = _new_figure(8, 3.2)
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.1)
    figure.suptitle(title or "", fontsize=10, parse_math=False)
    loss, accuracy = figure.subplots(1, 2)
    loss.set(xlabel="epoch", ylabel="loss (nats)")
    accuracy.set(xlabel="epoch", ylabel="accuracy (%)")
    _draw_curves(loss, {"train": history.get("train_loss", ())})
    _draw_curves(
        accuracy,
        {
            "train": 100 * np.asarray(history.get("train_accuracy", ())),
            "test": 100 * np.asarray(history.get("test_accuracy", ())),
        },
    )
    loss.set_ylim(bottom=0)
    _save(figure, path)


def convergence_curves(
    path: str | Path, curves: Mapping[str, Mapping[str, Any]], *, title: str | None = None
) -> None:
    """Draws the way of several attacks: PSNR and misfit, against iterations and against seconds.

    Lines are the mean PSNR and the median misfit, bands the quartiles of the images; a dot is where
    an attack ends, a tick where one of its later stages begins. All axes but that of the PSNR are
    logarithmic. Values that are not finite, or null, are left out, and so are misfits of zero.

    Args:
      path: the PNG to write, whole or not at all.
      curves: for each attack, by the name that the legend gives it, lists of one length: `steps`,
        `seconds` (an image), `psnr_mean`, `psnr_low`, `psnr_high` (dB), `misfit_median`,
        `misfit_low` and `misfit_high`; and, where it has more stages than one, `stage_steps` and
        `stage_seconds`.
      title: drawn above everything.

    Raises:
      UserError: the file cannot be written.
      ValueError: there is no attack, or there are more than colours.
    """
    if not 0 < len(curves) <= len(_PALETTE):
        raise ValueError(f"Expected 1 to {len(_PALETTE)} attacks, got {len(curves)}.")
    figure = _new_figure(8, 6)
    figure.set_layout_engine("constrained", w_pad=0.08, h_pad=0.08)
    panels = figure.subplots(2, 2, sharex="col", sharey="row")
    for axes in panels.flat:
        _style(axes)
        axes.set_xscale("log")
    for axes in panels[1]:
        axes.set_yscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
    panels[0, 0].set_ylabel("PSNR (dB): mean, quartiles")
    panels[1, 0].set_ylabel("misfit: median, quartiles\n" r"$\|f_1(x)-v\|^2\,/\,\|v\|^2$")
    panels[1, 0].set_xlabel("iterations of the method's solver")
    panels[1, 1].set_xlabel("seconds an image (a chunk's time / its images)")
    lines = {}
    for colour, (name, curve) in zip(_PALETTE, curves.items(), strict=False):
        for column, along in enumerate(("steps", "seconds")):
            for row, (quantity, middle) in enumerate((("psnr", "mean"), ("misfit", "median"))):
                values = [curve[f"{quantity}_{what}"] for what in (middle, "low", "high")]
                starts = curve.get(f"stage_{along}", ())
                line = _draw_way(panels[row, column], curve[along], values, starts, colour)
        lines[f"{name} {_last(curve['psnr_mean'])}"] = line
    if any(len(curve.get("stage_steps", ())) for curve in curves.values()):
        lines["a later stage begins"] = _tick(panels[0, 0], [], [], _GREY)
    _legend(figure, lines, title)
    _save(figure, path)


def query_curves(
    path: str | Path,
    curves: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    title: str | None = None,
) -> None:
    """Draws PSNR and SSIM against the number of queries that an attacker may ask.

    Args:
      path: the PNG to write, whole or not at all.
      curves: for each split, in the order of the network, lists of one length: `queries`, rising,
        and `psnr_mean`, `psnr_low`, `psnr_high` (dB) and the same of `ssim`: means and their
        intervals. What is not finite (or None) is left out.
      title: drawn above everything.

    Raises:
      UserError: the file cannot be written.
      ValueError: there is no split.
    """
    if not curves:
        raise ValueError("Expected at least one split.")
    along = {name: np.asarray(curve["queries"], float) for name, curve in curves.items()}
    figure, panels = _quality_panels(curves, along, title)
    for axes in panels:
        axes.set(xscale="log", xlabel="queries that the attacker may ask")
        _name_queries(axes, [number for queries in along.values() for number in queries])
    _save(figure, path)


def split_curves(
    path: str | Path,
    splits: Sequence[str],
    curves: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    title: str | None = None,
) -> None:
    """Draws PSNR and SSIM against the split (Fig. 15 of the paper).

    Args:
      path: the PNG to write, whole or not at all.
      splits: names of layers, in order.
      curves: for each attacker, lists as long: `psnr_mean`, `psnr_low`, `psnr_high` (dB) and the
        same of `ssim`. What is not finite (or None) is left out.
      title: drawn above everything.

    Raises:
      UserError: the file cannot be written.
      ValueError: there is no attacker.
    """
    if not curves:
        raise ValueError("Expected at least one attacker.")
    places = np.arange(len(splits), dtype=float)
    figure, panels = _quality_panels(curves, dict.fromkeys(curves, places), title)
    for axes in panels:
        axes.set_xticks(places, splits, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_xlabel("split: the last layer on the edge")
    _save(figure, path)


def tradeoff_curves(
    path: str | Path,
    panels: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]],
    *,
    title: str | None = None,
    claims: tuple[float | None, float | None] = (0.25, 0.95),
) -> None:
    """Draws accuracy against SSIM and PSNR of what is reconstructed (Figs. 9, 10, 13 of the paper).

    A column of panels for each attacker, the SSIM above the PSNR; a line for each defence, in the
    colour of its kind, solid where it is applied to the feature and dashed where to the input; a
    marker for each level, with thin bars for the intervals. The ends of a line are labelled with
    their level, and points between them where there is room.

    Args:
      path: the PNG to write, whole or not at all.
      panels: for each attacker, and there for each defence, "<kind>, feature", "<kind>, input" or
        "<kind>, input+feature", lists of one length: `level` (texts), `accuracy`, `accuracy_low`,
        `accuracy_high` (shares), `ssim_mean`, `ssim_low`, `ssim_high` and the same of `psnr` (dB):
        means and their intervals. What is not finite (or None) is left out.
      title: drawn above everything.
      claims: what the paper claims, as grey lines: the SSIM at which an image tells nothing, and an
        accuracy (a share) that is good enough. None draws no such line.

    Raises:
      UserError: the file cannot be written.
      ValueError: there is no defence, or one whose name tells no site.
    """
    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    if not names:
        raise ValueError("Expected at least one attacker and one defence.")
    kinds = list(dict.fromkeys(_kind_and_site(name)[0] for name in names))
    colours = dict(zip(kinds, _colours(len(kinds)), strict=True))
    figure = _new_figure(max(8, 5 * len(panels)), 8)
    figure.set_layout_engine("constrained", w_pad=0.08, h_pad=0.08)
    if title:
        figure.suptitle(title, fontsize=10, parse_math=False)
    table = figure.subplots(2, len(panels), sharex="row", sharey=True, squeeze=False)
    for axes in table[:, 0]:
        axes.set_ylabel("accuracy (%)")
    drawn: list[tuple[Axes, list[_Line], list[Line2D]]] = []
    for column, (attacker, curves) in zip(table.T, panels.items(), strict=True):
        column[0].set_title(attacker, fontsize=10, parse_math=False)
        for axes, quantity, label in zip(
            column, ("ssim", "psnr"), ("SSIM", "PSNR (dB)"), strict=True
        ):
            _style(axes)
            axes.set_xlabel(f"{label} of the reconstructions")
            claimed = _draw_claims(axes, claims[0] if quantity == "ssim" else None, claims[1])
            lines = []
            for name, curve in curves.items():
                kind, site = _kind_and_site(name)
                lines.append(_draw_tradeoff(axes, curve, quantity, colours[kind], site))
            drawn.append((axes, lines, claimed))
    _name_tradeoffs(figure, table[0, 0], colours, names, claims)
    # Labels are placed in pixels: nothing may move once they are.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes, lines, claimed in drawn:
        _label_levels(figure, axes, lines, claimed)
    _save(figure, path)


def cost_bars(
    path: str | Path, rows: Sequence[Mapping[str, Any]], *, title: str | None = None
) -> None:
    """Draws what each split costs: latency on the left, the device's energy on the right (Fig. 2).

    Args:
      path: the PNG to write, whole or not at all.
      rows: a bar each, from above: `split`, `edge_s`, `uplink_s`, `cloud_s` (seconds), `edge_j` and
        `uplink_j` (joules).
      title: drawn above everything.

    Raises:
      UserError: the file cannot be written.
      ValueError: there is no row.
    """
    if not rows:
        raise ValueError("Expected at least one split.")
    figure = _new_figure(11, 1.4 + 0.26 * len(rows))
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.08)
    panels = figure.subplots(1, 2, sharey=True)
    parts = {"edge computes": _ORANGE, "uplink, round trip": _BLUE, "cloud computes": "#009E73"}
    bars: dict[str, Any] = {}
    for axes, keys, unit, label in (
        (panels[0], ("edge_s", "uplink_s", "cloud_s"), "s", "latency of one image"),
        (panels[1], ("edge_j", "uplink_j"), "J", "energy of the device for one image"),
    ):
        totals = np.array([sum(row[key] for key in keys) for row in rows])
        scale, prefix = (1e3, "m") if totals.max() < 1 else (1.0, "")
        if totals.max() < 1e-3:
            scale, prefix = 1e6, "\N{GREEK SMALL LETTER MU}"
        left = np.zeros(len(rows))
        for (name, colour), key in zip(parts.items(), keys, strict=False):
            widths = scale * np.array([row[key] for row in rows])
            bars[name] = axes.barh(range(len(rows)), widths, left=left, color=colour, height=0.7)
            left += widths
        for place, total in enumerate(left):
            axes.annotate(
                f"{total:.3g}",
                (total, place),
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
                fontsize=7,
                color=_GREY,
            )
        _style(axes)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(f"{label} ({prefix}{unit})")
        axes.set_xlim(0, max(1.12 * left.max(), 1e-12))
    panels[0].set_yticks(range(len(rows)), [row["split"] for row in rows])
    for text in panels[0].get_yticklabels():
        text.set_parse_math(False)
    panels[0].invert_yaxis()
    _legend(figure, bars, title)
    _save(figure, path)


def choice_points(
    path: str | Path, choices: Sequence[Mapping[str, Any]], *, title: str | None = None
) -> None:
    """Draws choices of a cut and a defence: accuracy and energy, against the SSIM that is left.

    A number and a colour for each cut, in order, and a marker for each defence; those of the Pareto
    set are filled.

    Args:
      path: the PNG to write, whole or not at all.
      choices: rows of a `partition` record: `split`, `defense`, `accuracy` (a share), `energy_j`,
        `ssim_mean`, `ssim_ci` (of the strongest attacker) and `pareto`.
      title: drawn above everything.

    Raises:
      UserError: the file cannot be written.
      ValueError: there is no choice.
    """
    if not choices:
        raise ValueError("Expected at least one choice.")
    cuts = list(dict.fromkeys(row["split"] for row in choices))
    names = list(dict.fromkeys(_defense_name(row["defense"]) for row in choices))
    colours = dict(zip(cuts, _in_order(len(cuts)), strict=True))
    numbers = {cut: str(number) for number, cut in enumerate(cuts, 1)}
    markers = dict(zip(names, itertools.cycle("osD^vP*X"), strict=False))
    figure = _new_figure(11, 4.8)
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.08)
    if title:
        figure.suptitle(title, fontsize=10, parse_math=False)
    left, right = figure.subplots(1, 2)
    for axes, key, scale, label in (
        (left, "accuracy", 100, "accuracy (%)"),
        (right, "energy_j", 1e3, "energy of the device for one image (mJ)"),
    ):
        _style(axes)
        axes.set_xlabel("SSIM left to the strongest attacker")
        axes.set_ylabel(label)
        for row in choices:
            _draw_choice(axes, row, scale * row[key], colours, markers, numbers)
    right.set_yscale("log")
    named = {f"{numbers[cut]} {cut}": colour for cut, colour in colours.items()}
    is_whole = all(row["pareto"] for row in choices)
    _name_choices(figure, named, markers, hollow="" if is_whole else "hollow: not in Pareto set")
    _save(figure, path)


def throughput_curves(
    path: str | Path, rows: Sequence[Mapping[str, Any]], *, title: str | None = None
) -> None:
    """Draws how many image-iterations a second attacks reach, against images at once.

    A line for each cut and method, in the colour of the cut and with the marker of the method;
    thin bars for the extremes. Where several numbers of devices were measured, the left panel is of
    the least, and the right one has the largest batch against their number, with what would be in
    proportion to it in grey. All axes are logarithmic. Training is not drawn.

    Args:
      path: the PNG to write, whole or not at all.
      rows: of a `benchmark` record: `split`, `method`, `phase`, `batch`, `devices`,
        `image_iterations_per_s`, and its `_low` and `_high`.
      title: drawn above everything.

    Raises:
      UserError: the file cannot be written.
      ValueError: there is no attack.
    """
    from matplotlib.ticker import LogLocator

    attacks = [row for row in rows if row["phase"] == "attack"]
    if not attacks:
        raise ValueError("Expected at least one attack.")
    cuts, methods, counts = (
        list(dict.fromkeys(row[key] for row in attacks)) for key in ("split", "method", "devices")
    )
    colours = dict(zip(cuts, _colours(len(cuts)), strict=True))
    markers = dict(zip(methods, itertools.cycle("osD^vP*X"), strict=False))
    figure = _new_figure(8 if len(counts) == 1 else 10, 4.6)
    figure.set_layout_engine("constrained", w_pad=0.08, h_pad=0.08)
    if title:
        figure.suptitle(title, fontsize=10, parse_math=False)
    panels = figure.subplots(1, 1 if len(counts) == 1 else 2, squeeze=False)[0]
    panels[0].set_ylabel("image-iterations a second")
    largest = max(row["batch"] for row in attacks)
    kept = ("devices", min(counts)), ("batch", largest)
    for axes, along, (fixed, value) in zip(panels, ("batch", "devices"), kept, strict=False):
        shown = [row for row in attacks if row[fixed] == value]
        _style(axes)
        axes.set(xscale="log", yscale="log")
        if along == "batch":
            of = f", {value} devices" if value > 1 else ""
            axes.set_xlabel(f"batch: images at once on each device{of}")
        else:
            axes.set_xlabel(f"devices, each with {value:,} images at once")
        for cut, method in itertools.product(cuts, methods):
            line = [row for row in shown if (row["split"], row["method"]) == (cut, method)]
            _draw_throughput(axes, along, line, colours[cut], markers[method])
        _name_queries(axes, [row[along] for row in shown])
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:,g}")
        axes.yaxis.set_minor_formatter("")
    _name_choices(figure, colours, markers)
    _save(figure, path)


def _draw_throughput(
    axes: Axes, along: str, rows: Sequence[Mapping[str, Any]], colour: Any, marker: str
) -> None:
    rows = sorted(rows, key=lambda row: row[along])
    x = np.array([row[along] for row in rows], float)
    rate, low, high = (
        np.array([row[f"image_iterations_per_s{end}"] for row in rows], float)
        for end in ("", "_low", "_high")
    )
    if along == "devices" and len(x):
        axes.plot(x, rate[0] * x / x[0], color=_CLAIM, linewidth=0.8, linestyle=":", zorder=1)
    axes.vlines(x, low, high, color=colour, linewidth=1, alpha=0.6)
    axes.plot(x, rate, color=colour, marker=marker, markersize=5, linewidth=1.3)


def _draw_choice(
    axes: Axes,
    row: Mapping[str, Any],
    y: float,
    colours: Mapping[str, Any],
    markers: Mapping[str, str],
    numbers: Mapping[str, str],
) -> None:
    colour = colours[row["split"]]
    x, (low, high) = row["ssim_mean"], row["ssim_ci"]
    if x is None or math.isnan(x):  # whatever attacked it diverged
        return
    axes.plot([low, high], [y, y], color=colour, linewidth=1, alpha=0.6)
    axes.plot(
        x,
        y,
        marker=markers[_defense_name(row["defense"])],
        markersize=7,
        color=colour,
        markerfacecolor=colour if row["pareto"] else "white",
        linestyle="none",
    )
    # A dozen colours are not told apart, by some eyes not even two.
    axes.annotate(
        numbers[row["split"]], (x, y), (4, 4), textcoords="offset points", fontsize=7, color=_GREY
    )


def _name_choices(
    figure: Figure, colours: Mapping[str, Any], markers: Mapping[str, str], *, hollow: str = ""
) -> None:
    from matplotlib.lines import Line2D

    lines = {
        name: Line2D([], [], color=_GREY, marker=marker, linestyle="none")
        for name, marker in markers.items()
    }
    if hollow:
        marker = next(iter(markers.values()))
        lines[hollow] = Line2D(
            [], [], color=_GREY, marker=marker, markerfacecolor="white", linestyle="none"
        )
    lines |= {
        name: Line2D([], [], color=colour, linewidth=5, solid_capstyle="butt")
        for name, colour in colours.items()
    }
    _legend(figure, lines, None, below=True, ncols=8)


def _in_order(count: int) -> list[Any]:
    from matplotlib import colormaps

    return list(colormaps["viridis"](np.linspace(0, 0.9, count)))


def _defense_name(defense: Mapping[str, Any]) -> str:
    if defense["kind"] == "none":
        return "no defence"
    site = ", input" if defense["site"] == "input" else ""
    return f"{defense['kind']} {level_text(defense)}{site}"


class _Line(NamedTuple):
    """What was drawn of one defence: points `[L, 2]`, in data coordinates, and levels `[L]`."""

    points: np.ndarray
    levels: np.ndarray
    colour: Any


def _kind_and_site(name: str) -> tuple[str, str]:
    kind, _, site = name.rpartition(", ")
    site = "both" if set(site.split("+")) == {"input", "feature"} else site
    if not kind or site not in _SITES:
        raise ValueError(f"Expected '<kind>, feature', '<kind>, input' or both, got {name!r}.")
    return kind, site


def _draw_tradeoff(
    axes: Axes, curve: Mapping[str, Sequence[float]], quantity: str, colour: Any, site: str
) -> _Line:
    """Draws the levels of one defence, and their intervals both ways."""
    levels = np.array(curve["level"], object)
    x = np.array([curve[f"{quantity}_{what}"] for what in ("mean", "low", "high")], float)
    y = 100 * np.array([curve[f"accuracy{what}"] for what in ("", "_low", "_high")], float)
    kept = np.isfinite(x[0]) & np.isfinite(y[0])
    levels, x, y = levels[kept], x[:, kept], y[:, kept]
    bars = {"fmt": "none", "ecolor": colour, "elinewidth": 0.7, "alpha": 0.6}
    axes.errorbar(x[0], y[0], xerr=_reach(x), yerr=_reach(y), **bars)
    axes.plot(x[0], y[0], color=colour, linewidth=1.3, markersize=4, **_SITES[site])
    return _Line(np.stack([x[0], y[0]], axis=1), levels, colour)


def _reach(values: np.ndarray) -> np.ndarray:
    """How far bars reach below and above means, `[2, L]`, of means, lows and highs `[3, L]`."""
    mean, low, high = values
    return np.nan_to_num(np.maximum([mean - low, high - mean], 0))


def _draw_claims(axes: Axes, quality: float | None, accuracy: float | None) -> list[Line2D]:
    style: dict[str, Any] = {"color": _CLAIM, "linewidth": 0.9, "zorder": 1}
    lines = [] if quality is None else [axes.axvline(quality, **style)]
    return lines if accuracy is None else [*lines, axes.axhline(100 * accuracy, **style)]


def _name_tradeoffs(
    figure: Figure,
    axes: Axes,
    colours: Mapping[str, Any],
    names: Sequence[str],
    claims: tuple[float | None, float | None],
) -> None:
    """The legend, in as many rows as it needs: kinds by colour, sites by style, the claims."""

    def line(**style: Any) -> Line2D:
        return axes.plot([], [], **{"linewidth": 1.3, "markersize": 4, **style})[0]

    kinds = {kind: line(color=colour, linewidth=3) for kind, colour in colours.items()}
    present = {_kind_and_site(name)[1] for name in names}
    sites = {
        f"on {'both' if site == 'both' else f'the {site}'}": line(color=_GREY, **style)
        for site, style in _SITES.items()
        if site in present
    }
    claimed = {}
    if claims[0] is not None:
        name = f'SSIM {claims[0]:g}: "no useful information", says the paper'
        claimed[name] = line(color=_CLAIM, linewidth=0.9)
    if claims[1] is not None:
        claimed[f"accuracy {100 * claims[1]:g}%"] = line(color=_CLAIM, linewidth=0.9)
    groups = [group for group in (kinds, sites, claimed) if group]
    longest = max(map(len, groups))
    for rows in range(min(2, longest), longest + 1):
        lines: dict[str, Line2D] = {}
        for group in groups:
            lines |= group
            # A legend is filled column by column: none may hold lines of two groups.
            while len(lines) % rows:
                lines[" " * (1 + len(lines))] = line(linestyle="none")
        legend = _legend(figure, lines, None, below=True, ncols=len(lines) // rows)
        if legend.get_window_extent().width <= figure.bbox.width:
            break
        if rows < longest:
            legend.remove()


def _label_levels(
    figure: Figure, axes: Axes, lines: Sequence[_Line], claims: Sequence[Line2D]
) -> None:
    """Writes levels beside their points: at the ends of lines, and elsewhere if nothing is covered.

    The figure is laid out already. Several lines that begin at one point share its label.
    """
    from matplotlib.patheffects import withStroke

    lines = [line for line in lines if len(line.points)]
    pixels = [axes.transData.transform(line.points) for line in lines]
    claimed = [line.get_transform().transform(line.get_xydata()) for line in claims]
    covered = np.concatenate([np.zeros((0, 2)), *map(_along, [*pixels, *claimed])])
    frame = axes.get_window_extent().get_points()
    taken = np.zeros((0, 2, 2))  # middles and half sizes
    named: list[tuple[str, np.ndarray]] = []
    for number, place, is_end in _label_order([len(line.levels) for line in lines]):
        content, point = str(lines[number].levels[place]), pixels[number][place]
        if any(content == other and np.hypot(*(point - at)) < 8 for other, at in named):
            continue
        text = _write(figure, content, 6.5)
        half = np.array(_size(text)) / 2 + 1
        middle = _room(point, half, frame, taken, covered, most_covered=len(covered) * is_end)
        if middle is None:
            text.remove()
            continue
        text.set(x=middle[0], y=middle[1], ha="center", va="center", color=lines[number].colour)
        text.set_path_effects([withStroke(linewidth=1.5, foreground="white")])
        taken = np.concatenate([taken, [[middle, half]]])
        named.append((content, point))


def _label_order(lengths: Sequence[int]) -> list[tuple[int, int, bool]]:
    """(line, point, whether it ends the line), the ends of all lines first."""
    every = [
        (number, place, place in (0, length - 1))
        for number, length in enumerate(lengths)
        for place in range(length)
    ]
    return sorted(every, key=lambda label: not label[2])


def _room(
    point: np.ndarray,
    half: np.ndarray,
    frame: np.ndarray,
    taken: np.ndarray,
    covered: np.ndarray,
    *,
    most_covered: int,
) -> np.ndarray | None:
    """Where beside a point a label hides least, and no other label; None if there is no room.

    Args:
      point: `[2]`, all in pixels.
      half: `[2]`, of the label's width and height.
      frame: `[2, 2]`, lower left and upper right corner that the label stays within.
      taken: `[T, 2, 2]`, middles and half sizes of other labels.
      covered: `[M, 2]`, what is drawn, as points.
      most_covered: how many of those may be hidden.
    """
    around = [(x, y) for x in (1, -1, 0) for y in (1, -1, 0) if x or y]
    middles = point + np.concatenate([np.array(around) * (half + gap) for gap in (6, 10)])
    inside = (middles - half >= frame[0]).all(1) & (middles + half <= frame[1]).all(1)
    apart = (np.abs(middles[:, None] - taken[:, 0]) >= half + taken[:, 1]).any(2).all(1)
    hidden = (np.abs(middles[:, None] - covered) <= half).all(2).sum(1)
    allowed = inside & apart & (hidden <= most_covered)
    if not allowed.any():
        return None
    return middles[np.where(allowed, hidden, np.inf).argmin()]


def _along(points: np.ndarray) -> np.ndarray:
    """Points `[M, 2]` every other pixel along the line through points `[L, 2]`, and its markers."""
    markers = points[:, None] + np.array([(x, y) for x in (-3, 0, 3) for y in (-3, 0, 3)])
    parts = [markers.reshape(-1, 2)]
    for start, stop in itertools.pairwise(points):
        share = np.linspace(0, 1, 2 + int(np.hypot(*(stop - start)) / 2))[:, None]
        parts.append(start + share * (stop - start))
    return np.concatenate(parts)


def _quality_panels(
    curves: Mapping[str, Mapping[str, Sequence[float]]],
    along: Mapping[str, np.ndarray],
    title: str | None,
) -> tuple[Figure, Sequence[Axes]]:
    """PSNR on the left, SSIM on the right: means, and bands from low to high, against `along`."""
    figure = _new_figure(8, 3.8)
    figure.set_layout_engine("constrained", w_pad=0.08, h_pad=0.08)
    panels = figure.subplots(1, 2)
    colours = _colours(len(curves))
    lines = {}
    for axes, quantity, label in zip(panels, ("psnr", "ssim"), ("PSNR (dB)", "SSIM"), strict=True):
        _style(axes)
        axes.set_ylabel(label)
        for colour, (name, curve) in zip(colours, curves.items(), strict=True):
            mean, low, high = (
                np.array(curve[f"{quantity}_{what}"], float) for what in ("mean", "low", "high")
            )
            kept = np.isfinite(mean)
            x = along[name][kept]
            (line,) = axes.plot(
                x, mean[kept], color=colour, marker="o", markersize=4, linewidth=1.5
            )
            axes.fill_between(x, low[kept], high[kept], color=colour, alpha=0.2, linewidth=0)
            lines[name] = line
    _legend(figure, lines, title)
    return figure, panels


def _colours(count: int) -> list[Any]:
    """As many colours: told apart while they are few, else in an order of their own."""
    if count <= len(_PALETTE):
        return list(_PALETTE[:count])
    return _in_order(count)


def _name_queries(axes: Axes, queries: Sequence[float]) -> None:
    """Numbers below a logarithmic axis where there are points, as far as there is room."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

    shown: list[float] = []
    low, high = min(queries), max(queries)
    for number in sorted(set(queries)):
        if not shown or np.log(number / shown[-1]) > np.log(high / low) / 8:
            shown.append(number)
    axes.xaxis.set_major_locator(FixedLocator(shown))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _brief(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _brief(number: float) -> str:
    return f"{number / 1000:g}k" if number >= 10_000 else f"{number:g}"


def _new_figure(width: float, height: float) -> Figure:
    """A figure of `width` x `height` inches that can measure text and draws PNGs."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: str | Path) -> None:
    atomic_write(path, lambda file: figure.savefig(file, format="png", dpi=_DPI))


def _write(figure: Figure, text: str, size: float) -> Text:
    """Text of `size` points, placed later, in pixels from the lower left corner."""
    from matplotlib.transforms import IdentityTransform

    return figure.text(
        0, 0, text, fontsize=size, transform=IdentityTransform(), parse_math=False, linespacing=1.3
    )


def _size(text: Text) -> tuple[int, int]:
    """Width and height in pixels, rounded up."""
    box = text.get_window_extent()
    return int(np.ceil(box.width)), int(np.ceil(box.height))


def _draw_curves(axes: Axes, curves: Mapping[str, Sequence[float] | np.ndarray]) -> None:
    """Draws each curve with its name and last value at its end, the higher one's name on top."""
    from matplotlib.ticker import MaxNLocator

    points = {name: _finite_points(values) for name, values in curves.items()}
    drawn = {name: (epochs, values) for name, (epochs, values) in points.items() if len(epochs)}
    highest = max(drawn, key=lambda name: drawn[name][1][-1], default=None)
    for name, (epochs, values) in drawn.items():
        colour = _ORANGE if name == "test" else _BLUE
        axes.plot(epochs, values, color=colour, marker="o", markersize=2.5, linewidth=1.5)
        axes.annotate(
            f" {name} {values[-1]:.4g}",
            (epochs[-1], values[-1]),
            color=colour,
            fontsize=9,
            va="bottom" if name == highest else "top",
            annotation_clip=False,
        )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    _style(axes)


def _draw_way(
    axes: Axes,
    along: Sequence[float],
    values: Sequence[Sequence[float]],
    starts: Sequence[float],
    colour: str,
) -> Line2D:
    """Draws a line `values[0]`, the band between `values[1:]`, its end, and ticks at `starts`."""
    x = np.asarray(along, float)
    y, low, high = np.asarray(values, float)
    if axes.get_yscale() == "log":
        y, low, high = (np.where(value > 0, value, np.nan) for value in (y, low, high))
    (line,) = axes.plot(x, y, color=colour, linewidth=1.5)
    axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    finite = np.isfinite(x) & np.isfinite(y)
    if finite.any():
        axes.plot(x[finite][-1:], y[finite][-1:], color=colour, marker="o", markersize=4)
        ticks = np.asarray(starts, float)
        _tick(axes, ticks, np.interp(ticks, x[finite], y[finite]), colour)
    return line


def _tick(axes: Axes, x: ArrayLike, y: ArrayLike, colour: str) -> Line2D:
    (ticks,) = axes.plot(x, y, color=colour, marker="|", markersize=12, linestyle="none")
    return ticks


def _legend(
    figure: Figure,
    lines: Mapping[str, Line2D],
    title: str | None,
    *,
    below: bool = False,
    ncols: int | None = None,
) -> Legend:
    """Names lines in rows above everything, below the title; or below everything."""
    legend = figure.legend(
        list(lines.values()),
        list(lines),
        loc="outside lower center" if below else "outside upper center",
        ncols=ncols or min(5, len(lines)),
        fontsize=9,
        frameon=False,
        title=title,
        title_fontsize=10,
    )
    for text in (legend.get_title(), *legend.get_texts()):
        text.set_parse_math(False)
    return legend


def _last(values: Sequence[float]) -> str:
    """The last PSNR of a curve, as a legend has it."""
    last = np.asarray(values, float)[-1]
    return f"{last:.1f} dB" if np.isfinite(last) else "-"


def _style(axes: Axes) -> None:
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(color=_GREY, labelsize=9)


def _finite_points(values: Sequence[float] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The epochs, from 1, whose value is finite, and those values."""
    array = np.asarray(values, float)
    finite = np.isfinite(array)
    return np.flatnonzero(finite) + 1, array[finite]
