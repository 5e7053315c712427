"""Findings over many attacks: the strongest, the defences that hold, curves. NumPy.

The strongest of several attacks is the one with the highest SSIM: that is what a device has to
reckon with.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from jaxinv.constants import paper, trained
from jaxinv.constants.verdicts import HOLDS, SAFE_REID, SAFE_SSIM, UNDECIDED, Verdict
from jaxinv.measures import verdicts
from jaxinv.report.results import ShownAttack, in_order, strongest, threat_rank
from jaxinv.report.values import fixed, interval, percent, points
from jaxinv.store.record import AttackRecord

NEAR = 0.05
"""Loss of usability up to which a defence is looked at in the summary."""

_KINDS = (
    *("dropout", "gaussian", "laplace", "quantize", "prune", "project", "clip"),
    *trained.NAMES,
)


class Reach(NamedTuple):
    """Reach of one threat model against undefended splits of a dataset."""

    threat: str
    best: ShownAttack
    deepest: ShownAttack


def reaches(attacks: Iterable[ShownAttack]) -> list[Reach]:
    """Finds the strongest attack of each threat model, and that at its deepest cut."""
    found = []
    for threat, own in by_threat(each for each in attacks if each.defense.is_none).items():
        last = in_order(own)[-1]
        best, deepest = strongest(own), strongest([each for each in own if each.split == last])
        if best and deepest:
            found.append(Reach(threat, best, deepest))
    return found


def by_threat(attacks: Iterable[ShownAttack]) -> dict[str, list[ShownAttack]]:
    """Attacks by threat model, the best informed first."""
    groups: dict[str, list[ShownAttack]] = {}
    for each in sorted(attacks, key=lambda each: threat_rank(each.threat)):
        groups.setdefault(each.threat, []).append(each)
    return groups


class Nearest(NamedTuple):
    """A setting that is not shown to hold: the strongest attack on it, and what would settle it."""

    best: ShownAttack
    verdict: Verdict
    images_needed: int | None


class Defended(NamedTuple):
    """Results of defences against attackers who know them, the strongest of each setting.

    Attributes:
      settings: defences at a level and a cut that such an attacker attacked, of one dataset.
      held: those that are shown to hold all who attacked, the smallest loss of usability first. Of
        S settings each is judged at 1 - 5% / S: that none of them is wrong, all together.
      undecided: how many are neither shown to hold them nor not to.
      nearest: where none holds, the one that comes nearest; else None.
      near: of those that cost at most `NEAR` of usability, the one that leaves least; or None.
    """

    settings: int
    held: list[ShownAttack]
    undecided: int
    nearest: Nearest | None
    near: ShownAttack | None


def defended(attacks: Iterable[ShownAttack]) -> Defended:
    """Looks at defences that were attacked by more than the paper's attackers, who ignore them."""
    groups: dict[tuple[object, ...], list[ShownAttack]] = {}
    for each in attacks:
        if not each.defense.is_none:
            groups.setdefault(each.setting, []).append(each)
    tried = [own for own in groups.values() if any(each.method != "paper" for each in own)]
    sure = verdicts.confidence(len(tried))
    worst = [(own, verdicts.safe(_records(own), sure), strongest(own)) for own in tried]
    held = [best for _, verdict, best in worst if best and verdict == HOLDS]
    close = [best for *_, best in worst if best and best.loss is not None and best.loss <= NEAR]
    return Defended(
        len(tried),
        sorted(held, key=lambda each: _or_worst(each.loss)),
        sum(verdict == UNDECIDED for _, verdict, _ in worst),
        None if held else _nearest(worst, sure),
        min(close, key=lambda each: each.ssim.or_nothing, default=None),
    )


_Judged = tuple[list[ShownAttack], Verdict, ShownAttack | None]


def _nearest(worst: Sequence[_Judged], sure: float) -> Nearest | None:
    """Finds what is undecided, or leaks least."""
    known = [(own, verdict, best) for own, verdict, best in worst if best]
    if not known:
        return None
    own, verdict, best = min(
        known, key=lambda item: (item[1] != UNDECIDED, item[2].ssim.or_nothing, item[2].number)
    )
    return Nearest(best, verdict, verdicts.images_to_be_safe(_records(own), sure))


def _records(own: Sequence[ShownAttack]) -> list[AttackRecord]:
    return [each.record for each in own]


def _or_worst(*values: float | None) -> float:
    return next((value for value in values if value is not None), float("inf"))


def defended_words(found: Defended) -> str:
    """Tells the result of `defended` in a sentence or two."""
    tried = f"{found.settings} defended setting{'s' * (found.settings != 1)}"
    limits = f"SSIM {SAFE_SSIM:g} and {SAFE_REID:.0%} re-identification"
    if found.held:
        best, many = found.held[0], len(found.held) != 1
        words = (
            f"Of {tried} that attackers who know the defence have tried, {len(found.held)} "
            f"{'are' if many else 'is'} shown to keep everybody below {limits}; the cheapest is "
            f"{best.defense.words} ({best.split}), which costs {points(best.loss)} of "
            f"{best.usability_kind}."
        )
    else:
        none = "No defended setting" if found.settings == 1 else f"None of {tried}"
        words = (
            f"{none} that attackers who know the defence have tried is shown to keep "
            f"everybody below {limits}{_nearest_words(found.nearest)}."
        )
    if found.undecided:
        be = "is" if found.undecided == 1 else "are"
        words += (
            f" {found.undecided} {be} undecided: the limits lie within intervals that hold for all "
            "settings together in 95% of cases."
        )
    if found.near:
        near = found.near
        words += (
            f" At no more than {NEAR:.0%} loss of {near.usability_kind}, {near.defense.words} "
            f"({near.split}) leaves the strongest attacker ({near.attacker}) least: "
            f"{quality_words(near)}."
        )
    return words


def _nearest_words(found: Nearest | None) -> str:
    """Tells which setting comes nearest, and how many images would settle it."""
    if found is None:
        return ""
    best, count = found.best, found.images_needed
    ssim = " ".join(filter(None, [fixed(best.ssim.mean, 3), interval(best.ssim, 3)]))
    words = (
        f"; {best.defense.words} ({best.split}) comes nearest: {best.attacker} gets SSIM {ssim} "
        f"and re-identifies {percent(best.reid.mean)}"
    )
    return words + (f", and {count:,} images would settle it" if count is not None else "")


def quality_words(attack: ShownAttack) -> str:
    """`23.0 dB, SSIM 0.911`, or of series and tables `RMSE 0.039, SSIM 0.911`."""
    if attack.record.rmse_mean is not None:
        return f"RMSE {fixed(attack.record.rmse_mean, 3)}, SSIM {fixed(attack.ssim.mean, 3)}"
    return f"{fixed(attack.psnr.mean, 1)} dB, SSIM {fixed(attack.ssim.mean, 3)}"


# --- Tables and curves --------------------------------------------------------------------------


def against_paper(attacks: Iterable[ShownAttack]) -> list[ShownAttack]:
    """Undefended attacks of which the paper prints the quality, cut by cut."""
    return in_cuts(each for each in attacks if each.printed and each.defense.is_none)


def why_others(attacks: Iterable[ShownAttack]) -> dict[str, str]:
    """Tells why an attacker's quality differs from the paper's by more than its spread."""
    found: dict[str, str] = {}
    for each in attacks:
        if reason := paper.why(each.record):
            found.setdefault(each.attacker, reason)
    return found


def in_cuts(attacks: Iterable[ShownAttack]) -> list[ShownAttack]:
    """Sorted by dataset, cut and attacker."""
    return sorted(
        attacks,
        key=lambda each: (each.dataset, each.place, each.split, each.attacker_rank, each.number),
    )


def best_of_splits(attacks: Iterable[ShownAttack]) -> list[ShownAttack]:
    """Finds the strongest undefended attack of each cut and attacker, in order of cuts."""
    groups: dict[tuple[str, ...], list[ShownAttack]] = {}
    for each in attacks:
        if each.defense.is_none:
            groups.setdefault((each.dataset, each.split, each.attacker), []).append(each)
    return in_cuts(found for own in groups.values() if (found := strongest(own)))


class Line(NamedTuple):
    """A defence at its levels, lowest first, attacked in one way. `name` tells it from others."""

    name: str
    kind: str
    site: str
    method: str
    attacks: list[ShownAttack]


class Tradeoff(NamedTuple):
    """Lines of one dataset, cut and threat model."""

    dataset: str
    split: str
    threat: str
    lines: list[Line]


def tradeoffs(attacks: Iterable[ShownAttack]) -> list[Tradeoff]:
    """Groups the attacks on defences; what has one level only is a line of one point."""
    groups: dict[tuple[str, str, str], dict[tuple[Any, ...], list[ShownAttack]]] = {}
    for each in attacks:
        if each.defense.kind == "none" or each.usability.mean is None:
            continue
        defense = each.defense
        line = (defense.kind, defense.site, each.method, _extras(each), each.images, each.seed)
        group = groups.setdefault((each.dataset, each.split, each.threat), {})
        group.setdefault(line, []).append(each)
    first = {key: next(iter(lines.values()))[0] for key, lines in groups.items()}
    rank = sorted(groups, key=lambda key: (key[0], first[key].place, threat_rank(key[2]), key[1]))
    return [
        Tradeoff(
            *key,
            [
                Line(
                    f"{kind}, {site}{extras}",
                    kind,
                    site,
                    method,
                    sorted(own, key=lambda each: each.defense.levels),
                )
                for (kind, site, method, extras, *_), own in sorted(
                    groups[key].items(), key=lambda item: _kind_rank(item[0][0])
                )
            ],
        )
        for key in rank
    ]


def _kind_rank(kind: str) -> tuple[int, str]:
    return (_KINDS.index(kind) if kind in _KINDS else len(_KINDS), kind)


def _extras(attack: ShownAttack) -> str:
    retrained = "" if attack.retrain == "none" else f", {attack.retrain} retrained"
    if attack.defense.trained:  # it is nothing but training
        retrained = ""
    return retrained + (f", {attack.releases} releases" if attack.releases > 1 else "")
