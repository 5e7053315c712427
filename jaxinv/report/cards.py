"""Cards of threat models: what attackers are handed, and what each run was. Standard library."""

import re
import shlex
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from jaxinv.report import findings
from jaxinv.report.results import Attack
from jaxinv.report.values import (
    MISSING,
    count,
    items,
    listed,
    mapping,
    number,
    percent,
    span,
    text,
    unit,
)

Pairs = list[tuple[str, str]]


class Card(NamedTuple):
    """What was known and done, as pairs of a term and its text."""

    number: int
    title: str
    pairs: Pairs
    command: str = ""


def threats(attacks: Iterable[Attack]) -> list[Card]:
    """A card for each attacker: what it is handed, and how often it attacked."""
    groups: dict[str, list[Attack]] = {}
    for own in findings.by_threat(attacks).values():
        for each in sorted(own, key=lambda each: (each.method != "paper", each.method)):
            groups.setdefault(each.attacker, []).append(each)
    cards = []
    for attacker, own in groups.items():
        known = dict.fromkeys(text(each.record["attacker_knowledge"], MISSING) for each in own)
        queries = [found for each in own if (found := count(each.record.get("queries")))]
        pairs = [("Is handed", "; or ".join(known))]
        if queries:
            pairs.append(("Queries", span(queries)))
        pairs.append(("Learns from", listed(list(dict.fromkeys(map(_surrogate, own))))))
        pairs.append(("Attacked", f"{len(own)} time{'s' * (len(own) > 1)}: {_counted(own)}"))
        cards.append(Card(own[0].number, attacker, pairs))
    return cards


def _counted(own: Sequence[Attack]) -> str:
    defended = sum(not each.defense.is_none for each in own)
    kinds = {"undefended": len(own) - defended, "defended": defended}
    datasets = listed(sorted({each.dataset for each in own}))
    return f"{listed([f'{n} {kind}' for kind, n in kinds.items() if n])} ({datasets})"


def _surrogate(attack: Attack) -> str:
    kinds = {
        "attacker": "images of its own",
        "same": "the target's training images",
        "none": "no images",
    }
    found = text(attack.record["surrogate"])
    return kinds.get(found, found or MISSING)


def card(attack: Attack) -> Card:
    """All that an attack was, in one place."""
    record = attack.record
    shadows = count(record.get("num_shadows"))
    seeds = attack.seed + (f"; {shadows} shadows" if shadows else "")
    draws = count(record.get("draws"))
    releases = f"{attack.releases} of each image seen"
    if draws and draws > 1:
        releases += f"; means over {draws} draws of the defence"
    pairs = [
        ("Is handed", text(record["attacker_knowledge"], MISSING)),
        ("Learns from", _surrogate(attack)),
        ("Queries", f"{queries:,}" if (queries := count(record.get("queries"))) else "none"),
        ("Defence", _defense(attack)),
        ("Releases", releases),
        (
            "Accuracy",
            f"{percent(attack.accuracy.mean, 2)} ({percent(attack.undefended, 2)} undefended)",
        ),
        ("Recovers", _recovers(attack)),
        (
            "Images",
            f"{attack.num_images or 0:,}" + f", {attack.diverged} diverged" * bool(attack.diverged),
        ),
        ("Seed", seeds),
        ("Time", _times(attack)),
        ("Device", attack.device or MISSING),
        ("Run", f"{attack.name}/"),
    ]
    title = f"{attack.dataset}, {attack.split}: {attack.attacker}, {attack.defense.words}"
    return Card(attack.number, title, pairs, command(attack))


def _defense(attack: Attack) -> str:
    if attack.defense.kind == "none":
        return "none"
    units = listed([text(each) for each in items(attack.record.get("level_units"))])
    retrained = f"; {attack.retrain} retrained" if attack.retrain != "none" else ""
    site, level = attack.defense.site, attack.defense.level
    return f"{attack.defense.kind} {level} ({units or 'level'}), {site}{retrained}"


def _recovers(attack: Attack) -> str:
    words = f"{findings.quality_words(attack)}"
    if attack.psnr.mean is None and attack.diverged:
        words = "nothing: all diverged"
    return words + (
        f"; re-identifies {percent(attack.reid.mean)}" if attack.reid.mean is not None else ""
    )


def _times(attack: Attack) -> str:
    parts = {"learning": "fit_s", "compiling": "compile_s", "attack": "attack_s"}
    values = {name: number(attack.record[key]) for name, key in parts.items()}
    return ", ".join(f"{name} {unit(value, 's')}" for name, value in values.items() if value)


def command(attack: Attack) -> str:
    """Returns the command that makes the run, from the flags in its record; "" if it has none.

    It is safe to paste into a shell, whatever the record holds.
    """
    flags = mapping(attack.record.get("flags"))
    parts = [f"--{name}={text(value)}" for name, value in flags.items()]
    return shlex.join(map(_printable, ["jaxinv", attack.experiment, *parts])) if flags else ""


def _printable(value: str) -> str:
    """Without control characters, which a terminal would act on."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", "?", value)
