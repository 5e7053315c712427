"""Settings of a study of choices, and the choices: a cut and a defence each. NumPy."""

import dataclasses
from typing import Any, ClassVar

from jaxinv.attacks import registry
from jaxinv.constants import kinds
from jaxinv.constants.choices import FULL, SCREEN
from jaxinv.constants.halves import CHOICE, REPORT
from jaxinv.constants.threats import THREATS, within
from jaxinv.defenses import MECHANISMS, TRAINED, Defense
from jaxinv.errors import UsageError
from jaxinv.measures import costs, decision, profiles
from jaxinv.measures.decision import Constraints
from jaxinv.measures.profiles import device
from jaxinv.store.record import AttackRecord
from jaxinv.studies.config import SURROGATES, AttackConfig
from jaxinv.studies.defended import choices as defended
from jaxinv.studies.defended.choices import DefenseConfig
from jaxinv.studies.defended.deployment import Deployment
from jaxinv.studies.defended.known import plain
from jaxinv.studies.experiment import setting

SCREENING = {"fit_steps": 400, "shadow_steps": 300}
"""Steps of training by attackers who screen choices."""

EFFORTS = (SCREEN, FULL)


@dataclasses.dataclass(frozen=True)
class PartitionConfig(AttackConfig):
    """Settings of a study of cuts and defences as choices."""

    split: tuple[str, ...] = ("all",)
    usual_images: ClassVar[int] = 64
    num_images: int | None = setting(
        None,
        "How many images to attack of the half of the test split that choices are made on, and how "
        f"many of the other; by default {usual_images}, or all of a smaller half.",
    )
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
        "Constraint: share of right answers, with the whole interval; without labels, or of a "
        "network that is no classifier, agreement with the undefended output (top-1, the mean "
        "cosine, or of a single value the mean closeness). By default one point less than the "
        "lower end of the undefended 99.9% interval.",
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
        "Constraint: of every attacker's reconstructions, with the whole interval.",
        least=0,
        most=1,
    )
    max_correlation: float | None = setting(
        None,
        "Constraint in place of max_ssim, for series and tables: how much reconstructions vary "
        "with their originals, with the whole interval.",
        least=0,
        most=1,
    )
    max_reid: float | None = setting(
        None,
        "Constraint: share of images that any attacker re-identifies, with the whole interval. "
        "Or a certificate keeps it, where the defence has one (codebook).",
        least=0,
        most=1,
    )
    prefer: str = setting(
        "privacy",
        "The best of the choices that meet all of these has the most of this.",
        choices=tuple(decision.PREFERENCES),
    )
    effort: str = setting(
        SCREEN,
        "screen attacks every choice by --attacker, quickly trained. full attacks every choice "
        "with everything: every attack of every experiment, trained for long. Either way, what "
        "would be recommended is attacked with everything on images that no choice has seen.",
        choices=EFFORTS,
    )
    threat_model: tuple[str, ...] = setting(
        ("whitebox", "blackbox"),
        f"Attackers who screen choices: one or several of {', '.join(THREATS)}. With everything "
        "they attack who know as much as the best informed of these, or less. What these have "
        "finished in --workdir counts, too.",
    )
    attacker: tuple[str, ...] = setting(
        ("adaptive",),
        f"Attackers who screen: some of {', '.join(registry.methods('defenses'))}, as in the "
        "experiment defenses.",
    )
    releases: int = setting(
        1,
        "Releases of each image that attackers see. With everything they attack one alone, too.",
    )
    fit_steps: int | None = setting(
        None,
        "Steps of training what an attacker learns. By default "
        f"{SCREENING['fit_steps']} to screen, and else each attack's own.",
    )
    shadow_steps: int | None = setting(
        None,
        "Steps of training query-free shadows. By default "
        f"{SCREENING['shadow_steps']} to screen, and else each attack's own.",
    )
    correction: bool = setting(
        False,
        "Whether white-box attackers who screen learn a correction, too, which takes longer; with "
        "everything they do.",
    )
    surrogate: str = setting(
        "attacker",
        "Images that the attacker learns from: its own, or the target's training images.",
        choices=SURROGATES,
    )

    @property
    def half(self) -> str:
        return CHOICE

    @property
    def constraints(self) -> Constraints:
        """The constraints to be met; `max_ssim` stands for the similarity of any kind of input."""
        names = (field.name for field in dataclasses.fields(Constraints))
        given = {name: getattr(self, name) for name in names}
        if self.max_correlation is not None:
            given["max_ssim"] = self.max_correlation
        return Constraints(**given)

    @property
    def threats(self) -> tuple[str, ...]:
        """The threat models that count: the best informed attackers', and those who know less."""
        best = min(self.threat_model, key=list(THREATS).index)
        return within(best)

    @property
    def screening(self) -> DefenseConfig:
        """The settings of attacks that screen choices."""
        return self.attacks(**{name: getattr(self, name) or SCREENING[name] for name in SCREENING})

    def attacks(self, **changes: Any) -> DefenseConfig:
        """Returns the settings of attacks on the choices."""
        shared = {field.name for field in dataclasses.fields(self)}
        shared &= {field.name for field in dataclasses.fields(DefenseConfig)}
        own = {name: getattr(self, name) for name in shared}
        own |= {"draws": 1, "test_images": self.half}
        return DefenseConfig(**{**own, **changes})


@dataclasses.dataclass(frozen=True, eq=False)
class Option:
    """A choice: a level of a deployment, and all attacks on it.

    Attributes:
      deployment, number: the defence and its level, as it is screened.
      attacks: records of attacks.
    """

    deployment: Deployment
    number: int
    attacks: list[AttackRecord] = dataclasses.field(default_factory=list)

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

    def on(self, half: str) -> list[AttackRecord]:
        """Returns the attacks on report images, or those on choice images."""
        reported = half == REPORT
        return [each for each in self.attacks if (each.test_images == REPORT) == reported]

    def add(self, record: AttackRecord) -> None:
        """Adds an attack, or puts it in the place of an earlier run of the same."""
        hashes = [other.config_hash for other in self.attacks]
        if record.config_hash in hashes:
            self.attacks[hashes.index(record.config_hash)] = record
        else:
            self.attacks.append(record)

    def sent_bytes(self, price: costs.CutCost) -> int:
        """Bytes that cross the wire for one image."""
        defense = plain(self.defense.describe())
        return costs.sent_bytes(price.features, defense, dense=price.sent_bytes)

    def price(self, price: costs.CutCost) -> costs.CutCost:
        """Returns the price of the cut, with that of a layer which the defence puts there."""
        deployment = self.deployment
        if not deployment.has_layer:
            return price
        return costs.with_layer(
            price, deployment.edge, deployment.cloud, deployment.params[self.number]
        )


def check_similarity(config: PartitionConfig, kind: kinds.Kind) -> None:
    """Refuses a limit on a similarity that inputs of a kind do not have.

    Raises:
      UsageError: there is one.
    """
    for each in kinds.KINDS.values():
        limit = getattr(config, each.limit)
        if limit is not None and each.limit != kind.limit:
            raise UsageError(
                f"{each.limit}={limit:g}: is about {each.plural}, and these are {kind.plural}: "
                f"expected {kind.limit}."
            )


def choices(config: PartitionConfig) -> list[defended.DefenseChoice]:
    """The defences as families that are attacked together.

    Raises:
      UsageError: one is unknown, or its level out of range.
    """
    families: dict[tuple[str, str], list[str]] = {}
    undefended = False
    for text in config.defense:
        if text.strip() == "none":
            undefended = True
            continue
        name, _, level = text.strip().rpartition(":")
        if not name or not level:
            told = name or level or "dropout"
            raise UsageError(f"defense={text}: a level is missing, as in {told}:0.5.")
        kind, _, site = name.partition("@")
        families.setdefault((kind, site or "feature"), []).append(level)
    # Any mechanism is none at level 0, and learned together with its other levels; but for those
    # that train the edge.
    plain = {*MECHANISMS} - {each.name for each in TRAINED}
    host = next((key for key in families if key[0] in plain), None)
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
        if defended.mechanism_of(kind).training and any(
            row[column] == 0 for row in choice.levels or ()
        ):
            raise UsageError(
                f"defense={kind}:0: trains the edge on, too; expected a level above 0, or "
                "none, which does not."
            )
