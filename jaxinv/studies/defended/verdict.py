"""Verdicts on defenses from the records of all attacks on them. NumPy."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from jaxinv.constants.threats import THREATS, within
from jaxinv.constants.verdicts import FAILS, HOLDS, SPOILT, Verdict
from jaxinv.measures import verdicts
from jaxinv.measures.intervals import Ends
from jaxinv.measures.leaks import LEAKS
from jaxinv.store.fields import level_text
from jaxinv.store.record import AttackRecord
from jaxinv.studies.defended.known import release_key


def point(record: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Returns a row of a chart of trade-offs; `kind` is the name of the defense there."""
    keys = ("ssim_mean", "ssim_ci", "psnr_mean", "psnr_ci")
    defense = record["defense"]
    accuracy = {"value": record["accuracy"], "ci": record["accuracy_ci"]}  # of older records
    usable = record.get("usability") or accuracy
    return {
        "attacker": record["method"],
        "kind": kind,
        "site": defense["site"],
        "level": level_text(defense["level"]),
        "usability_mean": usable["value"],
        "usability_ci": usable["ci"],
        **{key: record[key] for key in keys},
    }


class Protection(NamedTuple):
    """The least loss of usability at which a defense holds every attacker of a threat model.

    Where no level holds, the one that comes nearest: an undecided one before one that fails.

    Attributes:
      defense: "kind, site".
      threat: what attackers know, or less: whoever knows more can do what they do.
      verdict: whether every attacker is held there.
      loss: of accuracy or other usability; None where it was not measured.
      ssim, reid: of the strongest attacker in each, None where all images diverged.
      ssim_ci, reid_ci: as `verdicts.greatest` computes them, of this `confidence`.
      spoilt: what makes the attacks prove nothing, in words.
      images_needed: how many images settle what is undecided; None if no number is known to.
    """

    split: str
    defense: str
    threat: str
    verdict: Verdict
    level: str
    loss: float | None
    ssim: float | None
    ssim_ci: Ends
    reid: float | None
    reid_ci: Ends
    images_needed: int | None
    confidence: float
    spoilt: tuple[str, ...]


Known = Mapping[str, Sequence[AttackRecord]]


def protection(
    finished: Sequence[AttackRecord], others: Known = MappingProxyType({})
) -> list[Protection]:
    """Finds the least loss of accuracy at which every attacker is held.

    All that attacked are held where the whole interval of the strongest is below `SAFE_SSIM` and
    `SAFE_REID` (`verdicts.safe`). An attack that diverged proves nothing. The least loss is chosen
    by looking, so that each of L levels is judged at 1 - 5% / L: all verdicts hold together.

    Args:
      finished: attacks, which tell the splits, defenses, levels and threat models.
      others: further attacks on the same releases, as `known.known` returns them.

    Returns:
      A verdict for each split, defense and threat model. On that of the white-box attackers those
      count, too, who know less, and so on.
    """
    groups: dict[tuple[str, str], dict[str, list[AttackRecord]]] = {}
    for record in finished:
        levels = groups.setdefault((record.split, record.defense.name + record.defense.code), {})
        levels.setdefault(record.defense.level_text, []).append(record)
    return [
        _least(threat, _within(threat, levels, others))
        for levels in groups.values()
        for threat in _threats(levels)
    ]


def _least(threat: str, levels: Sequence[Sequence[AttackRecord]]) -> Protection:
    """Returns the verdict on the level that protects at the least loss, or comes nearest."""
    sure = verdicts.confidence(len(levels))
    return min((_judged(threat, attacks, sure) for attacks in levels), key=_rank)


def _threats(levels: Mapping[str, Sequence[AttackRecord]]) -> list[str]:
    """Returns the threat models of attacks, the best informed first."""
    tried = {record.threat for attacks in levels.values() for record in attacks}
    return sorted(tried, key=lambda threat: [*THREATS, threat].index(threat))


def _within(
    threat: str, levels: Mapping[str, Sequence[AttackRecord]], others: Known
) -> list[list[AttackRecord]]:
    """Returns the attacks of a threat model on each level that has one, and by who knows less."""
    found = []
    for attacks in levels.values():
        every = {record.config_hash: record for record in [*attacks, *_beside(attacks[0], others)]}
        found.append([record for record in every.values() if record.threat in within(threat)])
    return [own for own in found if any(record.threat == threat for record in own)]


def _beside(record: AttackRecord, others: Known) -> Sequence[AttackRecord]:
    """Returns other attacks on the release that a record attacked."""
    if record.retrain != "none":
        return ()
    return others.get(release_key(record.split, msgspec.to_builtins(record.defense)), ())


def _judged(threat: str, attacks: Sequence[AttackRecord], sure: float) -> Protection:
    """Returns the verdict on one level."""
    defense = attacks[0].defense
    usable = attacks[0].usable
    before, behind = usable.value_undefended, usable.value
    ends = [verdicts.greatest(attacks, leak, sure) for leak in LEAKS]
    tops = [verdicts.highest(attacks, leak) for leak in LEAKS]
    return Protection(
        attacks[0].split,
        defense.name,
        threat,
        verdicts.safe(attacks, sure),
        defense.level_text,
        None if before is None or behind is None else before - behind,
        *(tops[0], ends[0], tops[1], ends[1]),
        verdicts.images_to_be_safe(attacks, sure),
        sure,
        tuple(SPOILT[name] for name, is_so in verdicts.spoilt(attacks).items() if is_so),
    )


def _rank(found: Protection) -> tuple[float, ...]:
    """Returns a rank: what holds, at the least loss; else what is undecided, or leaks least."""
    loss, *leaks = (
        math.inf if value is None else value for value in (found.loss, found.ssim, found.reid)
    )
    return (0, loss) if found.verdict == HOLDS else (1 + (found.verdict == FAILS), *leaks)
