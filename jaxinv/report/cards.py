"""Cards of threat models: what attackers are handed, and what each run was. Standard library."""

import shlex
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from jaxinv.report import findings
from jaxinv.report.results import ShownAttack
from jaxinv.report.values import MISSING, listed, percent, span, unit

Pairs = list[tuple[str, str]]


class Card(NamedTuple):
    """A threat model or a run, as pairs of a term and its text."""

    number: int
    title: str
    pairs: Pairs
    command: str = ""


def threats(attacks: Iterable[ShownAttack]) -> list[Card]:
    """A card for each attacker: what it is handed, and how often it attacked."""
    groups: dict[str, list[ShownAttack]] = {}
    for own in findings.by_threat(attacks).values():
        for each in sorted(own, key=lambda each: (each.method != "paper", each.method)):
            groups.setdefault(each.attacker, []).append(each)
    cards = []
    for attacker, own in groups.items():
        known = dict.fromkeys(each.record.attacker_knowledge or MISSING for each in own)
        queries = [found for each in own if (found := each.record.queries) is not None]
        pairs = [("Is handed", "; or ".join(known))]
        if queries:
            pairs.append(("Queries", span(queries)))
        pairs.append(("Learns from", listed(list(dict.fromkeys(map(_surrogate, own))))))
        pairs.append(("Attacked", f"{len(own)} time{'s' * (len(own) > 1)}: {_counted(own)}"))
        cards.append(Card(own[0].number, attacker, pairs))
    return cards


def _counted(own: Sequence[ShownAttack]) -> str:
    defended = sum(not each.defense.is_none for each in own)
    kinds = {"undefended": len(own) - defended, "defended": defended}
    datasets = listed(sorted({each.dataset for each in own}))
    return f"{listed([f'{n} {kind}' for kind, n in kinds.items() if n])} ({datasets})"


def _surrogate(attack: ShownAttack) -> str:
    kinds = {
        "attacker": "images of its own",
        "same": "the target's training images",
        "none": "no images",
    }
    found, count = attack.record.surrogate, attack.record.surrogate_images
    words = kinds.get(found, found or MISSING)
    return words if count is None else f"{words} ({count:,})"


def card(attack: ShownAttack) -> Card:
    """All that an attack was, in one place."""
    record, usable = attack.record, attack.record.usable
    seeds = attack.seed + (f"; {record.num_shadows} shadows" if record.num_shadows else "")
    releases = f"{attack.releases} of each image seen"
    if record.draws > 1:
        releases += f"; means over {record.draws} draws of the defence"
    pairs = [
        ("Is handed", record.attacker_knowledge or MISSING),
        ("Learns from", _surrogate(attack)),
        ("Queries", "none" if record.queries is None else f"{record.queries:,}"),
        ("Defence", _defense(attack)),
        ("Releases", releases),
        (
            usable.kind.capitalize(),
            f"{percent(usable.value, 2)} ({percent(usable.value_undefended, 2)} undefended)",
        ),
        ("Recovers", _recovers(attack)),
        (
            "Images",
            f"{attack.images}{_spoilt(attack)}",
        ),
        *([("In the way", record.obstacles.words)] if record.obstacles else []),
        ("Seed", seeds),
        ("Time", _times(attack)),
        ("Device", record.device or MISSING),
        ("Run", f"{attack.name}/"),
    ]
    title = f"{attack.dataset}, {attack.split}: {attack.attacker}, {attack.defense.words}"
    return Card(attack.number, title, pairs, command(attack))


def _spoilt(attack: ShownAttack) -> str:
    """Tells how many images diverged, and how many did not move from their start."""
    counts = {"diverged": attack.diverged, "did not move from the start": attack.record.dead}
    return "".join(f", {count} {words}" for words, count in counts.items() if count)


def _defense(attack: ShownAttack) -> str:
    if attack.defense.kind == "none":
        return "none"
    units = listed(attack.record.level_units)
    retrained = f"; {attack.retrain} retrained" if attack.retrain != "none" else ""
    site, level = attack.defense.site, attack.defense.level_text
    return f"{attack.defense.kind} {level} ({units or 'level'}), {site}{retrained}"


def _recovers(attack: ShownAttack) -> str:
    words = f"{findings.quality_words(attack)}"
    if attack.psnr.mean is None and attack.diverged:
        words = "nothing: all diverged"
    return words + (
        f"; re-identifies {percent(attack.reid.mean)}" if attack.reid.mean is not None else ""
    )


def _times(attack: ShownAttack) -> str:
    record = attack.record
    values = {"learning": record.fit_s, "compiling": record.compile_s, "attack": record.attack_s}
    return ", ".join(
        f"{name} {unit(value, 's')}" for name, value in values.items() if value is not None
    )


def command(attack: ShownAttack) -> str:
    """Returns the command that makes the run, from the flags in its record; "" if it has none.

    It is safe to paste into a shell, whatever the record holds.
    """
    flags = attack.record.flags
    parts = [f"--{name}={value}" for name, value in flags.items()]
    return shlex.join(["jaxinv", attack.experiment, *parts]) if flags else ""
