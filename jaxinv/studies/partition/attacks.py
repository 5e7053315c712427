"""Attacks on choices: those that screen all of them, and everything that there is. NumPy."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from jaxinv.attacks import registry
from jaxinv.constants.kinds import in_words
from jaxinv.constants.threats import THREATS
from jaxinv.machine.progress import Pace
from jaxinv.store.record import AttackRecord, typed
from jaxinv.studies import runs, threads
from jaxinv.studies.defended import accuracy, run
from jaxinv.studies.defended.attackers import Attacker
from jaxinv.studies.defended.choices import EXPERIMENT, DefenseChoice
from jaxinv.studies.defended.deployment import Deployment
from jaxinv.studies.defended.known import known, release_key
from jaxinv.studies.defended.table import columns
from jaxinv.studies.partition import advice, table
from jaxinv.studies.partition.everything import Planned, everything
from jaxinv.studies.partition.options import Option, PartitionConfig


def options_of(
    config: PartitionConfig, scene: runs.Scene, chosen: Sequence[DefenseChoice]
) -> list[Option]:
    """Returns every choice that cuts, cut by cut, before it is attacked."""
    deployments = [
        Deployment(config.screening, scene, cut, choice) for cut in scene.cuts for choice in chosen
    ]
    return [
        Option(deployment, number)
        for deployment in deployments
        for number in range(len(deployment.family))
    ]


def screen(
    config: PartitionConfig,
    scene: runs.Scene,
    options: Sequence[Option],
    is_settled: Callable[[Option], bool],
) -> None:
    """Screens every choice, cut by cut, by those first who know most.

    Args:
      config, scene: of the study.
      options: the choices that cut, level by level.
      is_settled: tells whether a choice that was attacked breaks a limit: no more attackers are
        sent then, but to the cut that the paper's advice is about, which each threat model judges.
    """
    attacks, advised = config.screening, advice.cuts(scene.target.network)[1:]
    threats = sorted(dict.fromkeys(config.threat_model), key=list(THREATS).index)

    def step(option: Option, attacker: Attacker) -> dict[str, Any] | None:
        by_all = option.is_undefended and option.deployment.cut in advised
        if option.attacks and not by_all and is_settled(option):
            return None
        found = run.run_one(attacks, scene, attacker, option.number)
        _add(option, found)
        return found

    def judge() -> None:
        if scene.dataset.has_labels:
            accuracy.judge_of(attacks, scene)

    deployments = dict.fromkeys(option.deployment for option in options)
    equal = [1] * (1 + len(deployments))
    pace = Pace(equal, "parts of the screening done", at_once=threads.at_once())
    jobs: list[list[Callable[[], dict[str, Any] | None]]] = [[judge, pace.advance]]
    for deployment in deployments:
        attackers = [
            Attacker(attacks, scene, deployment, threat, method)
            for threat in threats
            for method in registry.of_threat(config.attacker, threat)
        ]
        own = [option for option in options if option.deployment is deployment]
        steps = [partial(step, option, each) for option in own for each in attackers]
        jobs.append([*steps, pace.advance])
    with threads.side_by_side(jobs) as made:
        shown = columns(scene.usability.kind, scene.cuts, [each.kind for each in deployments])
        runs.run_all(EXPERIMENT, attacks, scene, made, table=shown, grid=False)


def add_known(config: PartitionConfig, scene: runs.Scene, options: Iterable[Option]) -> None:
    """Adds the attacks that other commands have finished on the scene's half of the test split."""
    found = known(
        config.workdir,
        scene,
        images=scene.num_images(config),
        releases=config.releases,
        threats=config.threats,
    )
    for option in options:
        for record in found.get(release_key(option.deployment.cut, option.defense.describe()), ()):
            option.add(record)


def on(option: Option, options: Iterable[Option], half: str) -> list[AttackRecord]:
    """Returns all attacks that count on a choice, on one half of the test split.

    Whoever sees plain features can defend them first, and attack what that leaves.
    """
    if not option.is_undefended:
        return option.on(half)
    others = [
        attack
        for other in options
        if other.deployment.cut == option.deployment.cut and other.is_made_of_features
        for attack in other.on(half)
    ]
    return [*option.on(half), *others]


def _add(option: Option, found: dict[str, Any]) -> AttackRecord:
    record = typed(found, found["path"])
    assert isinstance(record, AttackRecord)
    option.add(record)
    return record


class Siege:
    """Everything that there is to attack choices with on a half of the test split, by waves."""

    def __init__(self, config: PartitionConfig, scene: runs.Scene):
        self._config, self._scene = config, scene
        self._left: dict[Option, dict[str, list[Planned]]] = {}
        self._pace: tuple[tuple[Option, ...], Pace] | None = None

    def left(self, option: Option) -> int:
        """Returns how many attacks are left."""
        return sum(map(len, self._plans(option).values()))

    def is_over(self, option: Option) -> bool:
        """Tells whether a choice was attacked with everything."""
        return option in self._left and not self.left(option)

    def advance(self, options: Sequence[Option]) -> None:
        """Attacks some choices by the next of each threat model's attackers."""
        wave = [
            (option, planned)
            for option in options
            for planned in self._plans(option).values()
            if planned
        ]
        if not wave:
            return
        pace = self._paced(tuple(options))
        with threads.side_by_side([[planned[0].make] for _, planned in wave]) as made:
            for (option, planned), attack in zip(wave, made, strict=True):
                record = _add(option, attack())
                print(in_words(table.attack(record), record.kind_of_input), flush=True)
                pace.advance(planned.pop(0).weight)

    def _paced(self, options: tuple[Option, ...]) -> Pace:
        """Returns the pace of attacks on some choices, as long as these are attacked."""
        if self._pace is None or self._pace[0] != options:
            plans = [self._plans(option).values() for option in options]
            weights = [each.weight for own in plans for planned in own for each in planned]
            self._pace = options, Pace(weights, "attacks made", at_once=threads.at_once())
        return self._pace[1]

    def _plans(self, option: Option) -> dict[str, list[Planned]]:
        if option not in self._left:
            self._left[option] = everything(self._config, self._scene, option)
        return self._left[option]
