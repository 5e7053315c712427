"""Every attack that the registry has on a choice, as runs that are made or read one by one. NumPy.

An undefended cut is attacked by all methods of the experiments of each threat model, and by those
of the experiment defenses that these do not have; a defended one by all of defenses. Attackers know
the level of the one choice alone and train as long as they do elsewhere, but for the authors', who
get no more steps than others. Who sees several releases attacks one alone, too.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from jaxinv.attacks import registry
from jaxinv.attacks.blackbox.adaptive import FIT_STEPS
from jaxinv.attacks.queryfree import strong
from jaxinv.constants.threats import FLOOR, THREATS
from jaxinv.machine import own_code
from jaxinv.studies import blackbox, queryfree, runs, whitebox
from jaxinv.studies.config import AttackConfig
from jaxinv.studies.defended import run
from jaxinv.studies.defended.attackers import Attacker
from jaxinv.studies.defended.choices import EXPERIMENT
from jaxinv.studies.defended.deployment import Deployment
from jaxinv.studies.partition.options import Option, PartitionConfig

# The floor first, which learns nothing, and links releases like any other: that takes seconds. Then
# the strongest, for one that breaks a limit ends it, and those that are not named last. What two
# share is trained by one of them before the other asks for it.
_ORDER = {
    "whitebox": (FLOOR, "adaptive", "map", "hybrid", "tv", "paper"),
    "blackbox": (FLOOR, "strong", "paper", "adaptive"),
    "queryfree": (FLOOR, "strong", "adaptive", "paper"),
}
_SCRIPTS: dict[str, tuple[type[AttackConfig], Callable[..., dict[str, Any]]]] = {
    "whitebox": (whitebox.WhiteboxConfig, whitebox.run_cut),
    "blackbox": (blackbox.BlackboxConfig, blackbox.run_cut),
    "queryfree": (queryfree.QueryfreeConfig, queryfree.run_cut),
}
_AUTHORS = {"fit_steps": FIT_STEPS, "shadow_steps": strong.RECIPE.steps}


# About how long attacks take beside others, for the estimate of the time that is left.
_WEIGHTS = {
    ("whitebox", "adaptive"): 4.0,
    ("whitebox", "hybrid"): 8.0,
    ("whitebox", "paper"): 0.3,
    ("blackbox", "strong"): 3.0,
    ("blackbox", "paper"): 3.0,
    ("blackbox", "adaptive"): 0.1,  # the map of the white-box one
    ("queryfree", "strong"): 6.0,
    ("queryfree", "adaptive"): 6.0,
    **dict.fromkeys(((threat, FLOOR) for threat in THREATS), 0.05),
}


class Planned(NamedTuple):
    """An attack: its threat model and method, and a function that makes or reads its record."""

    threat: str
    method: str
    make: Callable[[], dict[str, Any]]

    @property
    def weight(self) -> float:
        """About how long it takes beside others."""
        return _WEIGHTS.get((self.threat, self.method), 1.0)


def everything(
    config: PartitionConfig, scene: runs.Scene, option: Option
) -> dict[str, list[Planned]]:
    """Returns every attack on a choice by threat model, in the order to attack.

    They attack the images of the scene's half of the test split. Those that learn from labels are
    left out where these name none of the network's outputs.
    """
    counts = [config.releases, 1] if option.defense.is_random else [config.releases]
    deployment, number = _alone(config, scene, option)
    found = {}
    for threat in config.threats:
        scripted = registry.methods(threat, threat) if option.is_undefended else []
        own = [each for each in config.attacker if own_code.is_spelled(each)]
        methods = [*scripted, *registry.methods(EXPERIMENT, threat)]
        methods += registry.of_threat(own, threat)
        planned = []
        order = [*_ORDER[threat], *methods]
        for method in sorted(set(methods), key=order.index):
            if scene.accuracy is None and registry.needs_labels(threat, method):
                continue
            if method in scripted:
                make = partial(_scripted, config, scene, option.deployment.cut, threat, method)
                planned.append(Planned(threat, method, make))
                continue
            for count in dict.fromkeys(counts):
                who = (threat, method, count)
                make = partial(_of_defense, config, scene, deployment, number, *who)
                planned.append(Planned(threat, method, make))
        found[threat] = planned
    return found


def _alone(config: PartitionConfig, scene: runs.Scene, option: Option) -> tuple[Deployment, int]:
    """Returns the defence at its one level, and its number; trained levels stay together."""
    cut, choice, number = option.deployment.cut, option.deployment.choice, option.number
    if option.deployment.retrain == "none":
        assert choice.levels is not None
        choice, number = choice._replace(levels=(choice.levels[number],)), 0
    return Deployment(config.attacks(), scene, cut, choice), number


def _of_defense(
    config: PartitionConfig,
    scene: runs.Scene,
    deployment: Deployment,
    number: int,
    threat: str,
    method: str,
    releases: int,
) -> dict[str, Any]:
    attacks = config.attacks(
        **_steps(config, method), correction=True, releases=releases, test_images=scene.half
    )
    attacker = Attacker(attacks, scene, deployment, threat, method)
    return run.run_one(attacks, scene, attacker, number)


def _scripted(
    config: PartitionConfig, scene: runs.Scene, cut: str, threat: str, method: str
) -> dict[str, Any]:
    kind, run_cut = _SCRIPTS[threat]
    names = {field.name for field in dataclasses.fields(kind)}
    given = {field.name: getattr(config, field.name) for field in dataclasses.fields(AttackConfig)}
    steps = {
        name: value
        for name, value in _steps(config, method).items()
        if name in names and value is not None
    }
    own = {"split": (cut,), "method": method, "test_images": scene.half}
    return run_cut(kind(**{**given, **steps, **own}), scene, cut)


def _steps(config: PartitionConfig, method: str) -> dict[str, int | None]:
    """Returns the steps of training; None is an attack's own number."""
    own = _AUTHORS if method == "paper" else dict.fromkeys(_AUTHORS)
    return {name: getattr(config, name) or default for name, default in own.items()}
