"""Choices of a cut and a defence, and all attacks on each of them. NumPy."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, NamedTuple

import msgspec

from jaxinv.attacks import registry
from jaxinv.constants.threats import THREATS
from jaxinv.defenses import MECHANISMS, NONE, Defense
from jaxinv.errors import UsageError
from jaxinv.measures import costs, decision, profiles
from jaxinv.measures.decision import Constraints
from jaxinv.measures.profiles import device
from jaxinv.store import records
from jaxinv.store.record import AttackRecord, typed
from jaxinv.studies import runs, threads
from jaxinv.studies.config import SURROGATES, AttackConfig, number_of_images
from jaxinv.studies.defended import accuracy, run
from jaxinv.studies.defended import choices as defended
from jaxinv.studies.defended.attackers import Attacker
from jaxinv.studies.defended.choices import DefenseConfig
from jaxinv.studies.defended.deployment import Deployment
from jaxinv.studies.defended.table import TABLE
from jaxinv.studies.experiment import setting


@dataclasses.dataclass(frozen=True)
class PartitionConfig(AttackConfig):
    """Settings of a study of cuts and defences as choices."""

    split: tuple[str, ...] = ("all",)
    usual_images: ClassVar[int] = 64
    num_images: int | None = number_of_images(usual_images)
    defense: tuple[str, ...] = setting(
        ("none", "gaussian:.5", "gaussian:2"),
        "Defences, a comma list of kind:level, or kind@site:level, as the experiment defenses "
        "knows them; none is one. gaussian@input:.5 is noise on the input; a+b:.2+.3 does both.",
    )
    profile: str = setting(
        device.USUAL,
        f"Device, network and cloud: {', '.join(profiles.names())}, or a file of one's own, .toml. "
        "Or this, for edges that are timed on this machine once and kept in --workdir, or a file "
        ".csv of times measured elsewhere: a line layer,seconds (of each layer alone) or "
        "cut,seconds (of the edge up to each cut), then a line for each layer of the network. All "
        f"else is then that of {device.USUAL}, or of another profile behind an @, as in "
        "this@phone-lte or times.csv@my_device.toml.",
        is_path=True,
    )
    min_accuracy: float | None = setting(
        None,
        "Constraint: share of right answers, with the whole 95% interval. By default one point "
        "less than the lower end of the undefended interval.",
        least=0,
        most=1,
    )
    max_latency_ms: float | None = setting(
        None, "Constraint: of one image; 95% of the images must keep it.", least=0
    )
    max_energy_mj: float | None = setting(
        None, "Constraint: of the device, for one image.", least=0
    )
    max_memory_mb: float | None = setting(
        None, "Constraint: of the device. By default what the profile has, if it says.", least=0
    )
    max_ssim: float | None = setting(
        None,
        "Constraint: of every attacker's reconstructions, with the whole 95% interval.",
        least=0,
        most=1,
    )
    max_reid: float | None = setting(
        None,
        "Constraint: share of images that any attacker re-identifies, with the whole 95% interval.",
        least=0,
        most=1,
    )
    prefer: str = setting(
        "privacy",
        "The best of the choices that meet all of these has the most of this.",
        choices=tuple(decision.PREFERENCES),
    )
    threat_model: tuple[str, ...] = setting(
        ("whitebox", "blackbox"),
        f"Attackers to run: one or several of {', '.join(THREATS)}. What others "
        "have finished in --workdir counts, too.",
    )
    attacker: tuple[str, ...] = setting(
        ("adaptive",),
        f"Some of {', '.join(registry.methods('defenses'))}, as in the experiment defenses.",
    )
    fit_steps: int = setting(400, "Steps of training what an attacker learns.")
    shadow_steps: int = setting(300, "Steps of training query-free shadows.")
    correction: bool = setting(
        False, "Whether white-box attackers learn a correction, too; it takes longer."
    )
    surrogate: str = setting(
        "attacker",
        "Images that the attacker learns from: its own, or the target's training images.",
        choices=SURROGATES,
    )

    @property
    def constraints(self) -> Constraints:
        """The constraints to be met."""
        names = (field.name for field in dataclasses.fields(Constraints))
        return Constraints(**{name: getattr(self, name) for name in names})

    def attacks(self, **changes: Any) -> DefenseConfig:
        """Returns the settings of the attacks on the choices."""
        shared = {field.name for field in dataclasses.fields(self)}
        shared &= {field.name for field in dataclasses.fields(DefenseConfig)}
        own = {name: getattr(self, name) for name in shared} | {"draws": 1}
        return DefenseConfig(**{**own, **changes})


class Option(NamedTuple):
    """A choice: a level of a deployment, and all attacks on it."""

    deployment: Deployment
    number: int
    attacks: list[AttackRecord]

    @property
    def defense(self) -> Defense:
        return self.deployment.family[self.number]

    @property
    def is_undefended(self) -> bool:
        return self.deployment.retrain == "none" and not self.defense.levels.any()

    @property
    def is_made_of_features(self) -> bool:
        """Tells whether its releases can be made of undefended features."""
        at_features = all(step.site == "feature" for step in self.defense.steps)
        return self.deployment.retrain == "none" and at_features and not self.is_undefended

    def sent_bytes(self, price: costs.CutCost) -> int:
        """Bytes that cross the wire for one image."""
        defense = plain(self.defense.describe())
        return costs.sent_bytes(price.features, defense, dense=price.sent_bytes)


def choices(config: PartitionConfig) -> list[defended.DefenseChoice]:
    """The defences as families that are attacked together.

    Raises:
      UsageError: one is unknown, or its level out of range.
    """
    families: dict[tuple[str, str], list[str]] = {}
    undefended = False
    for text in config.defense:
        name, _, level = text.strip().partition(":")
        if name == "none":
            undefended = True
            continue
        if not level:
            raise UsageError(f"defense={text}: a level is missing, as in {name or 'dropout'}:0.5.")
        kind, _, site = name.partition("@")
        families.setdefault((kind, site or "feature"), []).append(level)
    # Any mechanism is none at level 0, and learned together with its other levels; but for those
    # that train the edge.
    host = next((key for key in families if key[0] != "nopeek" and "+" not in key[0]), None)
    if undefended:
        families.setdefault(host or ("dropout", "feature"), []).insert(0, "0")
    found: list[defended.DefenseChoice] = []
    for (kind, site), levels in families.items():
        own = config.attacks(defense=(kind,), site=(site,), level=tuple(levels))
        found += defended.choices(own)
        _check_trained_in(found[-1])
    return found


def _check_trained_in(choice: defended.DefenseChoice) -> None:
    """At level 0 the edge is trained on all the same: that is another edge, and not no defence."""
    for column, kind in enumerate(choice.kinds):
        trains = kind in MECHANISMS and MECHANISMS[kind].penalty is not None
        if trains and any(row[column] == 0 for row in choice.levels or ()):
            raise UsageError(
                f"defense={kind}:0: trains the edge on, too; expected a level above 0, or "
                "none, which does not."
            )


def attacked(
    config: PartitionConfig, scene: runs.Scene, chosen: Sequence[defended.DefenseChoice]
) -> list[Option]:
    """Every choice, cut by cut."""
    attacks = config.attacks()
    options: list[Option] = []
    jobs: list[list[Callable[[], dict[str, Any]]]] = []
    for cut in scene.cuts:
        for choice in chosen:
            deployment = Deployment(attacks, scene, cut, choice)
            attackers = [
                Attacker(attacks, scene, deployment, threat, method)
                for threat in dict.fromkeys(config.threat_model)
                for method in dict.fromkeys(config.attacker)
            ]
            own = [Option(deployment, number, []) for number in range(len(deployment.family))]
            options += own
            jobs.append(
                [
                    partial(_attack, attacks, scene, attacker, option)
                    for option in own
                    for attacker in attackers
                ]
            )
    # What attackers share is made before there are several of them.
    accuracy.judge_of(attacks, scene)
    with threads.side_by_side(jobs) as steps:
        runs.run_all(defended.EXPERIMENT, attacks, scene, steps, table=TABLE, grid=False)
    known = _known(config, scene)
    for option in options:
        seen = {record.config_hash for record in option.attacks}
        others = known.get(_key(option.deployment.cut, option.defense.describe()), [])
        option.attacks.extend(other for other in others if other.config_hash not in seen)
    for option in options:
        if option.is_undefended:
            # Whoever sees plain features can defend them first, and attack what that leaves.
            option.attacks.extend(
                attack
                for other in options
                if other.deployment.cut == option.deployment.cut and other.is_made_of_features
                for attack in other.attacks
            )
    return options


def _attack(
    config: DefenseConfig, scene: runs.Scene, attacker: Attacker, option: Option
) -> dict[str, Any]:
    found = run.run_one(config, scene, attacker, option.number)
    record = typed(found, found["path"])
    assert isinstance(record, AttackRecord)
    option.attacks.append(record)
    return found


def _known(config: PartitionConfig, scene: runs.Scene) -> dict[str, list[AttackRecord]]:
    """Reads finished attacks on releases of this target, by cut and defence; of as many images.

    Attacks on defences by other code are left out, and those that lack a measure.
    """
    found: dict[str, list[AttackRecord]] = {}
    for record in records.find(config.workdir):
        if isinstance(record, AttackRecord) and _is_comparable(record, config, scene):
            key = _key(record.split, msgspec.to_builtins(record.defense))
            found.setdefault(key, []).append(record)
    return found


def _is_comparable(record: AttackRecord, config: PartitionConfig, scene: runs.Scene) -> bool:
    """Returns whether an attack is on one release of this target, as it is released now."""
    return (
        record.is_measured
        and _is_current(record)
        and record.data_fingerprint == scene.dataset.fingerprint
        and record.target is not None
        and record.target.fingerprint == scene.target.fingerprint
        and record.num_images >= scene.num_images(config)
        and record.releases == 1
        and record.retrain == "none"
    )


def _is_current(record: AttackRecord) -> bool:
    """Returns whether a record attacked what is released now; other experiments defend nothing."""
    if record.experiment != defended.EXPERIMENT:
        return True
    if record.method not in registry.methods(defended.EXPERIMENT, record.threat):
        return False
    return record.code == runs.code_of(*run.decided_by(record.threat, record.method))


def _key(cut: str, defense: dict[str, Any]) -> str:
    """Returns the key of a release; a mechanism at level 0 is no defence."""
    return json.dumps([cut, plain(defense)], sort_keys=True)


def plain(defense: dict[str, Any]) -> dict[str, Any]:
    """Returns a defence as records describe it; at level 0 it is none."""
    return NONE.describe() if defense["level"] == 0 else defense
