"""Numbers of a table, made of records. Standard library and msgspec."""

import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct

from jaxinv.constants.threats import THREATS
from jaxinv.errors import UsageError
from jaxinv.store.record import AttackRecord
from jaxinv.sweeps import targets
from jaxinv.sweeps.targets import OverTargets

if TYPE_CHECKING:
    from jaxinv.tables.plan import Table


class Measured(NamedTuple):
    """An attack that was run, and the seed of its target."""

    record: AttackRecord
    target_seed: int = 0


class Figure(Struct, frozen=True):
    """A mean and its 95% interval; None for what is missing."""

    mean: float | None = None
    low: float | None = None
    high: float | None = None


class Printed(Struct, frozen=True):
    """Quality that the paper prints, and how many of the targets have a higher PSNR."""

    psnr: float
    ssim: float
    above: int | None = None
    targets: int | None = None


class Row(Struct, frozen=True):
    """A row: its keys, and for each column the figures by measure."""

    keys: list[str]
    columns: dict[str, dict[str, Figure]]
    printed: Printed | None = None


class Made(Struct, frozen=True):
    """Figures of a table, and facts about the runs that they are of.

    Attributes:
      rows: the figures.
      num_images: numbers of attacked images, the same for all runs if it is one.
      seeds: of the runs.
      target_seeds: of their targets.
      devices: that computed them, as records name them.
      jax: versions.
      day: of the newest record, in ISO form.
    """

    rows: list[Row]
    num_images: list[int]
    seeds: list[int]
    target_seeds: list[int]
    devices: list[str]
    jax: list[str]
    day: str


class Measure(NamedTuple):
    """A figure of a record: its name in a table, how it is written, and where it is found."""

    label: str
    form: str
    of_record: Callable[[AttackRecord], Figure]
    of_targets: Callable[[OverTargets], Figure] | None = None


def _field(name: str, ends: str | None = None) -> Callable[[AttackRecord], Figure]:
    def of_record(record: AttackRecord) -> Figure:
        low, high = getattr(record, ends) if ends else (None, None)
        return Figure(getattr(record, name), low, high)

    return of_record


def _over(name: str) -> Callable[[OverTargets], Figure]:
    def of_targets(found: OverTargets) -> Figure:
        over = getattr(found, name)
        return Figure() if over is None else Figure(over.mean, *over.interval)

    return of_targets


def _of_targets_psnr(name: str) -> Callable[[OverTargets], Figure]:
    def of_targets(found: OverTargets) -> Figure:
        return Figure(None if found.psnr is None else getattr(found.psnr, name))

    return of_targets


def _nothing(record: AttackRecord) -> Figure:
    return Figure()


MEASURES: dict[str, Measure] = {
    "psnr": Measure("PSNR dB", ".2f", _field("psnr_mean", "psnr_ci"), _over("psnr")),
    "ssim": Measure("SSIM", ".3f", _field("ssim_mean", "ssim_ci"), _over("ssim")),
    "std": Measure("std", ".2f", _nothing, _of_targets_psnr("std")),
    "least": Measure("min", ".2f", _nothing, _of_targets_psnr("least")),
    "most": Measure("max", ".2f", _nothing, _of_targets_psnr("most")),
    "dead": Measure(
        "dead runs",
        ".0f",
        lambda record: Figure(bool(record.dead)),
        lambda found: Figure(found.dead),
    ),
    "exact": Measure("exact", ".1%", _field("exact_fraction")),
    "rmse": Measure("RMSE", ".4f", _field("rmse_mean", "rmse_ci")),
    "accuracy": Measure("accuracy", ".2%", _field("accuracy", "accuracy_ci")),
    "reid": Measure("re-identified", ".1%", _field("reid", "reid_ci")),
    "reid_top1": Measure("by reconstruction", ".1%", _field("reid_top1", "reid_top1_ci")),
    "reid_likelihood": Measure(
        "by the release", ".1%", _field("reid_likelihood", "reid_likelihood_ci")
    ),
    "classified": Measure("still classified", ".1%", _field("judge_accuracy")),
    "learning": Measure("learning, s", ".1f", _field("fit_s")),
    "attack": Measure("attack, s", ".1f", _field("attack_s")),
}
"""A cell can tell any of these."""

KEYS: dict[str, Callable[[Measured], str]] = {
    "dataset": lambda each: each.record.dataset,
    "network": lambda each: each.record.network.name if each.record.network else "",
    "split": lambda each: each.record.split,
    "attacker": lambda each: THREATS.get(_threat(each.record), _threat(each.record)),
    "method": lambda each: each.record.method,
    "defense": lambda each: "none" if each.record.defense.is_none else each.record.defense.kind,
    "site": lambda each: "" if each.record.defense.is_none else each.record.defense.site,
    "level": lambda each: each.record.defense.level_text,
    "retrain": lambda each: each.record.retrain,
    "releases": lambda each: str(each.record.releases),
    "target": lambda each: str(each.target_seed),
}
"""Rows and columns can be of any of these."""


def _threat(record: AttackRecord) -> str:
    return record.threat_model or record.experiment


def make(table: "Table", attacks: Sequence[Measured]) -> Made:
    """Makes the figures of a table.

    Attacks on targets of several seeds, alike in rows and columns, are one figure over targets.

    Args:
      table: what it shows.
      attacks: the runs' records; at least one.

    Raises:
      UsageError: attacks fall into one cell that differ in more than the target, or a measure is
        not known over targets.
    """
    rows: dict[tuple[str, ...], dict[str, list[Measured]]] = {}
    for each in attacks:
        column = "" if table.columns is None else KEYS[table.columns](each)
        place = rows.setdefault(tuple(KEYS[name](each) for name in table.rows), {})
        place.setdefault(column, []).append(each)
    records = [each.record for each in attacks]
    newest = max(Path(record.path).stat().st_mtime for record in records)
    return Made(
        [_row(table, keys, columns) for keys, columns in rows.items()],
        _distinct(record.num_images for record in records),
        _distinct(record.seed for record in records),
        _distinct(each.target_seed for each in attacks),
        list(dict.fromkeys(_device(record) for record in records)),
        list(dict.fromkeys(record.versions.get("jax") or "unknown" for record in records)),
        datetime.datetime.fromtimestamp(newest, datetime.UTC).date().isoformat(),
    )


def _distinct(values: Iterable[int]) -> list[int]:
    return sorted(set(values))


def _device(record: AttackRecord) -> str:
    device = record.device or "an unknown device"
    if record.processor and device.startswith("cpu"):
        return f"{record.processor} x{device.rpartition('x')[2]}"
    return device


def _row(table: "Table", keys: tuple[str, ...], columns: Mapping[str, list[Measured]]) -> Row:
    found: dict[str, dict[str, Figure]] = {}
    printed = None
    for column, own in columns.items():
        where = ", ".join(filter(None, [*keys, column]))
        over = _over_targets(table, own, where)
        record = own[0].record
        found[column] = {name: _figure(table, name, record, over, where) for name in table.cells}
        if printed is None or record.method == "paper":
            printed = _printed(record, over) or printed
    return Row(list(keys), found, printed if table.printed else None)


def _over_targets(table: "Table", own: Sequence[Measured], where: str) -> OverTargets | None:
    """Returns all of a cell's attacks together; None if there is one."""
    if len(own) == 1:
        return None
    by_seed = {each.target_seed: each.record for each in own}
    others = [
        {name: flag for name, flag in each.record.flags.items() if name != targets.SEED}
        for each in own
    ]
    if len(by_seed) < len(own) or any(flags != others[0] for flags in others):
        raise UsageError(
            f"{table.name}: {len(own)} runs fall into one cell ({where}): rows and columns must "
            "tell them apart, or --target_seed alone."
        )
    return targets.over(by_seed, {})


def _figure(
    table: "Table", name: str, record: AttackRecord, over: OverTargets | None, where: str
) -> Figure:
    measure = MEASURES[name]
    if over is None:
        return measure.of_record(record)
    if measure.of_targets is None:
        raise UsageError(f"{table.name}: {name} is not known over several targets ({where}).")
    return measure.of_targets(over)


def _printed(record: AttackRecord, over: OverTargets | None) -> Printed | None:
    if record.paper is None:
        return None
    of_paper = over is not None and record.method == "paper"
    above = over.above_printed if over is not None and of_paper else None
    count = len(over.seeds) if over is not None and of_paper else None
    return Printed(record.paper.psnr, record.paper.ssim, above, count)
