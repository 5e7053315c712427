"""The page's charts: rows from checked records, drawn as the charts of runs are.

A value that a record lacks is null in a row, and a tooltip's text for it is a dash.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxinv.constants.kinds import IMAGE
from jaxinv.constants.threats import THREATS
from jaxinv.constants.verdicts import SAFE_SSIM
from jaxinv.look.charts import choices, splits, style
from jaxinv.look.charts import tradeoff as tradeoff_chart
from jaxinv.report import advice, findings
from jaxinv.report.findings import Tradeoff
from jaxinv.report.results import Choice, Partition, ShownAttack, in_order
from jaxinv.report.values import MISSING, Measure, fixed, percent, unit

_ATTACKERS = {
    "paper": "paper: the authors' attack, which ignores the defence",
    "adaptive": "adaptive: knows the defence and its level",
}


def chosen(partition: Partition, title: str) -> style.Figure | None:
    """Returns what each choice leaves to the strongest attacker, its usability and its costs."""
    rows = [_choice(each, partition) for each in partition.choices]
    told = [key for key in rows[0] if key[0].isupper()] if rows else []
    if not rows:
        return None
    measure = partition.choices[0].usability_kind
    figure = choices.figure(rows, title=title, tooltip=told, measure=measure)
    return figure._replace(kind=partition.kind)


def _choice(choice: Choice, partition: Partition) -> dict[str, Any]:
    defense = choice.defense
    return {
        "split": choice.split,
        "kind": "none" if defense.is_none else defense.kind,
        "defense": "none" if defense.is_none else defense.words,
        **_measures(usability=choice.usability, ssim=choice.ssim, reid=choice.reid),
        "latency_s": choice.latency_s,
        "energy_j": choice.energy_j,
        "pareto": choice.pareto,
        "meets": choice.meets,
        "recommended": choice in (partition.recommended, partition.recommended_split),
        "Choice": choice.name,
        choice.usability_kind.capitalize(): percent(choice.usability.mean, 2),
        "Latency": unit(choice.latency_s, "s"),
        "Energy": unit(choice.energy_j, "J"),
        "Memory": unit(choice.memory_bytes, "B"),
        "SSIM": fixed(choice.ssim.mean, 3),
        "Re-identified": percent(choice.reid.mean),
        "Attacker": choice.attacker or "none",
        "Constraints": advice.verdict(choice),
        "Worth having": "yes" if choice.pareto else "no",
    }


def tradeoff(found: Tradeoff) -> style.Figure | None:
    """Returns usability against SSIM and PSNR behind defences, a column for each attacker."""
    rows = [
        {
            "attacker": _ATTACKERS.get(line.method, line.method),
            "line": f"{line.name}, {number}",
            "kind": line.kind,
            "site": line.site if line.site in ("feature", "input") else "input+feature",
            "level": each.defense.level_text,
            **_measures(usability=each.usability, ssim=each.ssim, psnr=each.psnr),
            "Defence": line.name,
            "Level": each.defense.level_text,
            **_words(each),
        }
        for number, line in enumerate(sorted(found.lines, key=lambda line: line.method != "paper"))
        for each in line.attacks
        if not (each.ssim.mean is None and each.psnr.mean is None)
    ]
    threat = THREATS.get(found.threat, found.threat)
    title = f"{found.dataset}, {found.split}, {threat}"
    if not rows:
        return None
    measure = found.lines[0].attacks[0].usability_kind
    told = ("Defence", "Level", measure.capitalize(), "SSIM", "PSNR", "Re-identified")
    kind = found.lines[0].attacks[0].kind
    claims = (SAFE_SSIM if kind == IMAGE else None, None)
    figure = tradeoff_chart.figure(rows, title=title, claims=claims, tooltip=told, measure=measure)
    return figure._replace(kind=kind)


def quality(attacks: Sequence[ShownAttack], dataset: str) -> style.Figure | None:
    """Returns SSIM and PSNR at each cut, a line for each attacker, and the paper's numbers."""
    best = findings.best_of_splits(attacks)
    rows = [_attack(each) for each in sorted(best, key=lambda each: each.attacker_rank)]
    told = ("Attacker", "Split", "SSIM", "PSNR", "Images", "The paper prints")
    cuts = in_order(best)
    if not rows:
        return None
    figure = splits.figure(rows, cuts, title=f"{dataset}, undefended", tooltip=told)
    return figure._replace(kind=best[0].kind)


def _attack(each: ShownAttack) -> dict[str, Any]:
    psnr, ssim = each.printed or (None, None)
    words = "" if psnr is None else f"{psnr:.2f} dB, SSIM {ssim:.2f} ({each.threat}, {each.split})"
    return {
        "split": each.split,
        "attacker": each.attacker,
        "threat": each.threat,
        "method": each.method,
        **_measures(psnr=each.psnr, ssim=each.ssim),
        "psnr_printed": psnr,
        "ssim_printed": ssim,
        "Attacker": each.attacker,
        "Split": each.split,
        **_words(each),
        "Images": each.images,
        "The paper prints": words or MISSING,
    }


def _measures(**measures: Measure) -> Mapping[str, Any]:
    """Returns the means and intervals as records have them."""
    means = {f"{name}_mean": each.mean for name, each in measures.items()}
    return means | {f"{name}_ci": [each.low, each.high] for name, each in measures.items()}


def _words(each: ShownAttack) -> Mapping[str, str]:
    return {
        each.usability_kind.capitalize(): percent(each.usability.mean, 2),
        "SSIM": fixed(each.ssim.mean, 3),
        "PSNR": f"{fixed(each.psnr.mean, 1)} dB",
        "Re-identified": percent(each.reid.mean),
    }
