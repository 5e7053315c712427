"""Accuracy against quality of what is reconstructed, behind defences."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxinv.look.charts import style
from jaxinv.look.charts.style import alt

_DASHES = {"feature": style.SOLID, "input": style.DASHED, "input+feature": style.DOTTED}
_NAMES = {"ssim": "SSIM", "psnr": "PSNR (dB)"}
_LETTER, _LINE = 3.2, 6.0  # pixels: half the width of a digit, half the height of a level
_AROUND = np.array([(x, y) for x in (1, -1, 0) for y in (-1, 1, 0) if x or y])


def figure(
    rows: Sequence[style.Row],
    *,
    title: str = "",
    claims: tuple[float | None, float | None] = (0.25, 0.95),
    tooltip: Sequence[str] = (),
    measure: str = "accuracy",
) -> style.Figure:
    """Returns accuracy, or other usability, against SSIM and PSNR (Figs. 9, 10, 13 of the paper).

    A column of panels for each attacker; a line for each defence in the colour of its kind, solid
    where it is applied to the feature and dashed where to the input; a point for each level. The
    ends of a line are labelled with their level, and other points where there is room.

    Args:
      rows: a level of a defence against an attacker: `attacker`, `kind`, `site` ("feature", "input"
        or "input+feature"), `level` (a text), `usability_mean`, `usability_ci` (shares),
        `ssim_mean`, `ssim_ci`, `psnr_mean` and `psnr_ci` (dB); and `line`, where several have one
        kind and site.
      title: the words above the panels.
      claims: of the paper, as dotted lines: the SSIM at which an image tells nothing, and an
        accuracy (a share) that is good enough. None draws no line.
      tooltip: fields of the rows that the page shows with a point.
      measure: name of the usability.

    Raises:
      ValueError: there is no row, or a site is none of those.
    """
    if not rows:
        raise ValueError("Expected at least one attacker and one defence, got none.")
    for row in rows:
        if row["site"] not in _DASHES:
            raise ValueError(f"Expected a site of {', '.join(_DASHES)}, got {row['site']!r}.")
    kinds = style.looks_of(row["kind"] for row in rows)
    looks = {_name(row): kinds[row["kind"]]._replace(dash=_DASHES[row["site"]]) for row in rows}
    attackers = list(dict.fromkeys(row["attacker"] for row in rows))
    panels = []
    for quantity, name in _NAMES.items():
        points = style.known(_point(row, quantity, tooltip) for row in rows)
        x, y = _axes(points, quantity, measure)
        rules = [] if claims[1] is None else [style.rule(y, claims[1])]
        if claims[0] is not None and quantity == "ssim":
            rules.append(style.rule(x, claims[0]))
        for attacker in attackers:
            own = [row for row in points if row["attacker"] == attacker]
            under = [*rules, _levels(own, looks, x, y)]
            chart = style.lines(own, looks, x, y, tooltip=tooltip, under=under)
            panels.append(style.Panel(f"{name}, {attacker}", chart, fades=True))
    legend = [look._replace(dash=()) for look in kinds.values()]
    sites = dict.fromkeys(row["site"] for row in rows)
    legend += [style.Key(f"at the {site}", dash=_DASHES[site]) for site in sites]
    said = ('SSIM {:g}: "no useful information", says the paper', "accuracy {:.0%}")
    legend += [
        style.Key(words.format(claim), style.GREY, dash=style.DOTTED)
        for words, claim in zip(said, claims, strict=True)
        if claim is not None
    ]
    return style.Figure(title, panels, legend, columns=len(attackers))


def _name(row: style.Row) -> str:
    return row.get("line", f"{row['kind']}, {row['site']}")


def _point(row: style.Row, quantity: str, tooltip: Sequence[str]) -> dict[str, Any]:
    return {
        **{key: row[key] for key in ("attacker", "level", *tooltip)},
        **{"series": _name(row), **style.measured(row, quantity, "x")},
        **style.measured(row, "usability"),
    }


def _axes(points: Sequence[style.Row], quantity: str, measure: str) -> tuple[alt.X, alt.Y]:
    ends = [row[end] for row in points for end in ("x_low", "x_high")] or [0.0]
    around = max(1.0, 1e-3 * max(map(abs, ends)))  # a part of huge numbers, too
    domain = [np.floor(min(ends)) - around, np.ceil(max(ends)) + around]
    domain = [0, 1] if quantity == "ssim" else domain
    scale = alt.Scale(domain=domain, nice=False, clamp=True)
    x = alt.X("x:Q", title=f"{_NAMES[quantity]} of the reconstructions", scale=scale)
    return x, alt.Y("y:Q", title=measure, **style.shares(row["y"] for row in points))


def _levels(
    points: Sequence[style.Row], looks: Mapping[str, style.Key], x: alt.X, y: alt.Y
) -> alt.Chart:
    """Returns the levels beside their points: at the ends of lines, and where nothing is hidden."""
    (left, right), (bottom, top) = (axis["scale"]["domain"] for axis in (x, y))
    across = (np.clip([row["x"] for row in points], left, right) - left) / (right - left)
    down = (top - np.array([row["y"] for row in points], float)) / (top - bottom)
    at = np.stack([style.WIDTH * across, style.HEIGHT * down], axis=1)
    series = [row["series"] for row in points]
    ends = [
        name not in series[:place] or name not in series[place + 1 :]
        for place, name in enumerate(series)
    ]
    drawn = np.concatenate([at, *_along(at, series)])
    written: list[dict[str, Any]] = []
    taken = np.zeros((0, 2, 2))  # middles and half sizes
    for place in sorted(range(len(points)), key=lambda place: not ends[place]):
        level = points[place]["level"]
        near = (row for row in written if np.hypot(*(at[place] - at[row["place_of"]])) < 8)
        if any(row["level"] == level for row in near):
            continue  # lines that begin at one point share its label
        half = np.array([_LETTER * len(level), _LINE])
        most = len(drawn) if ends[place] else 0
        middle = room(at[place], half, taken, drawn, most_hidden=most)
        if middle is not None:
            taken = np.concatenate([taken, [[middle, half]]])
            dx, dy = middle - at[place]
            written.append({**points[place], "dx": float(dx), "dy": float(dy), "place_of": place})
    offset: Any = {"dx": alt.expr("datum.dx"), "dy": alt.expr("datum.dy")}
    text = style.marks(written, looks, x, y).mark_text(fontSize=10, opacity=1, **offset)
    return text.encode(text="level:N")


def _along(at: np.ndarray, series: Sequence[str]) -> Iterator[np.ndarray]:
    """Yields points `[M, 2]` every other pixel along the lines through points `[N, 2]`."""
    for name in dict.fromkeys(series):
        own = at[[each == name for each in series]]
        for start, stop in itertools.pairwise(own):
            share = np.linspace(0, 1, 2 + int(np.hypot(*(stop - start)) / 2))[:, None]
            yield start + share * (stop - start)


def room(
    point: np.ndarray, half: np.ndarray, taken: np.ndarray, drawn: np.ndarray, *, most_hidden: int
) -> np.ndarray | None:
    """Returns where beside a point a label hides least, and no other label; None without room.

    Args:
      point: `[2]`, in pixels from the upper left corner of the panel, as everything else.
      half: `[2]`, half the width and the height of the label.
      taken: `[T, 2, 2]`, middles and half sizes of other labels.
      drawn: `[M, 2]`, points of lines.
      most_hidden: number of those that may be hidden.
    """
    middles = point + np.concatenate([_AROUND * (half + gap) for gap in (5, 9)])
    inside = (middles >= half).all(1) & (middles + half <= (style.WIDTH, style.HEIGHT)).all(1)
    apart = (np.abs(middles[:, None] - taken[:, 0]) >= half + taken[:, 1]).any(2).all(1)
    hidden = (np.abs(middles[:, None] - drawn) <= half + 1).all(2).sum(1)
    allowed = inside & apart & (hidden <= most_hidden)
    return middles[np.where(allowed, hidden, np.inf).argmin()] if allowed.any() else None
