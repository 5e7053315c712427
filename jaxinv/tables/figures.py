"""Numbers of a table, made of records. Standard library and msgspec."""

import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec import Struct

from jaxinv.constants.threats import SHADOW, THREATS
from jaxinv.errors import UsageError
from jaxinv.look.text import rounded_up
from jaxinv.store.record import AttackRecord, LeaderboardRecord, Record
from jaxinv.store.standing import Standing
from jaxinv.sweeps import targets
from jaxinv.sweeps.targets import OverTargets

if TYPE_CHECKING:
    from jaxinv.tables.plan import Table


class Measured(NamedTuple):
    """An attack that was run, and the seed of its target."""

    record: AttackRecord
    target_seed: int = 0

    @property
    def seeds(self) -> Sequence[int]:
        """Seeds of what is shown."""
        return [self.record.seed]


class Ranked(NamedTuple):
    """A defence on a leaderboard, and the seed of the target that it was put into."""

    record: LeaderboardRecord
    standing: Standing
    target_seed: int = 0

    @property
    def seeds(self) -> Sequence[int]:
        """Seeds of its trainings."""
        return range(self.record.seed, self.record.seed + self.record.seeds)


Shown = Measured | Ranked
"""An attack, or a standing of a leaderboard."""


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
    """A row: its keys, for each column the figures by measure, and those that columns share."""

    keys: list[str]
    columns: dict[str, dict[str, Figure]]
    shared: dict[str, Figure] = {}
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
    """A figure: its name in a table, how it is written, and where an attack or standing has it."""

    label: str
    form: str
    of: Callable[[Any], Figure]
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


def _by_any_way(record: AttackRecord) -> Figure:
    """The highest SSIM of an attacker's ways, without an interval: it was chosen by looking."""
    ways = (way.ssim_mean for name, way in record.ways.items() if not name.startswith(SHADOW))
    means = [record.ssim_mean, *ways]
    return Figure(max((mean for mean in means if mean is not None), default=None))


def _joint(name: str) -> Callable[[AttackRecord], Figure]:
    def of_record(record: AttackRecord) -> Figure:
        return Figure(None if record.joint is None else getattr(record.joint, name))

    return of_record


def _nothing(record: AttackRecord) -> Figure:
    return Figure()


MEASURES: dict[str, Measure] = {
    "psnr": Measure("PSNR dB", ".2f", _field("psnr_mean", "psnr_ci"), _over("psnr")),
    "ssim": Measure("SSIM", ".3f", _field("ssim_mean", "ssim_ci"), _over("ssim")),
    "ssim_any": Measure("SSIM by any way", ".3f", _by_any_way),
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
    "seeds_std": Measure("std over shadows", ".2f", _field("psnr_seed_std")),
    "joint_psnr": Measure("joint PSNR dB", ".2f", _joint("psnr_mean")),
    "joint_ssim": Measure("joint SSIM", ".3f", _joint("ssim_mean")),
    "queries": Measure("queries", ",.0f", _field("queries")),
    "learning": Measure("learning, s", ".1f", _field("fit_s")),
    "attack": Measure("attack, s", ".1f", _field("attack_s")),
}
"""A cell can tell any of these of an attack."""


_OWNERS = {"attacker": "the attacker's own", "same": "the target's"}


def _asked(each: Measured) -> str:
    """Returns how many queries an attacker was allowed, or else asked; nothing without any."""
    count = each.record.num_queries or each.record.queries
    return "" if count is None else f"{count:,}"


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
    "surrogate": lambda each: _OWNERS.get(each.record.surrogate, each.record.surrogate),
    "num_queries": _asked,
    "target": lambda each: str(each.target_seed),
}
"""Rows and columns of attacks can be of any of these."""


def _best(who: str, name: str) -> Callable[[Standing], Figure]:
    def of_standing(standing: Standing) -> Figure:
        found = getattr(standing, who)
        if found is None:
            return Figure()
        return Figure(getattr(found, f"{name}_mean"), *getattr(found, f"{name}_ci"))

    return of_standing


def _certified(own: Standing) -> float | None:
    return None if own.certified_reid is None else rounded_up(own.certified_reid)


def _who(each: Ranked) -> str:
    found = each.standing.strongest
    return "" if found is None else found.attacker


_STANDINGS: dict[str, Measure] = {
    "accuracy": Measure("accuracy", ".2%", lambda own: Figure(own.usability.mean)),
    "claimed_psnr": Measure("claimed PSNR dB", ".2f", _best("claimed", "psnr")),
    "claimed_ssim": Measure("claimed SSIM", ".3f", _best("claimed", "ssim")),
    "strongest_psnr": Measure("strongest PSNR dB", ".2f", _best("strongest_psnr", "psnr")),
    "strongest_ssim": Measure("strongest SSIM", ".3f", _best("strongest", "ssim")),
    "error_ratio": Measure(
        "error ratio", ".2f", lambda own: Figure(own.error_ratio, *own.error_ratio_ci)
    ),
    "reid": Measure("re-identified", ".1%", lambda own: Figure(own.reid)),
    "certified": Measure("at most, certified", ".1%", lambda own: Figure(_certified(own))),
    "sent": Measure("bytes sent", ",.0f", lambda own: Figure(own.sent_bytes)),
    "edge": Measure("edge FLOPs", ".2f", lambda own: Figure(own.edge_flops_ratio)),
    "minutes": Measure(
        "minutes",
        ".1f",
        lambda own: Figure(None if own.attacks_s is None else own.attacks_s / 60),
    ),
}
_RANKED: dict[str, Callable[[Ranked], str]] = {
    "dataset": lambda each: each.record.dataset,
    "network": lambda each: each.record.network.name if each.record.network else "",
    "split": lambda each: each.record.split,
    "defense": lambda each: each.standing.defense,
    "loss": lambda each: f"{each.standing.loss:g}",
    "level": lambda each: each.standing.level,
    "strongest": _who,
    "verdict": lambda each: each.standing.verdict,
}


class Source(NamedTuple):
    """Keys of rows and columns, and measures of cells.

    Attributes:
      keys: of rows and columns.
      measures: of cells.
      first: the measures that are shown unless others are asked for.
      shown: type of what a row is of.
    """

    keys: Mapping[str, Callable[[Any], str]]
    measures: Mapping[str, Measure]
    first: Sequence[str]
    shown: type[Shown]


ATTACKS = Source(KEYS, MEASURES, ("psnr", "ssim"), Measured)
STANDINGS = Source(
    _RANKED, _STANDINGS, ("accuracy", "claimed_ssim", "strongest_ssim", "reid"), Ranked
)


def source_of(experiment: str) -> Source:
    """Returns what tables can show of the runs of an experiment."""
    return STANDINGS if experiment == "leaderboard" else ATTACKS


def shown_of(record: Record, target_seed: int) -> list[Shown]:
    """Returns what a table shows of a record; nothing if it shows none of its kind."""
    if isinstance(record, AttackRecord):
        return [Measured(record, target_seed)]
    if isinstance(record, LeaderboardRecord):
        return [Ranked(record, standing, target_seed) for standing in record.standings]
    return []


def _threat(record: AttackRecord) -> str:
    return record.threat_model or record.experiment


def make(table: "Table", found: Sequence[Shown]) -> Made:
    """Makes the figures of a table.

    Attacks on targets of several seeds, alike in rows and columns, are one figure over targets.

    Args:
      table: what it shows.
      found: attacks, or standings of leaderboards; at least one.

    Raises:
      UsageError: attacks fall into one cell that differ in more than the target, or a measure is
        not known over targets.
    """
    keys = table.source.keys
    rows: dict[tuple[str, ...], dict[str, list[Shown]]] = {}
    for each in found:
        column = "" if table.columns is None else keys[table.columns](each)
        place = rows.setdefault(tuple(keys[name](each) for name in table.rows), {})
        place.setdefault(column, []).append(each)
    records = [each.record for each in found]
    newest = max(Path(record.path).stat().st_mtime for record in records)
    return Made(
        [_row(table, own, columns) for own, columns in rows.items()],
        _distinct(record.num_images for record in records),
        _distinct(seed for each in found for seed in each.seeds),
        _distinct(each.target_seed for each in found),
        list(dict.fromkeys(_device(record) for record in records)),
        list(dict.fromkeys(record.versions.get("jax") or "unknown" for record in records)),
        datetime.datetime.fromtimestamp(newest, datetime.UTC).date().isoformat(),
    )


def _distinct(values: Iterable[int]) -> list[int]:
    return sorted(set(values))


def _device(record: Record) -> str:
    device = record.device or "an unknown device"
    if record.processor and device.startswith("cpu"):
        return f"{record.processor} x{device.rpartition('x')[2]}"
    return device


def _row(table: "Table", keys: tuple[str, ...], columns: Mapping[str, list[Shown]]) -> Row:
    found: dict[str, dict[str, Figure]] = {}
    shared: dict[str, Figure] = {}
    printed = None
    for column, own in columns.items():
        where = ", ".join(filter(None, [*keys, column]))
        over = None if len(own) == 1 else _over_targets(table, own, where)
        found[column] = {name: _figure(table, name, own[0], over, where) for name in table.measures}
        for name in table.shared:
            figure = _figure(table, name, own[0], over, where)
            told = [
                written(table, name, each) for each in (shared.setdefault(name, figure), figure)
            ]
            if told[0] != told[1]:
                raise UsageError(
                    f"{table.name}: columns do not share one {name}: {told[0]} and {told[1]} "
                    f"({where})."
                )
        record = own[0].record
        if isinstance(record, AttackRecord) and (printed is None or record.method == "paper"):
            printed = _printed(record, over) or printed
    return Row(list(keys), found, shared, printed if table.printed else None)


def written(table: "Table", name: str, figure: Figure) -> str:
    """Returns a figure as the table shows it, with its interval if it shows one."""
    form = table.source.measures[name].form
    if figure.mean is None:
        return "-"
    low, high = (figure.low, figure.high) if name in table.intervals else (None, None)
    known = low is not None and high is not None and low != high
    return f"{figure.mean:{form}}" + (f" [{low:{form}}, {high:{form}}]" if known else "")


def _over_targets(table: "Table", own: Sequence[Shown], where: str) -> OverTargets:
    """Returns all attacks of a cell together."""
    attacks = [each for each in own if isinstance(each, Measured)]
    by_seed = {each.target_seed: each.record for each in attacks}
    others = [
        {name: flag for name, flag in each.record.flags.items() if name != targets.SEED}
        for each in attacks
    ]
    if len(by_seed) < len(own) or any(flags != others[0] for flags in others):
        raise UsageError(
            f"{table.name}: {len(own)} runs fall into one cell ({where}): rows and columns must "
            "tell them apart, or --target_seed alone."
        )
    return targets.over(by_seed, {})


def _figure(
    table: "Table", name: str, shown: Shown, over: OverTargets | None, where: str
) -> Figure:
    measure = table.source.measures[name]
    if over is None:
        return measure.of(shown.record if isinstance(shown, Measured) else shown.standing)
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
