"""One study of cuts and defences: attacks, costs, bounds, and what `decision` chooses. NumPy."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxinv.constants.choices import FULL
from jaxinv.constants.halves import CHOICE, REPORT
from jaxinv.constants.kinds import in_words
from jaxinv.errors import UsageError
from jaxinv.inputs import data
from jaxinv.look.charts import choices as choices_chart
from jaxinv.look.charts import costs as costs_chart
from jaxinv.look.charts import style
from jaxinv.machine import environment
from jaxinv.measures import costs, decision, profiles, timing, usability
from jaxinv.measures.profiles import device
from jaxinv.store import records
from jaxinv.studies import attacked, order, runs
from jaxinv.studies.defended.choices import DefenseChoice, mechanism_of
from jaxinv.studies.partition import advice, attacks, limits, table
from jaxinv.studies.partition import options as _options
from jaxinv.studies.partition.options import PartitionConfig
from jaxinv.studies.partition.rows import WHOLE, Board
from jaxinv.studies.partition.trials import Trials

NAME = "partition"
DECIDED_BY = ("jaxinv.studies.partition", "jaxinv.measures.costs", "jaxinv.measures.latency")
"""The code that decides a result beside that of attacks, as `source.digest` takes it."""

_UNDEFENDED = 0.999  # confidence in its accuracy, beyond that of the first choices that are tried

COSTS_NAME, CHOICES_NAME = "costs.png", "choices.png"


def run(config: PartitionConfig) -> dict[str, Any]:
    """Runs what is not finished yet and returns the record, as it was written, and its `path`.

    Raises:
      UserError: something is missing, unknown or out of range; the message names the argument.
    """
    runs.begin(config)
    plan, named, chosen = prepare(config)
    scene = runs.load(config, plan)
    scene.check_labels("attacker", config.attacker, config.threat_model)
    halves = {CHOICE: scene, REPORT: scene.on(REPORT, plan.dataset)}
    Trials(config.workdir, halves[REPORT].key).check()
    if told := order.note(plan.dataset, len(halves[CHOICE].dataset.test)):
        print(told)
    profile = _profile(config, named, scene)
    flags = runs.flags_of(config, scene)
    number = scene.num_images(config)
    config = dataclasses.replace(config, num_images=number)  # of attacks, too
    limited = _defaults(config, scene, profile)
    options = attacks.options_of(limited, scene, chosen)
    board = Board(limited, halves, profile, options)
    attacks.screen(limited, scene, options, board.is_broken)
    for each in halves.values():
        attacks.add_known(limited, each, options)
    settle(board, config.effort)
    identity = {
        "num_images": number,
        "profile": dataclasses.asdict(profile),
        "constraints": dataclasses.asdict(limited.constraints),
        "prefer": config.prefer,
        "effort": config.effort,
        "threat_models": config.threats,
        "releases": config.releases,
        "attacks": [sorted(one.config_hash for one in option.attacks) for option in board.options],
        "tried": board.tried,
    }

    def make(folder: Path, common: dict[str, Any]) -> None:
        record = {
            **common,
            "num_images": number,
            "accuracy_undefended": scene.accuracy,
            "profile": dataclasses.asdict(profile),
            "effort": config.effort,
            "threat_models": list(config.threats),
            "releases": config.releases,
            **_judged(limited, scene, board),
            **environment.facts(),
        }
        title = f"{scene.title} on {profile.name}"
        bars = costs_chart.figure(_undefended(record["choices"]), title=title)
        kind, measure = scene.dataset.kind, scene.usability.kind
        chart = choices_chart.figure(_points(record), title=title, measure=measure)
        style.save(folder / COSTS_NAME, bars._replace(kind=kind))
        style.save(folder / CHOICES_NAME, chart._replace(kind=kind))
        records.write(folder, record, images=None)

    label = f"{scene.dataset.name}-{profile.name}-n{number}-s{config.seed}"
    return runs.read_or_make(
        NAME,
        "partition",
        config,
        scene,
        make,
        identity=identity,
        label=label,
        flags=flags,
        decided_by=DECIDED_BY,
    )


def prepare(
    config: PartitionConfig, dataset: data.Dataset | None = None
) -> tuple[runs.Plan, device.Device, list[DefenseChoice]]:
    """Returns what is weighed: data and cuts, the device, and the defences; see `runs.plan`."""
    named, chosen = device.named(config.profile), _options.choices(config)
    plan = runs.plan(config, dataset)
    _options.check_similarity(config, plan.dataset.kind)
    plan.check_labels("attacker", config.attacker, config.threat_model)
    if named.is_this or named.profile.edge_times:
        _check_layers(config.profile, chosen)
    order.check(plan.dataset)
    attacked.check_surrogates("partition", plan.dataset, config.surrogate)
    return plan, named.with_cuts(costs.cuts_with(plan.network, plan.cuts)), chosen


def _check_layers(profile: str, chosen: Sequence[DefenseChoice]) -> None:
    """Refuses defences with a layer of their own where the times of edges are measured."""
    for choice in chosen:
        mechanisms = [mechanism_of(kind) for kind in choice.kinds]
        if any(each.training and each.training.layer for each in mechanisms):
            raise UsageError(
                f"profile={profile}: its times are measured, and none is of the layer that "
                f"defense={'+'.join(choice.kinds)} puts at the edge's end."
            )


def _profile(config: PartitionConfig, named: device.Device, scene: runs.Scene) -> profiles.Profile:
    """Returns the profile of a device, which is timed if it is this machine."""
    if not named.is_this:
        return named.profile
    network, params = scene.target.network, scene.target.params
    return timing.on_this_machine(
        named.profile, network, params, config.workdir, cuts=scene.cuts, rerun=config.rerun
    )


def _defaults(
    config: PartitionConfig, scene: runs.Scene, profile: profiles.Profile
) -> PartitionConfig:
    """The settings, with a default for each constraint that has one and is not given."""
    limits: dict[str, float] = {}
    if config.min_accuracy is None:
        found, count = scene.usability.fields["usability"], len(scene.dataset.test)
        low = usability.at_confidence(found, count, _UNDEFENDED)["ci"][0] or 0.0
        limits["min_accuracy"] = max(0.0, round(low - 0.01, 4))
    if config.max_memory_mb is None and profile.memory_bytes is not None:
        limits["max_memory_mb"] = 1e-6 * profile.memory_bytes
    return dataclasses.replace(config, **limits)  # type: ignore[arg-type]


def _points(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the rows of a chart of choices."""
    best = (record["recommendation"], record["recommendation_split"])
    return [
        {
            **row,
            "defense": decision.defense_name(row["defense"]),
            "kind": row["defense"]["kind"],
            "recommended": place in best,
            "usability_mean": row["usability"]["value"],
            "usability_ci": row["usability"]["ci"],
        }
        for place, row in enumerate(record["choices"])
    ]


def _undefended(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every cut once, without a defence where that is a choice."""
    first: dict[str, dict[str, Any]] = dict.fromkeys(row["split"] for row in rows)  # type: ignore
    for row in sorted(rows, key=lambda row: row["defense"]["kind"] != "none"):
        first[row["split"]] = first[row["split"]] or row
    return list(first.values())


def settle(board: Board, effort: str) -> None:
    """Tries what would be recommended on report images, until what is recommended has stood there.

    The winner of many candidates is a selection: on the images that it was chosen by, it looks
    safer than it is. So it counts for nothing how it won. It is attacked with everything on images
    that no choice has seen, and judged by these alone; if it fails, or leaves more than another is
    thought to, the choice is made again. Each that is tried, also by other studies of the work
    folder, spends part of the 5% of errors (`verdicts.spent`): all verdicts on report images hold
    together.

    Args:
      board: the choices.
      effort: "full" to attack all choices with everything on choice images before.
    """
    if effort == FULL:
        while any(map(board.siege.left, board.options)):
            board.siege.advance(board.options)
    before: dict[int, str] = {}
    while True:
        rows = board.rows()
        best, split = board.recommended(rows)
        reasons = {split: table.RECOMMENDED_SPLIT} | {best: table.RECOMMENDED}
        now = {
            place: reason
            for place, reason in reasons.items()
            if place is not None and not board.has_stood(place)
        }
        told = [
            {place: reason for place, reason in each.items() if rows[place]["split"] not in WHOLE}
            for each in (before, now)
        ]
        lines = table.replaced(rows, before=told[0], now=told[1], constraints=board.constraints)
        for line in lines:
            print(in_words(line, board.kind), flush=True)
        if not now:
            return
        board.attempt(list(now))
        before = now


def _judged(config: PartitionConfig, scene: runs.Scene, board: Board) -> dict[str, Any]:
    """Returns the fields of a record about the choices."""
    found, certain = limits.of_options(config, scene, board.options, board.prices)
    rows, limited = board.rows(), config.constraints
    counted = zip(rows, board.attacks(), [[], *found, []], strict=True)
    for place, (row, own, bounded) in enumerate(counted):
        row["bounds"] = bounded
        sure, unsure = row["confidence"], row["undecided"]
        counts = decision.images_needed(own, limited, unsure, sure)
        row["images_needed"] = {
            name: count if row["effort"] == FULL or limited.is_exceeded(row, name) else None
            for name, count in counts.items()
        }
        if limited.min_accuracy is not None and "min_accuracy" in unsure:
            usable = board.usable(place)
            needed = usable.needed(limited.min_accuracy, sure) if usable else None
            row["images_needed"]["min_accuracy"] = needed
    best, split = board.recommended(rows)
    distinct = {one.config_hash: one for option in board.options for one in option.attacks}
    return {
        "constraints": dataclasses.asdict(limited),
        "prefer": config.prefer,
        "choices": rows,
        "recommendation": best,
        "recommendation_split": split,
        "reason": "" if best is not None else decision.reason(rows, limited),
        "reason_split": ""
        if split is not None
        else decision.reason(rows, limited, allowed=board.allows),
        "certain": certain,
        "advice": advice.tested(scene.target.network, rows, board.options, board.attacks()[1:-1]),
        **{
            key: float(sum(getattr(attack, key) or 0 for attack in distinct.values()))
            for key in ("fit_s", "attack_s", "compile_s")
        },
    }
