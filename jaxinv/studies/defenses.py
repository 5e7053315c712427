"""Defences: the accuracy that each costs, and what attackers who know of it still reconstruct.

Puts each --defense at each --site (the input or the features) of a --split, at all its levels, and
measures the accuracy of the whole test split and what an attacker reconstructs, both on the same
release. --attacker=paper attacks as the authors did, who ignore the defence; adaptive knows it and
its level. Each level and attacker is a run of its own: record.json, images.npz and grid.png in
<workdir>/defenses/<run>/. The pictures are those of the paper's Figs. 6 to 13: reconstructions by
level, and accuracy against SSIM and PSNR. At the end: what it costs to be safe, for each defence.

  jaxinv defenses --split=relu2 --defense=dropout --level=0,.2,.4,.6,.8
  jaxinv defenses --defense=gaussian,laplace,dropout --site=input,feature
  jaxinv defenses --defense=dropout --level=.6 --releases=4 --attacker=adaptive
  jaxinv defenses --defense=dropout+gaussian --level=.2+.3,.4+.5 --retrain=both
  jaxinv defenses --defense=nopeek --level=0,1,5 --threat_model=whitebox,blackbox
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from jaxinv.attacks import registry
from jaxinv.constants.kinds import IMAGE, in_words
from jaxinv.constants.threats import THREATS
from jaxinv.constants.verdicts import FAILS, HOLDS, SAFE_REID, SAFE_SSIM, UNDECIDED
from jaxinv.inputs import data
from jaxinv.look.charts import style, tradeoff
from jaxinv.look.terminal import coloured
from jaxinv.measures import intervals
from jaxinv.store.record import AttackRecord, typed
from jaxinv.studies import evaluation, runs
from jaxinv.studies.defended import choices, table, verdict
from jaxinv.studies.defended.attackers import Attacker
from jaxinv.studies.defended.choices import DefenseConfig
from jaxinv.studies.defended.deployment import Deployment
from jaxinv.studies.defended.known import known
from jaxinv.studies.defended.run import run_one
from jaxinv.studies.experiment import Experiment
from jaxinv.studies.lines import width


def run(config: DefenseConfig) -> list[dict[str, Any]]:
    """Runs what is not finished yet and returns all records with their `path`."""
    runs.begin(config)
    plan, chosen = prepare(config)
    scene = runs.load(config, plan)
    scene.check_labels("attacker", config.attacker, config.threat_model)
    defended = [
        Deployment(config, scene, cut, choice)
        for cut, choice in itertools.product(scene.cuts, chosen)
    ]
    attackers = _attackers(config, scene, defended)
    finished = _attacked(config, scene, attackers)
    _draw(config, scene, attackers, finished)
    _attack_alone(config, scene, defended)
    others = known(
        config.workdir,
        scene,
        images=scene.num_images(config),
        releases=config.releases,
        threats=THREATS,
    )
    print(in_words(protection_table(finished, others), scene.dataset.kind))
    return finished


def _attackers(
    config: DefenseConfig, scene: runs.Scene, defended: Sequence[Deployment]
) -> list[Attacker]:
    """Returns every attacker of every defence."""
    return [
        Attacker(config, scene, deployment, threat, method)
        for deployment in defended
        for threat in dict.fromkeys(config.threat_model)
        for method in registry.of_threat(config.attacker, threat)
    ]


def _attacked(
    config: DefenseConfig, scene: runs.Scene, attackers: Sequence[Attacker]
) -> list[dict[str, Any]]:
    """Runs what is not finished yet, by each attacker at all levels, and returns all records."""
    attacks = [
        partial(run_one, config, scene, attacker, number)
        for attacker in attackers
        for number in range(len(attacker.deployment.family))
    ]
    kinds = [attacker.deployment.kind for attacker in attackers]
    columns = table.columns(scene.usability.kind, scene.cuts, kinds)
    return runs.run_all(EXPERIMENT.name, config, scene, attacks, table=columns, grid=False)


def _attack_alone(config: DefenseConfig, scene: runs.Scene, defended: Sequence[Deployment]) -> None:
    """Attacks one release alone where attackers see several that differ: they may, too."""
    random = [each for each in defended if any(one.is_random for one in each.family)]
    if config.releases == 1 or not random:
        return
    print(f"Who sees {config.releases} releases may attack one alone:")
    alone = dataclasses.replace(config, releases=1)
    _attacked(alone, scene, _attackers(alone, scene, random))


def prepare(
    config: DefenseConfig, dataset: data.Dataset | None = None
) -> tuple[runs.Plan, list[choices.DefenseChoice]]:
    """Returns what is attacked, and the defences; see `runs.plan` and `choices.choices`."""
    chosen = choices.choices(config)
    plan = runs.plan(config, dataset)
    plan.check_labels("attacker", config.attacker, config.threat_model)
    return plan, chosen


# --- Tables and pictures ------------------------------------------------------------------------


def protection_table(
    finished: Sequence[dict[str, Any]], others: Mapping[str, Sequence[AttackRecord]]
) -> str:
    """`verdict.protection` as text."""
    kind = (finished[0].get("usability") or {"kind": "accuracy"})["kind"]
    lines = [
        f"Least loss of {kind} at which every attacker stays below SSIM {SAFE_SSIM:g} "
        f"and {SAFE_REID:.0%} re-identification, with the whole interval of the strongest: each of "
        "L levels is judged at 1 - 5% / L, for the least is chosen by looking. "
        "Finished attacks of other commands on the same releases count; whoever knows more can do "
        "what those do who know less:"
    ]
    every = [typed(record, record.get("path", "")) for record in finished]
    attacks = [each for each in every if isinstance(each, AttackRecord)]
    found = list(verdict.protection(attacks, others))
    first = width([each.split for each in found], least=9)
    second = width([each.defense for each in found], least=28)
    for each in found:
        named = f"{each.split:<{first}}{each.defense:<{second}}"
        line = f"  {named}{THREATS.get(each.threat, each.threat):<12}{_told(each)}"
        lines.append(coloured(line, each.verdict))
    return "\n".join(lines)


def _told(found: verdict.Protection) -> str:
    loss = "-" if found.loss is None else f"{100 * found.loss:.2f}"
    measured = [
        f"{name} {intervals.told(mean, ends, form)}"
        for name, mean, ends, form in (
            ("SSIM", found.ssim, found.ssim_ci, ".3f"),
            ("re-identified", found.reid, found.reid_ci, ".1%"),
        )
    ]
    measured.append(f"intervals of {100 * found.confidence:.4g}%")
    if found.verdict == HOLDS:
        return f"{loss} points, at level {found.level} ({', '.join(measured)})"
    words = {FAILS: "not reached", UNDECIDED: "undecided"}[found.verdict]
    if found.verdict == UNDECIDED:
        words += "".join(f", an attack {why}" for why in found.spoilt)
    if found.images_needed is not None:
        words += f", {found.images_needed:,} images would settle it"
    return f"{words}; nearest is level {found.level} at {loss} points ({', '.join(measured)})"


def _draw(
    config: DefenseConfig,
    scene: runs.Scene,
    attackers: Sequence[Attacker],
    finished: Sequence[dict[str, Any]],
) -> None:
    """A grid over levels for each defence and threat model, a trade-off for each threat model."""
    ends = np.cumsum([len(attacker.deployment.family) for attacker in attackers])[:-1]
    runs_of = dict(zip(attackers, _split(finished, ends), strict=True))
    for deployment in dict.fromkeys(attacker.deployment for attacker in attackers):
        for threat in dict.fromkeys(config.threat_model):
            own = [
                records
                for attacker, records in runs_of.items()
                if attacker.deployment is deployment and attacker.threat == threat
            ]
            # Level by level, attackers side by side.
            rows = [record for level in zip(*own, strict=True) for record in level]
            path = runs.joint_path("levels", EXPERIMENT.name, config, scene, rows)
            title = in_words(_title(rows[0], deployment.name), scene.dataset.kind)
            evaluation.write_joint_grid(path, rows, title=title)
            print(f"Reconstructions, {deployment.name}, {deployment.cut}, {threat}: {path}")
    for threat in dict.fromkeys(config.threat_model):
        points = []
        for attacker, records in runs_of.items():
            if attacker.threat == threat:
                cut = f"{attacker.deployment.cut}: " if len(scene.cuts) > 1 else ""
                kind = cut + records[0]["defense"]["kind"]
                points += [verdict.point(record, kind) for record in records]
        rows = [record for record in finished if record["threat_model"] == threat]
        path = runs.joint_path("tradeoff", EXPERIMENT.name, config, scene, rows)
        said = SAFE_SSIM if scene.dataset.kind == IMAGE else None
        claims = (said, 0.95 if said and (scene.accuracy or 0) > 0.95 else None)
        number = scene.num_images(config)
        title = f"{scene.title}, {threat}, {', '.join(scene.cuts)}: {number:,} images"
        measure = scene.usability.kind
        chart = tradeoff.figure(points, title=title, claims=claims, measure=measure)
        style.save(path, chart._replace(kind=scene.dataset.kind))
        print(f"{measure.capitalize()} against quality, {threat}: {path}")


def _split(finished: Sequence[dict[str, Any]], ends: np.ndarray) -> list[list[dict[str, Any]]]:
    bounds = [0, *ends.tolist(), len(finished)]
    return [list(finished[low:high]) for low, high in itertools.pairwise(bounds)]


def _title(record: dict[str, Any], name: str) -> str:
    about = f"{record['split']}, {evaluation.subject(record)}, {record['threat_model']}"
    return (
        f"{name} at {about}: level, attacker, mean PSNR / SSIM of {record['num_images']:,} images"
    )


EXPERIMENT = Experiment(choices.EXPERIMENT, DefenseConfig, run, __doc__, check=prepare)
