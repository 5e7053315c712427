"""A picture for each of the paper's figures, drawn from records."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jaxinv.constants.verdicts import SAFE_SSIM
from jaxinv.inputs import data
from jaxinv.look.charts import costs as costs_chart
from jaxinv.look.charts import splits, style, tradeoff
from jaxinv.measures import costs, latency, profiles
from jaxinv.networks import for_images
from jaxinv.paper.parts import Done, Part
from jaxinv.store.record import AttackRecord
from jaxinv.studies import evaluation
from jaxinv.studies.defended import verdict


def draw(done: Iterable[Done], folder: Path, *, data_dir: str | None = None) -> list[Path]:
    """Draws every part that has records, and Fig. 2 of every dataset; returns the pictures.

    Args:
      done: what was run.
      folder: of the pictures.
      data_dir: of prepared datasets, as `data.load` takes it.

    Raises:
      UserError: a run's images are damaged, or the folder cannot be written.
    """
    drawn: list[Path] = []
    seen: set[str] = set()
    for part, found in done:
        if part.dataset not in seen:
            seen.add(part.dataset)
            drawn.append(_draw_costs(part.dataset, folder, data_dir))
        if found:
            drawer = _draw_defenses if part.script == "defenses" else _draw_attacks
            drawn += drawer(part, found, folder)
    return drawn


def _draw_costs(dataset: str, folder: Path, data_dir: str | None) -> Path:
    loaded = data.load(dataset, data_dir=data_dir, announce=lambda line: None)
    network = for_images(loaded.image_shape, loaded.num_classes)
    profile = profiles.load("phone-wifi")
    rows = [
        {"split": cut.split, **latency.cost(cut, profile)._asdict()}
        for cut in costs.split_costs(network)
    ]
    path = folder / f"fig02-{dataset}.png"
    style.save(path, costs_chart.figure(rows, title=f"Fig. 2, {dataset} on {profile.name}"))
    return path


def _fields(found: Iterable[AttackRecord]) -> list[dict[str, Any]]:
    """Returns records as their files have them, each with its `path`."""
    return [{**record.fields, "path": record.path} for record in found]


def _draw_attacks(part: Part, found: list[AttackRecord], folder: Path) -> list[Path]:
    path = folder / f"fig{part.figures[0]:02}-{part.dataset}-{part.name}.png"
    evaluation.write_joint_grid(path, _fields(found), title=f"{_title(part)}: {_of(found[0])}")
    if 15 not in part.figures or len(found) < 2:
        return [path]
    line = folder / f"fig15-{part.dataset}-{part.name}.png"
    rows, cuts = evaluation.points_of_seeds(_fields(found)), [row.split for row in found]
    style.save(line, splits.figure(rows, cuts, title=f"Fig. 15: {_of(found[0])}"))
    return [path, line]


def _draw_defenses(part: Part, found: list[AttackRecord], folder: Path) -> list[Path]:
    drawn = []
    groups: dict[tuple[str, str, str], list[AttackRecord]] = {}
    for record in found:
        defense = record.defense
        groups.setdefault((record.split, defense.kind, defense.site), []).append(record)
    for (split, kind, site), own in groups.items():
        own.sort(key=lambda record: (record.defense.levels, record.method != "paper"))
        numbers = {"gaussian": 6, "laplace": 7, "dropout": 8}
        number = numbers[kind] if part.name == "defenses" else part.figures[0]
        path = folder / f"fig{number:02}-{part.dataset}-{split}-{kind}-{site}.png"
        title = f"Fig. {number}: {kind} at the {site}, {split}, {_of(own[0])}"
        evaluation.write_joint_grid(path, _fields(own), title=title)
        drawn.append(path)
    number = {9, 10, 13}.intersection(part.figures).pop()
    path = folder / f"fig{number:02}-{part.dataset}-{part.name}.png"
    rows = [
        verdict.point(record.fields, kind if part.name == "defenses" else f"{split}: {kind}")
        for (split, kind, _), own in groups.items()
        for record in own
    ]
    high = (found[0].accuracy_undefended or 0) > 0.95
    claims = (SAFE_SSIM, 0.95 if high else None)
    title = f"Fig. {number}: {_of(found[0])}"
    style.save(path, tradeoff.figure(rows, title=title, claims=claims))
    return [*drawn, path]


def _title(part: Part) -> str:
    return f"Fig{'s' if len(part.figures) > 1 else ''}. {', '.join(map(str, part.figures))}"


def _of(record: AttackRecord) -> str:
    return f"{record.dataset}, mean PSNR / SSIM of {record.num_images:,} images"
