"""The record of one level of a defense, under one attacker. NumPy."""

from typing import Any

from jaxinv.attacks import registry
from jaxinv.store.fields import level_text
from jaxinv.studies import attacked, runs
from jaxinv.studies.defended.accuracy import judged
from jaxinv.studies.defended.attackers import Attacker
from jaxinv.studies.defended.choices import EXPERIMENT, DefenseConfig


def decided_by(threat: str, method: str) -> tuple[str, ...]:
    """Returns the modules whose code decides a result, as `source.digest` takes them."""
    return ("jaxinv.studies.defended", registry.find(threat, method).module)


def run_one(
    config: DefenseConfig, scene: runs.Scene, attacker: Attacker, number: int
) -> dict[str, Any]:
    """Reads the record of one level, or attacks all levels and writes that of this one."""
    deployment = attacker.deployment
    defense = deployment.family[number]

    def attack() -> runs.Outcome:
        found = attacker.found(number)
        outcome = attacked.outcome(
            attacker.attack,
            found,
            config.surrogate,
            threat_model=attacker.threat,
            draws=deployment.draws,
            level_units=deployment.units,
            retrain=deployment.retrain,
            **deployment.usability(number).fields,
            **attacker.linked(number),
            **judged(config, scene, found.images),
        )
        return outcome if deployment.draws > 1 else outcome._replace(images=found.images[0])

    described = defense.describe()
    choice, levels = deployment.choice, deployment.choice.levels
    flags = runs.flags_of(
        config,
        scene,
        DefenseConfig,
        split=(deployment.cut,),
        defense=("+".join(choice.kinds),),
        site=("+".join(choice.sites),),
        level=levels and tuple("+".join(map(_exact, row)) for row in levels),
        threat_model=(attacker.threat,),
        attacker=(attacker.method,),
    )
    kind, level = described["kind"], level_text(described["level"])
    record = runs.run_once(
        EXPERIMENT,
        config,
        scene,
        deployment.cut,
        attack,
        identity=attacker.identity,
        flags=flags,
        label=f"-{kind}-{described['site']}-{level}-{attacker.threat}",
        method=attacker.method,
        defense=defense,
        releases=config.releases,
        decided_by=decided_by(attacker.threat, attacker.method),
    )
    attacker.recorded(number)
    return record


def _exact(level: float) -> str:
    """A level in few digits where these are all of it."""
    short = f"{level:g}"
    return short if float(short) == level else repr(level)
