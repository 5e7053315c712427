"""Settings of a leaderboard, and the defences that enter it. NumPy."""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

from jaxinv.constants.halves import REPORT
from jaxinv.defenses import MECHANISMS, TRAINED, Mechanism, layer_at
from jaxinv.errors import UsageError
from jaxinv.machine import own_code
from jaxinv.studies import spelling
from jaxinv.studies.config import AttackConfig, number_of_images
from jaxinv.studies.defended.choices import (
    DefenseChoice,
    DefenseConfig,
    family_of,
    mechanism_of,
)
from jaxinv.studies.experiment import setting, settings_of
from jaxinv.training import retraining

_SHARED = ("threat_model", "retrain_steps", "fit_steps", "shadow_steps", "correction")
_TEXTS = {name: settings_of(DefenseConfig)[name].text for name in _SHARED}

PLAIN = ("gaussian", "dropout", "quantize", "prune")


@dataclasses.dataclass(frozen=True)
class LeaderboardConfig(AttackConfig):
    """Settings of a leaderboard, at one or several cuts."""

    split: tuple[str, ...] = ("relu2",)
    usual_images: ClassVar[int] = 100
    num_images: int | None = number_of_images(usual_images)
    defense: tuple[str, ...] = setting(
        (*(mechanism.name for mechanism in TRAINED), *PLAIN),
        "Defences at the features, whose level is searched: one or several of "
        f"{', '.join(MECHANISMS)}. Others stand behind with levels of their own: cem+gaussian:0.5 "
        "searches that of cem. One of your own: FILE.py:name. Targets are trained on behind all of "
        "them.",
    )
    loss: tuple[float, ...] = setting(
        (1.0, 2.0, 5.0),
        "Points of accuracy that defences may cost: each is searched for levels that cost as much.",
        least=0,
        most=100,
    )
    seeds: int = setting(3, "Trainings of each defence, by seeds from --seed.")
    attacker: tuple[str, ...] = setting(
        ("paper", "adaptive"),
        "Attackers, as in defenses: paper, adaptive, and any of your own, FILE.py:name.",
    )
    threat_model: tuple[str, ...] = setting(("whitebox", "blackbox"), _TEXTS["threat_model"])
    retrain_steps: int = setting(retraining.STEPS, _TEXTS["retrain_steps"])
    fit_steps: int | None = setting(None, _TEXTS["fit_steps"])
    shadow_steps: int | None = setting(None, _TEXTS["shadow_steps"])
    correction: bool = setting(False, _TEXTS["correction"])

    @property
    def half(self) -> str:
        return REPORT

    @property
    def method_name(self) -> str:
        return "-".join(self.attacker)

    def attacks(self, **changes: Any) -> DefenseConfig:
        """Returns the settings of attacks, and of the deployments that they attack."""
        shared = {field.name for field in dataclasses.fields(self)}
        shared &= {field.name for field in dataclasses.fields(DefenseConfig)}
        own = {name: getattr(self, name) for name in shared}
        own |= {"draws": 1, "retrain": "both", "test_images": self.half, "json": False}
        return DefenseConfig(**{**own, **changes})


class Entry(NamedTuple):
    """A defence that enters a leaderboard.

    Attributes:
      text: as the flag names it.
      kinds: its mechanisms; the level of the first is searched.
      others: levels of the others.
    """

    text: str
    kinds: tuple[str, ...]
    others: tuple[float, ...]

    @property
    def mechanism(self) -> Mechanism:
        """The mechanism whose level is searched."""
        return mechanism_of(self.kinds[0])

    def at(self, levels: Sequence[float]) -> DefenseChoice:
        """Returns the defence at some levels, as experiments name it."""
        rows = tuple((float(level), *self.others) for level in levels)
        return DefenseChoice(self.kinds, ("feature",) * len(self.kinds), rows)


def entries(config: LeaderboardConfig) -> list[Entry]:
    """Returns the defences, checked.

    Raises:
      UsageError: one is unknown, or its levels do not fit.
    """
    if not config.defense:
        raise UsageError("defense=: expected at least one.")
    if not config.loss:
        raise UsageError("loss=: expected at least one number of points.")
    return [_entry(text) for text in dict.fromkeys(text.strip() for text in config.defense)]


def _entry(text: str) -> Entry:
    names, _, levels = text.rpartition(":")
    if not names or (own_code.is_spelled(text) and not _is_numbers(levels)):
        names, levels = text, ""
    kinds = tuple(names.split("+"))
    for kind in kinds:
        if kind not in MECHANISMS and not own_code.is_spelled(kind):
            raise UsageError(f"defense={text}: expected {', '.join(MECHANISMS)}, not {kind}.")
    others = tuple(map(spelling.number, levels.split("+"))) if levels else ()
    if len(others) != len(kinds) - 1:
        wanted = "no level" if len(kinds) == 1 else f"{len(kinds) - 1} levels of {names}"
        raise UsageError(
            f"defense={text}: expected {wanted} behind a colon; that of {kinds[0]} is searched."
        )
    entry = Entry(text, kinds, others)
    if sum(level > 0 for level in entry.mechanism.sweep) < 2:
        raise UsageError(
            f"defense={text}: {entry.mechanism.name} sweeps fewer than two levels above 0."
        )
    family = family_of(entry.at([_weakest(entry.mechanism)]), lambda kind, site: 1.0)
    layer_at(family[0].structure)
    return entry


def _is_numbers(text: str) -> bool:
    try:
        return all(spelling.number(part) is not None for part in text.split("+"))
    except ValueError:
        return False


def _weakest(mechanism: Mechanism) -> float:
    return next(level for level in mechanism.sweep if level)
