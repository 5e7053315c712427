"""Verdicts on defenses from the records of all attacks on them. NumPy."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxinv.constants.verdicts import FAILS, HOLDS, Verdict
from jaxinv.measures import verdicts
from jaxinv.measures.intervals import Ends
from jaxinv.store.fields import level_text
from jaxinv.store.record import AttackRecord


def point(record: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Returns a row of a chart of trade-offs; `kind` is the name of the defense there."""
    keys = ("accuracy", "accuracy_ci", "ssim_mean", "ssim_ci", "psnr_mean", "psnr_ci")
    defense = record["defense"]
    return {
        "attacker": record["method"],
        "kind": kind,
        "site": defense["site"],
        "level": level_text(defense["level"]),
        **{key: record[key] for key in keys},
    }


class Protection(NamedTuple):
    """The least loss of accuracy at which a defense holds every attacker at a split.

    Where no level holds, the one that comes nearest: an undecided one before one that fails.

    Attributes:
      defense: "kind, site".
      verdict: whether every attacker is held there.
      loss: of accuracy, a share; None where accuracy was not measured.
      ssim, reid: of the strongest attacker in each, None where all images diverged.
      ssim_ci, reid_ci: as `verdicts.greatest` computes them.
      images_needed: how many images settle what is undecided; None if no number is known to.
    """

    split: str
    defense: str
    verdict: Verdict
    level: str
    loss: float | None
    ssim: float | None
    ssim_ci: Ends
    reid: float | None
    reid_ci: Ends
    images_needed: int | None


def protection(finished: Sequence[AttackRecord]) -> list[Protection]:
    """Finds the least loss of accuracy at which every attacker is held, by split and defense.

    All that attacked are held where the whole interval of the strongest is below `SAFE_SSIM` and
    `SAFE_REID` (`verdicts.safe`). An attack that diverged proves nothing.
    """
    groups: dict[tuple[str, str], dict[str, list[AttackRecord]]] = {}
    for record in finished:
        levels = groups.setdefault((record.split, record.defense.name), {})
        levels.setdefault(record.defense.level_text, []).append(record)
    return [
        min((_judged(split, name, *item) for item in levels.items()), key=_rank)
        for (split, name), levels in groups.items()
    ]


def _judged(split: str, name: str, level: str, attacks: Sequence[AttackRecord]) -> Protection:
    """Returns the verdict on one level."""
    before, behind = attacks[0].accuracy_undefended, attacks[0].accuracy
    ends = [verdicts.greatest(attacks, leak) for leak in verdicts.LEAKS]
    tops = [verdicts.highest(attacks, leak) for leak in verdicts.LEAKS]
    return Protection(
        split,
        name,
        verdicts.safe(attacks),
        level,
        None if before is None or behind is None else before - behind,
        *(tops[0], ends[0], tops[1], ends[1]),
        verdicts.images_to_be_safe(attacks),
    )


def _rank(found: Protection) -> tuple[float, ...]:
    """Returns a rank: what holds, at the least loss; else what is undecided, or leaks least."""
    loss, *leaks = (
        math.inf if value is None else value for value in (found.loss, found.ssim, found.reid)
    )
    return (0, loss) if found.verdict == HOLDS else (1 + (found.verdict == FAILS), *leaks)
