"""Statistics of releases as runs, one for each cut and level of a defence. NumPy."""

import dataclasses
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax

from jaxinv.errors import UserError
from jaxinv.machine import environment
from jaxinv.machine.progress import Pace
from jaxinv.measures import leakage
from jaxinv.store import records
from jaxinv.store.fields import level_text
from jaxinv.store.record import AttackRecord
from jaxinv.studies import runs
from jaxinv.studies.defended.choices import KINDS, DefenseChoice, DefenseConfig
from jaxinv.studies.defended.deployment import Deployment
from jaxinv.studies.defended.known import plain, release_key

if TYPE_CHECKING:
    from jaxinv.studies.leakage import LeakageConfig

NAME = "leakage"

_IMAGES = 2000  # of the attacker's own, from which the covariance is estimated
_NONE = DefenseChoice(("dropout",), ("feature",), ((0.0,),))


class Released(NamedTuple):
    """A release: a level of a deployment."""

    deployment: Deployment
    number: int

    @property
    def described(self) -> dict[str, Any]:
        """The defence, as records have it."""
        found = self.deployment.family[self.number].describe()
        return found if self.deployment.retrain != "none" else plain(found)


def of_choices(
    config: DefenseConfig, scene: runs.Scene, chosen: Sequence[DefenseChoice]
) -> list[Released]:
    """Returns every level of every defence at every cut, each release once."""
    deployments = [Deployment(config, scene, cut, each) for cut in scene.cuts for each in chosen]
    found = [
        Released(deployment, number)
        for deployment in deployments
        for number in range(len(deployment.family))
    ]
    return list({_key(each): each for each in found}.values())


def of_attacks(config: "LeakageConfig", scene: runs.Scene) -> list[Released]:
    """Returns the releases of a target that finished attacks in the work folder are on.

    Those of defences that trained the target on, and of mechanisms that are not known here, are
    left out.

    Raises:
      UserError: there is none.
    """
    found: dict[tuple[str, DefenseChoice], None] = {}
    for record in records.find(config.workdir):
        if (
            isinstance(record, AttackRecord)
            and record.target is not None
            and record.target.fingerprint == scene.target.fingerprint
            and record.data_fingerprint == scene.dataset.fingerprint
            and record.retrain == "none"
            and (choice := _choice(record)) is not None
        ):
            found[record.split, choice] = None
    order = scene.target.network.all_cuts
    released = [
        Released(Deployment(config.defended, scene, cut, choice), 0)
        for cut, choice in sorted(found, key=lambda each: order.index(each[0]))
    ]
    if not released:
        raise UserError(f"workdir={config.workdir}: no finished attack on this target is there.")
    return list({_key(each): each for each in released}.values())


def _choice(record: AttackRecord) -> DefenseChoice | None:
    """Returns the defence of an attack; None of a mechanism that is not known here."""
    defense = record.defense
    if defense.is_none:
        return _NONE
    kinds, sites = tuple(defense.kind.split("+")), tuple(defense.site.split("+"))
    if not set(kinds) <= set(KINDS):
        return None
    sites = sites * len(kinds) if len(sites) == 1 else sites
    return DefenseChoice(kinds, sites, (defense.levels,))


def _key(released: Released) -> tuple[str, str]:
    deployment = released.deployment
    return release_key(deployment.cut, released.described), deployment.retrain


def run_all(
    config: "LeakageConfig", scene: runs.Scene, releases: Sequence[Released]
) -> list[dict[str, Any]]:
    """Measures releases that are not finished yet; returns all records, each with its `path`."""
    samples = scene.dataset.surrogate(config.surrogate)[:_IMAGES]
    labels = samples.labels if samples.has_labels else None
    own = leakage.Own.of(samples.images, labels, jacobians=config.jacobians)
    pace = Pace([1] * len(releases), "releases measured")
    return list(_each(config, scene, releases, own, pace))


def _each(
    config: "LeakageConfig",
    scene: runs.Scene,
    releases: Sequence[Released],
    own: leakage.Own,
    pace: Pace,
) -> Iterator[dict[str, Any]]:
    for each in releases:
        yield _run_one(config, scene, each, own)
        pace.advance()


def _run_one(
    config: "LeakageConfig", scene: runs.Scene, released: Released, own: leakage.Own
) -> dict[str, Any]:
    deployment, described = released.deployment, released.described
    known = {"split": deployment.cut, "defense": described, "retrain": deployment.retrain}
    identity = {**known, "jacobians": len(own.images[: own.jacobians])}
    identity |= {"surrogate": config.surrogate, **_trained(deployment, config.defended)}

    def make(folder: Path, common: dict[str, Any]) -> None:
        began = time.perf_counter()
        params, defense = deployment.params[released.number], deployment.family[released.number]
        key = jax.random.key(config.seed)
        found = leakage.measure(deployment.edge, params, defense, own, key)
        seconds = time.perf_counter() - began
        fields = {"statistics": found._asdict(), "seconds": seconds, **environment.facts()}
        records.write(folder, {**common, **known, **fields}, images=None)

    choice, levels = deployment.choice, _levels(deployment)
    if deployment.retrain == "none":  # levels are trained together
        levels = [levels[released.number]]
    flags = runs.flags_of(
        dataclasses.replace(config, attacked=False),
        scene,
        split=(deployment.cut,),
        defense=("+".join(choice.kinds),),
        site=("+".join(choice.sites),),
        level=tuple("+".join(map(repr, row)) for row in levels),
    )
    kind, level = described["kind"], level_text(described["level"])
    label = f"{scene.dataset.name}-{deployment.cut}-{kind}-{described['site']}-{level}"
    return runs.read_or_make(
        NAME,
        "leakage",
        config,
        scene,
        make,
        identity=identity,
        label=f"{label}-s{config.seed}",
        flags=flags,
        decided_by=("jaxinv.measures.leakage", __name__),
    )


def _trained(deployment: Deployment, config: DefenseConfig) -> dict[str, Any]:
    """Returns the settings of an edge that was trained on, as attacks note them."""
    if deployment.retrain == "none":
        return {}
    return {"retrain_steps": config.retrain_steps, "levels": _levels(deployment)}


def _levels(deployment: Deployment) -> list[list[float]]:
    return [[step.level for step in defense.steps] for defense in deployment.family]
