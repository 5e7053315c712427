"""Defenses as flags name them, checked. NumPy."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

from jaxinv.attacks import registry
from jaxinv.constants.threats import THREATS
from jaxinv.defenses import MECHANISMS, SITES, Defense, Mechanism, clipped_gaussian, layer_at, own
from jaxinv.errors import UsageError
from jaxinv.machine import own_code
from jaxinv.studies import spelling
from jaxinv.studies.config import SURROGATES, HalvedConfig, number_of_images
from jaxinv.studies.experiment import setting
from jaxinv.training import retraining

EXPERIMENT = "defenses"
"""Name of the experiment in its records, whichever script asks for them."""

KINDS = (*MECHANISMS, "clip")


@dataclasses.dataclass(frozen=True)
class DefenseConfig(HalvedConfig):
    """Settings of a study of defences, at one or several cuts."""

    split: tuple[str, ...] = ("relu2",)
    usual_images: ClassVar[int] = 200
    num_images: int | None = number_of_images(usual_images)
    defense: tuple[str, ...] = setting(
        ("dropout",),
        f"One or several of {', '.join(KINDS)}; a+b does both, first a. gaussian, laplace: noise "
        "added. dropout: values set to zero. quantize: to a number of bits. prune: the smallest "
        "values set to zero. project: to a random subspace. clip: to the median length, with "
        "Gaussian noise in proportion to it. Trained in: nopeek, small distance correlation of "
        "input and features; bido, small dependence; adversarial, against a decoder; cem, features "
        "of a class close together (with noise: cem+gaussian); vib, learned noise on features that "
        "tell little; cloak, learned noise; shaped, noise where "
        "the cloud needs the features least; sca, sparse codes; disco, channels pruned by the "
        "image; bottleneck, few channels of few bits; codebook, a release of few bits. One "
        "of your own: FILE.py:name or package.module:name, a jaxinv.defenses.Mechanism.",
    )
    site: tuple[str, ...] = setting(
        ("feature",),
        "Where: feature, input (pixels as the network normalises them), or both in turn: "
        "input,feature. Of a+b: input+feature, or one for both.",
    )
    level: tuple[str, ...] | None = setting(
        None,
        "Levels, a comma list; of a+b: .2+.3,.4+.3. "
        + " ".join(f"{each.name}: {each.unit}." for each in MECHANISMS.values())
        + " By default some of each.",
    )
    attacker: tuple[str, ...] = setting(
        ("paper", "adaptive"),
        f"One or several of {', '.join(registry.methods(EXPERIMENT))}. paper: the authors' attack "
        "of the threat model. adaptive: one that knows the defence and its level, and trains on "
        "defended releases. One of your own: FILE.py:name or package.module:name, a "
        "jaxinv.attacks.attack.Attack with a threat_model.",
    )
    threat_model: tuple[str, ...] = setting(
        ("whitebox",),
        f"What the attacker knows: one or several of {', '.join(THREATS)}.",
    )
    releases: int = setting(
        1,
        "Releases of each image that the attacker sees. Of several that differ it attacks one "
        "alone, too, in runs of their own.",
    )
    draws: int = setting(
        2,
        "Independent draws of a random defence, over which accuracy and quality are means.",
    )
    retrain: str = setting(
        "none",
        "Whether the target is trained on with the defence in the loop: the cloud alone, or both "
        "halves. What is trained in always is.",
        choices=("none", *retraining.PARTS),
    )
    retrain_steps: int = setting(retraining.STEPS, "Steps of that, to whole epochs.")
    fit_steps: int | None = setting(
        None,
        "Steps of training what the attacker learns. By default that of each attack.",
    )
    shadow_steps: int | None = setting(None, "Steps of training query-free shadows.")
    correction: bool = setting(
        True,
        "Whether adaptive white-box attackers learn a network that corrects what they find. It is "
        "what takes them longest.",
    )
    surrogate: str = setting(
        "attacker",
        "Images that the attacker learns from: its own, or the target's training images.",
        choices=SURROGATES,
    )

    @property
    def method_name(self) -> str:
        """The attackers, for titles and names of files."""
        return "-".join(self.attacker)


class DefenseChoice(NamedTuple):
    """Defense as flags name it: kinds and sites, as many, and levels of each."""

    kinds: tuple[str, ...]
    sites: tuple[str, ...]
    levels: tuple[tuple[float, ...], ...] | None


def choices(config: DefenseConfig) -> list[DefenseChoice]:
    """Returns every defense at every site, checked.

    Raises:
      UsageError: something is unknown, out of range, or does not fit together.
    """
    _check("threat_model", config.threat_model, list(THREATS))
    check_attackers(config.attacker, config.threat_model)
    for name in ("defense", "site", "level"):
        if getattr(config, name) == ():
            raise UsageError(f"{name}=: expected at least one.")
    found = []
    for defense, site in itertools.product(config.defense, config.site):
        kinds, sites = tuple(defense.strip().split("+")), tuple(site.strip().split("+"))
        _check("defense", [kind for kind in kinds if not own_code.is_spelled(kind)], KINDS, kinds)
        _check("site", sites, SITES)
        if len(sites) not in (1, len(kinds)):
            raise UsageError(f"site={site}: expected one site, or one for each of {defense}.")
        sites = sites * len(kinds) if len(sites) == 1 else sites
        levels = None
        if config.level is not None:
            levels = tuple(dict.fromkeys(_level(text, len(kinds)) for text in config.level))
        elif len(kinds) > 1:
            raise UsageError(f"level=: missing, for {defense} has none of its own.")
        choice = DefenseChoice(kinds, sites, levels)
        layer_at(family_of(choice, lambda kind, site: 1.0)[0].structure)
        found.append(choice)
    return list(dict.fromkeys(found))


def check_attackers(methods: Sequence[str], threats: Sequence[str]) -> None:
    """Checks that each method attacks by each threat model, and a user's own by one of them.

    Raises:
      UsageError: one does not, or there is none.
    """
    packaged = [method for method in methods if not own_code.is_spelled(method)]
    for threat in threats:
        _check("attacker", packaged, registry.methods(EXPERIMENT, threat), methods)
    for method in methods:
        if own_code.is_spelled(method) and registry.own(method).threat_model not in threats:
            needed = registry.own(method).threat_model
            raise UsageError(
                f"attacker={method}: attacks by threat_model={needed}, got {', '.join(threats)}."
            )


def _check(
    name: str, values: Sequence[str], allowed: Sequence[str], every: Sequence[str] | None = None
) -> None:
    """Refuses a value that is not allowed; and that there is none of `every`, by default values."""
    for value in values:
        if value not in allowed:
            raise UsageError(f"{name}={value}: expected {', '.join(allowed)}.")
    if not (values if every is None else every):
        raise UsageError(f"{name}=: expected {', '.join(allowed)}.")


def _level(text: str, count: int) -> tuple[float, ...]:
    parts = text.strip().split("+")
    try:
        numbers = tuple(spelling.number(part) for part in parts)
    except ValueError:
        numbers = ()
    if len(numbers) != count:
        wanted = "a number" if count == 1 else f"{count} numbers with + between"
        raise UsageError(f"level={text}: expected {wanted}.")
    return numbers


def family_of(choice: DefenseChoice, norm: Callable[[str, str], float]) -> list[Defense]:
    """Returns the defenses of a choice, which differ in their levels; clipping asks for `norm`."""
    mechanisms = [
        mechanism_of(kind, norm(kind, site) if kind == "clip" else 1.0)
        for kind, site in zip(choice.kinds, choice.sites, strict=True)
    ]
    levels = choice.levels or tuple((level,) for level in mechanisms[0].sweep)
    family = []
    for row in levels:
        defense = Defense()
        for mechanism, site, level in zip(mechanisms, choice.sites, row, strict=True):
            defense += mechanism.at(site, level)  # type: ignore[arg-type]
        family.append(defense)
    return family


def mechanism_of(kind: str, norm: float = 1.0) -> Mechanism:
    """Returns a mechanism by its name, or a user's own by its spelling.

    Args:
      kind: the name, one of `KINDS`, or `FILE.py:name`.
      norm: to which `clip` clips.

    Raises:
      UserError: there is none in that file, or its code fails.
    """
    if own_code.is_spelled(kind):
        return own.load(kind)
    return clipped_gaussian(norm) if kind == "clip" else MECHANISMS[kind]
