"""One HTML page of all findings, which needs nothing but itself.

Everything from records is escaped by the template engine, and specifications of charts are JSON in
which no tag can end. The page's policy lets a browser run the scripts written here and no other,
and load nothing.
"""

import base64
import functools
import hashlib
import importlib.resources
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from jaxinv.constants.kinds import IMAGE, Kind, in_words
from jaxinv.constants.threats import THREATS
from jaxinv.look.charts import equal, style
from jaxinv.look.charts.style import Figure
from jaxinv.look.text import printable
from jaxinv.report import advice, boards, cards, charts, columns, findings, gallery, origins, tables
from jaxinv.report.results import Board, Found, Partition, ShownAttack, ShownRun
from jaxinv.report.values import MISSING, fixed, listed, percent, span, unit

_SCENE = ("dataset", "image_size", "network", "mean", "std", "checkpoint")  # flags of a study
_BEST = 8  # choices that are shown before all others
_DRAWN = 6  # trade-offs, those with most points; the others have their tables
_FEW, _MANY = 4, 12  # groups of pictures that are open, of defences and of undefended cuts
_SECTIONS = {
    "summary": "Summary",
    "partitions": "Where to split",
    "quality": "Split by split",
    "paper": "Against the paper",
    "boards": "Equal accuracy",
    "tradeoffs": "Defences",
    "galleries": "Pictures",
    "threats": "Threat models",
    "others": "Other runs",
    "provenance": "Provenance",
}
_ANCHORS = {
    "partitions": "choices",
    "quality": "splits",
    "boards": "equal",
    "tradeoffs": "defences",
    "galleries": "pictures",
}


def render(found: Found) -> tuple[str, list[tuple[str, Figure]]]:
    """Returns the page, and the figures that are on it, each with its kind."""
    numbers = count(1)
    names = (f"t{number}" for number in numbers)
    figures: list[tuple[str, Figure]] = []
    specs: list[dict[str, Any]] = []

    def placed(kind: str, figure: Figure) -> dict[str, Any]:
        """Returns a figure for the template; its specifications go to the end of the page."""
        figures.append((kind, figure))
        panels = []
        for panel in figure.panels:
            name = f"spec-{len(specs) + 1}"
            spec = in_words(style.page(panel), figure.kind)
            specs.append({"name": name, "text": _json(spec)})
            described = f"{figure.title}: {panel.title}"
            panels.append({"title": panel.title, "description": described, "spec": name})
        shown = {"title": figure.title, "legend": figure.legend, "panels": panels}
        return in_words(shown, figure.kind)

    order = found.datasets
    places = {each.name: each.number for each in found.attacks}
    pictures = gallery.build(sorted(found.attacks, key=lambda each: order.index(each.dataset)))
    kinds = {run.kind for run in [*found.attacks, *found.partitions, *found.boards]}
    kind = kinds.pop() if len(kinds) == 1 else IMAGE
    scripts = [Markup(_bundle()), Markup(_resource("page.js"))]
    parts: dict[str, Any] = {
        "summary": [_summary(found, dataset, names) for dataset in found.datasets],
        "partitions": [
            {
                **in_words(_partition(each, title, places, names, placed), each.kind),
                "profile": advice.profile(each),
            }
            for each, title in zip(found.partitions, _titles(found.partitions), strict=True)
        ],
        "quality": _quality(found, names, placed),
        "paper": _paper(found.attacks, names),
        "paper_reasons": findings.why_others(findings.against_paper(found.attacks)),
        "boards": _boards(found.boards, names, placed),
        "tradeoffs": _tradeoffs(found, names, placed),
        "galleries": _galleries(pictures),
        "threats": in_words(cards.threats(found.attacks), kind),
        "others": in_words(_others(found.others, names), kind),
        "provenance": [origins.data(found, next(names)), origins.environments(found, next(names))],
    }
    html = _template().render(
        **parts,
        title=f"What the cloud can reconstruct: {listed(found.datasets)}",
        heading="What the cloud can reconstruct",
        read=origins.read(found),
        sections=[
            {"id": _ANCHORS.get(name, name), "label": label}
            for name, label in _SECTIONS.items()
            if parts[name]
        ],
        similarity=kind.title if not kinds else "SSIM (of series and tables the correlation)",
        inputs=kind.plural if not kinds else "inputs",
        has_images=kind == IMAGE,
        left_out=pictures.left_out,
        damaged=listed(pictures.damaged),
        cards=[in_words(cards.card(each), each.kind) for each in found.attacks],
        hashes=origins.hashes(found, next(names)),
        specs=[{**spec, "text": Markup(spec["text"])} for spec in specs],
        scripts=scripts,
        style=Markup(_resource("page.css")),
        policy=_policy(scripts),
    )
    return html.strip() + "\n", figures


# --- Sections -----------------------------------------------------------------------------------


def _summary(found: Found, dataset: str, names: Iterator[str]) -> dict[str, Any]:
    attacks = [each for each in found.attacks if each.dataset == dataset]
    partitions = [each for each in found.partitions if each.dataset == dataset]
    reached, judged = findings.reaches(attacks), findings.defended(attacks)
    sentences = [findings.defended_words(judged)] if judged.settings else []
    flags = [each.record.flags for each in found.runs if each.dataset == dataset]
    is_network = any("pairs" not in each for each in flags)  # else features of an unknown one
    if not attacks and not partitions:
        why = "No attack on it is recorded." if is_network else "Its originals are not known."
        sentences = [why]
    found_in = {
        "advice": [_advice(each) for each in partitions],
        "sentences": sentences,
        "missing": "" if partitions or not is_network else _command(attacks, dataset),
        "reaches": tables.reaches(reached, dataset, next(names)) if reached else None,
    }
    return {"dataset": dataset, **in_words(found_in, _kind_of([*attacks, *partitions]))}


def _kind_of(runs: Sequence[ShownRun]) -> Kind:
    """Returns the kind of input of runs of one dataset."""
    return runs[0].kind if runs else IMAGE


def _command(attacks: Sequence[ShownAttack], dataset: str) -> str:
    """Returns the command of a study of cuts of what was attacked."""
    flags = attacks[0].record.flags if attacks else {}
    asked = {name: flags[name] for name in _SCENE if name in flags} or {"dataset": dataset}
    return " ".join(["jaxinv partition", *(f"--{name}={asked[name]}" for name in asked)])


def _advice(partition: Partition) -> dict[str, Any]:
    best = partition.recommended
    tiles = []
    if best:
        tiles = [
            {"label": best.usability_kind, "value": percent(best.usability.mean)},
            {"label": "latency", "value": unit(best.latency_s, "s")},
            {"label": "energy", "value": unit(best.energy_j, "J")},
            {"label": "device memory", "value": unit(best.memory_bytes, "B")},
            {"label": "SSIM left", "value": fixed(best.ssim.mean, 3)},
            {"label": "re-identified", "value": percent(best.reid.mean)},
        ]
    return {
        "device": f"On {partition.record.profile.name}, of {len(partition.choices)} choices",
        "sentences": advice.advice(partition),
        "tiles": [tile for tile in tiles if tile["value"] != MISSING],
        "asked": advice.asked(partition),
    }


def _partition(
    partition: Partition, title: str, places: Mapping[str, int], names: Iterator[str], placed: Any
) -> dict[str, Any]:
    ordered = advice.order(partition)
    figure = charts.chosen(partition, title)
    options = {
        "split": ("cut", [each.split for each in partition.choices]),
        "kind": (
            "defence",
            ["none" if c.defense.is_none else c.defense.kind for c in partition.choices],
        ),
    }
    few = len(ordered) <= _BEST
    bounds = tables.bounds(partition, next(names), title)
    certain = tables.certain(partition, next(names), title)
    best = "all choices" if few else "the best choices, recommended first, then by what is left"
    return {
        "title": title,
        "asked": advice.asked(partition),
        "figure": placed("choices", figure) if figure else None,
        "filters": [
            {"name": name, "label": label, "options": list(dict.fromkeys(values))}
            for name, (label, values) in options.items()
        ],
        "best": tables.choices(partition, ordered[:_BEST], places, next(names), f"{title}: {best}"),
        "all": None
        if few
        else tables.choices(
            partition, partition.choices, places, next(names), f"{title}: all choices"
        ),
        "advice": advice.paper_advice(partition),
        "bounds": bounds if bounds.rows else None,
        "certain": certain if certain.rows else None,
    }


def _titles(partitions: Sequence[Partition]) -> list[str]:
    """Names each by dataset and device, with a number where these are the same."""
    plain = [f"{each.dataset} on {each.record.profile.name}" for each in partitions]
    return [
        f"{title}, study {plain[: place + 1].count(title)}" if plain.count(title) > 1 else title
        for place, title in enumerate(plain)
    ]


def _quality(found: Found, names: Iterator[str], placed: Any) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    for dataset in found.datasets:
        attacks = [each for each in found.attacks if each.dataset == dataset]
        figure = charts.quality(attacks, dataset)
        if not figure:
            continue
        best = findings.best_of_splits(attacks)
        images = span(each.num_images for each in best)
        caption = f"Means of {images} test images. Cuts are in the order of the network."
        everything = findings.in_cuts(each for each in attacks if each.defense.is_none)
        table = tables.undefended(everything, next(names), f"{dataset}, undefended")
        part = {"caption": caption, "table": table, "columns": columns.table(best, dataset, names)}
        part = in_words(part, attacks[0].kind)
        parts.append({"figure": placed("splits", figure), **part})
    return parts


def _paper(attacks: Sequence[ShownAttack], names: Iterator[str]) -> tables.Table | None:
    found = findings.against_paper(attacks)
    return tables.against_paper(found, next(names)) if found else None


def _boards(found: Sequence[Board], names: Iterator[str], placed: Any) -> list[dict[str, Any]]:
    parts = []
    for each in found:
        record = each.record
        title = f"{each.dataset}, {record.split}: defences at equal accuracy"
        figure = equal.figure(record.standings, title=title)
        images = f"{record.num_images:,} image{'s' * (record.num_images != 1)}"
        trainings = f"{record.seeds} training{'s' * (record.seeds != 1)} of each defence"
        caption = f"Means over {images} and {trainings}; bars are 95% intervals."
        made = [boards.table(each, loss, next(names), title) for loss in record.losses]
        told = in_words({"title": title, "caption": caption, "tables": made}, each.kind)
        shown = placed("board", figure._replace(kind=each.kind)) if figure else None
        parts.append({"figure": shown, **told})
    return parts


def _tradeoffs(found: Found, names: Iterator[str], placed: Any) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    groups = findings.tradeoffs(found.attacks)
    drawn = sorted(groups, key=lambda each: -sum(len(line.attacks) for line in each.lines))[:_DRAWN]
    for each in groups:
        figure = charts.tradeoff(each) if each in drawn else None
        attacks = [attack for line in each.lines for attack in line.attacks]
        title = f"{each.dataset}, {each.split}, {THREATS.get(each.threat, each.threat)}"
        table = tables.defended(attacks, next(names), f"{title}: defences")
        images = span(attack.num_images for attack in attacks)
        caption = (
            f"A line is a defence, a point a level of it; means of {images} images, "
            "95% intervals (of PSNR approximate)."
        )
        shown = placed("tradeoff", figure) if figure else None
        told = in_words({"title": title, "caption": caption, "table": table}, attacks[0].kind)
        parts.append({"figure": shown, **told})
    return parts


def _galleries(pictures: gallery.Gallery) -> list[dict[str, Any]]:
    parts: dict[str, list[gallery.Group]] = {}
    for group in pictures.groups:
        title = f"{group.dataset}, {'defended' if group.defense else 'undefended'}"
        parts.setdefault(title, []).append(group)
    shown = {title: _FEW if groups[0].defense else _MANY for title, groups in parts.items()}
    return [
        {"title": title, "groups": groups[: shown[title]], "more": groups[shown[title] :]}
        for title, groups in parts.items()
    ]


def _others(others: Sequence[ShownRun], names: Iterator[str]) -> list[tables.Table]:
    made = {"target": origins.targets, "convergence": origins.convergence}
    groups: dict[str, list[ShownRun]] = {}
    for run in others:
        groups.setdefault(run.record.kind if run.record.kind in made else "", []).append(run)
    return [made.get(kind, origins.unknown)(own, next(names)) for kind, own in groups.items()]


# --- The page itself ----------------------------------------------------------------------------


def _json(value: Any) -> str:
    """JSON that can stand in a script element: no `<` in it can begin a tag or a comment."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _resource(name: str) -> str:
    return importlib.resources.files(__package__).joinpath(name).read_text("utf-8")


def _shown(value: Any) -> Any:
    """Returns a value of the template whose text can be shown; names of folders are text, too."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@functools.cache
def _template() -> Any:
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.from_string(_resource("page.html.j2"))


@functools.cache
def _bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed, of the version that Altair writes for."""
    import vl_convert

    version = ".".join(style.alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    make: Any = vl_convert.javascript_bundle  # its stub asks for more than it does
    return str(make(vl_version=version)).replace("</script", "<\\/script")


def _policy(scripts: Sequence[str]) -> str:
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in scripts
    )
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
