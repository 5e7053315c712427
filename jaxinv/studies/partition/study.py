"""One study of cuts and defences: attacks, costs, bounds, and what `decision` chooses. NumPy."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxinv.constants.choices import CLOUD_ONLY, EDGE_ONLY
from jaxinv.constants.verdicts import FAILS, HOLDS
from jaxinv.defenses import NONE
from jaxinv.inputs import data
from jaxinv.look.charts import choices as choices_chart
from jaxinv.look.charts import costs as costs_chart
from jaxinv.look.charts import style
from jaxinv.machine import environment
from jaxinv.measures import costs, decision, latency, profiles, quality, timing
from jaxinv.measures.intervals import Share
from jaxinv.measures.profiles import device
from jaxinv.store import records
from jaxinv.store.record import AttackRecord
from jaxinv.studies import runs
from jaxinv.studies.defended.choices import DefenseChoice
from jaxinv.studies.partition import limits
from jaxinv.studies.partition import options as _options
from jaxinv.studies.partition.options import Option, PartitionConfig, plain

NAME = "partition"
DECIDED_BY = ("jaxinv.studies.partition", "jaxinv.measures.costs", "jaxinv.measures.latency")
"""The code that decides a result beside that of attacks, as `source.digest` takes it."""

WHOLE = (CLOUD_ONLY, EDGE_ONLY)
"""The choices that cut nothing: sending the image itself, and sending nothing."""

COSTS_NAME, CHOICES_NAME = "costs.png", "choices.png"


def run(config: PartitionConfig) -> dict[str, Any]:
    """Runs what is not finished yet and returns the record, as it was written, and its `path`.

    Raises:
      UserError: something is missing, unknown or out of range; the message names the argument.
    """
    runs.begin(config)
    plan, named, chosen = prepare(config)
    scene = runs.load(config, plan)
    profile = _profile(config, named, scene)
    flags = runs.flags_of(config, scene)
    number = scene.num_images(config)
    config = dataclasses.replace(config, num_images=number)  # of attacks, too
    limited = _defaults(config, scene, profile)
    options = _options.attacked(limited, scene, chosen)
    identity = {
        "num_images": number,
        "profile": dataclasses.asdict(profile),
        "constraints": dataclasses.asdict(limited.constraints),
        "prefer": config.prefer,
        "attacks": [sorted(one.config_hash for one in option.attacks) for option in options],
    }

    def make(folder: Path, common: dict[str, Any]) -> None:
        record = {
            **common,
            "num_images": number,
            "accuracy_undefended": scene.accuracy,
            "profile": dataclasses.asdict(profile),
            **_judged(limited, scene, profile, options),
            **environment.facts(),
        }
        title = f"{scene.dataset.name} on {profile.name}"
        bars = costs_chart.figure(_undefended(record["choices"]), title=title)
        style.save(folder / COSTS_NAME, bars)
        style.save(folder / CHOICES_NAME, choices_chart.figure(_points(record), title=title))
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
    return plan, named.with_cuts(plan.network.cuts), chosen


def _profile(config: PartitionConfig, named: device.Device, scene: runs.Scene) -> profiles.Profile:
    """Returns the profile of a device, which is timed if it is this machine."""
    if not named.is_this:
        return named.profile
    network, params = scene.target.network, scene.target.params
    return timing.on_this_machine(
        named.profile, network, params, config.workdir, rerun=config.rerun
    )


def _defaults(
    config: PartitionConfig, scene: runs.Scene, profile: profiles.Profile
) -> PartitionConfig:
    """The settings, with a default for each constraint that has one and is not given."""
    limits: dict[str, float] = {}
    if config.min_accuracy is None:
        limits["min_accuracy"] = max(0.0, round(_sure(scene, scene.accuracy)[0] - 0.01, 4))
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
        }
        for place, row in enumerate(record["choices"])
    ]


def _undefended(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every cut once, without a defence where that is a choice."""
    first: dict[str, dict[str, Any]] = dict.fromkeys(row["split"] for row in rows)  # type: ignore
    for row in sorted(rows, key=lambda row: row["defense"]["kind"] != "none"):
        first[row["split"]] = first[row["split"]] or row
    return list(first.values())


def _judged(
    config: PartitionConfig, scene: runs.Scene, profile: profiles.Profile, options: Sequence[Option]
) -> dict[str, Any]:
    """Returns the fields of a record about the choices."""
    network = scene.target.network
    prices = {price.split: price for price in costs.split_costs(network, scene.target.params)}
    found, certain = limits.of_options(config, scene, options, prices)
    rows = [
        _whole(scene, profile, prices[CLOUD_ONLY], leaked=1.0),
        *(
            _row(config, scene, profile, prices[option.deployment.cut], option, bounded)
            for option, bounded in zip(options, found, strict=True)
        ),
        _whole(scene, profile, prices[EDGE_ONLY], leaked=0.0),
    ]
    limited = config.constraints
    attacks: list[Sequence[AttackRecord]] = [(), *(option.attacks for option in options), ()]
    for row, worth, own in zip(rows, decision.pareto(rows), attacks, strict=True):
        row |= {"pareto": worth, **limited.judged(row)}
        row["images_needed"] = decision.images_needed(own, limited, row["undecided"])
        if limited.min_accuracy is not None and "min_accuracy" in row["undecided"]:
            share = Share(row["accuracy"], len(scene.dataset.test.labels))
            row["images_needed"]["min_accuracy"] = share.needed(limited.min_accuracy)

    def splits(row: decision.Row) -> bool:
        return row["split"] not in (*WHOLE, network.cuts[-1])

    best = decision.recommend(rows, limited, prefer=config.prefer)
    split = decision.recommend(rows, limited, prefer=config.prefer, allowed=splits)
    distinct = {one.config_hash: one for option in options for one in option.attacks}
    return {
        "constraints": dataclasses.asdict(limited),
        "prefer": config.prefer,
        "choices": rows,
        "recommendation": best,
        "recommendation_split": split,
        "reason": "" if best is not None else decision.reason(rows, limited),
        "reason_split": "" if split is not None else decision.reason(rows, limited, allowed=splits),
        "certain": certain,
        "advice": _advice(scene, rows),
        **{
            key: float(sum(getattr(attack, key) or 0 for attack in distinct.values()))
            for key in ("fit_s", "attack_s", "compile_s")
        },
    }


def _row(
    config: PartitionConfig,
    scene: runs.Scene,
    profile: profiles.Profile,
    price: costs.CutCost,
    option: Option,
    bounded: list[dict[str, Any]],
) -> dict[str, Any]:
    sent = option.sent_bytes(price)
    attacks = [_attacked(config, record) for record in option.attacks]
    told = [one["psnr_of_mean"] for one in attacks if one["psnr_of_mean"] is not None]
    return {
        "split": option.deployment.cut,
        "defense": plain(option.defense.describe()),
        **_accuracy(scene, option.attacks[0].accuracy),
        **_costs(price, profile, sent),
        **decision.worst(option.attacks),
        "psnr_of_mean": max(told, default=None),
        "attacks": attacks,
        "bounds": bounded,
    }


def _accuracy(scene: runs.Scene, share: float | None) -> dict[str, Any]:
    """Returns the accuracy of the whole test split, and its exact limits."""
    return {"accuracy": share, "accuracy_ci": _sure(scene, share)}


def _sure(scene: runs.Scene, share: float | None) -> list[Any]:
    if share is None:
        return [None, None]
    return list(Share(share, len(scene.dataset.test.labels)).interval())


def _costs(price: costs.CutCost, profile: profiles.Profile, sent: float) -> dict[str, Any]:
    return {
        **latency.cost(price, profile, sent).fields(),
        "memory_bytes": price.memory_bytes,
        "edge_parameters": price.edge_parameters,
        "edge_flops": price.edge_flops,
        "cloud_flops": price.cloud_flops,
        "sent_bytes": sent,
    }


def _whole(
    scene: runs.Scene, profile: profiles.Profile, price: costs.CutCost, *, leaked: float
) -> dict[str, Any]:
    """Sending the image itself, or nothing at all: what that leaves needs no attack."""
    return {
        "split": price.split,
        "defense": NONE.describe(),
        **_accuracy(scene, scene.accuracy),
        **_costs(price, profile, price.sent_bytes),
        "psnr_mean": quality.PSNR_CAP if leaked else None,
        "psnr_ci": [quality.PSNR_CAP] * 2 if leaked else [None, None],
        "psnr_of_mean": quality.PSNR_CAP if leaked else None,
        "ssim_mean": leaked,
        "ssim_ci": [leaked, leaked],
        "reid": leaked,
        "reid_ci": [leaked, leaked],
        "attacker": None,
        "diverged": False,
        "dead": False,
        "safe": FAILS if leaked else HOLDS,
        "attacks": [],
        "bounds": [],
    }


def _attacked(config: PartitionConfig, record: AttackRecord) -> dict[str, Any]:
    keys = ("psnr_mean", "ssim_mean", "reid", "diverged", "dead", "num_images", "psnr_of_mean")
    return {
        **decision.attacker(record),
        **{key: getattr(record, key) for key in keys},
        "path": Path(record.path).relative_to(config.workdir).as_posix(),
    }


def _advice(scene: runs.Scene, rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The paper's advice, put to the test: a fully connected layer on the edge protects.

    The undefended cut before the first such layer, and the one behind it, which protects if the
    whole intervals are low and no attack diverged or is dead; None unless both are among the
    choices. `holds` is True only where that is shown; `verdict` tells what is undecided from what
    fails.
    Source: He, Zhang & Lee 2021, section IV-C.
    """
    shapes = scene.target.network.shapes
    first = next((name for name, shape in shapes.items() if len(shape) == 1), None)
    cuts = list(shapes)
    plain = {row["split"]: row for row in rows if row["defense"]["kind"] == "none"}
    if first is None or first not in plain or not cuts.index(first):
        return None
    before = cuts[cuts.index(first) - 1]
    if before not in plain:
        return None
    keys = ("split", "ssim_mean", "ssim_ci", "reid", "reid_ci", "psnr_mean")
    return {
        "before": {key: plain[before][key] for key in keys},
        "after": {key: plain[first][key] for key in keys},
        "holds": plain[first]["safe"] == HOLDS,
        "verdict": plain[first]["safe"],
    }
