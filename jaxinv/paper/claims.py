"""The paper's sentences about defences and its advice, each tested on the records of ours."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from msgspec import structs

from jaxinv.constants import paper
from jaxinv.constants.threats import THREATS, within
from jaxinv.constants.verdicts import FAILS, HOLDS, UNDECIDED, Verdict
from jaxinv.look.text import markdown
from jaxinv.measures import verdicts
from jaxinv.measures.intervals import Ends, told
from jaxinv.measures.leaks import PSNR, REID, SSIM
from jaxinv.measures.verdicts import at_least, at_most, together
from jaxinv.paper.parts import Done
from jaxinv.store.fields import RecordedDefense
from jaxinv.store.record import AttackRecord


class _MeasuredClaim(NamedTuple):
    """Intervals of SSIM and PSNR in dB by the best way, of accuracy and what it lost, as shares."""

    ssim: Ends
    psnr: Ends
    accuracy: Ends
    loss: Ends


class _Claim(NamedTuple):
    """A sentence of the paper about a defence, and what decides it."""

    dataset: str
    split: str
    defense: RecordedDefense
    says: str
    judged: Callable[[_MeasuredClaim], list[Verdict]]


_CLAIMS = [
    _Claim(
        "mnist",
        "relu2",
        RecordedDefense("gaussian", "feature", 0.8),
        "up to a deviation of 0.8 the attacker has SSIM > 0.4 and PSNR > 8.5 dB",
        lambda found: [at_least(found.ssim, 0.4), at_least(found.psnr, 8.5)],
    ),
    _Claim(
        "mnist",
        "relu2",
        RecordedDefense("dropout", "feature", 0.6),
        "dropout of 0.6 leaves SSIM < 0.25, at an accuracy above 95%",
        lambda found: [at_most(found.ssim, 0.25), at_least(found.accuracy, 0.95)],
    ),
    _Claim(
        "cifar10",
        "relu22",
        RecordedDefense("dropout", "feature", 0.6),
        "dropout of 0.6 leaves SSIM < 0.25, for less than 0.8 points of accuracy",
        lambda found: [at_most(found.ssim, 0.25), at_most(found.loss, 0.008)],
    ),
]


def rows(done: Sequence[Done]) -> list[str]:
    """Returns a Markdown table of the claims, against each attacker; nothing without records."""
    found = []
    for claim in _CLAIMS:
        for part, own in done:
            if part.name != "defenses" or part.dataset.removesuffix("_5k") != claim.dataset:
                continue
            for record in own:
                defense = structs.replace(record.defense, grid=None)  # the paper has none
                if (record.split, defense) == (claim.split, claim.defense):
                    cells = (
                        f"{part.dataset} {claim.split}: {claim.says}",
                        markdown(record.method),
                        fixed(record.accuracy),
                        quality(record),
                        _verdict(claim, record),
                    )
                    found.append(f"| {' | '.join(cells)} |")
    if not found:
        return []
    return [
        "| the paper says of defences (Figs. 6 to 10) | attacker | accuracy | reconstructions |  |",
        "|---|---|---|---|---|",
        *found,
    ]


_ADVISED = "fc1"  # the first fully connected layer of LeNet-5


def advice(done: Sequence[Done]) -> list[str]:
    """Returns a Markdown table of the paper's advice, by threat model; nothing without records.

    A fully connected layer on the edge is said to protect, which the paper argues from query-free
    attackers. It does where all attacks that a threat model allows stay below `SAFE_SSIM` and
    `SAFE_REID`; without one of its own that is not known.
    Source: He, Zhang & Lee 2021, section IV-C.
    """
    found = []
    for dataset in dict.fromkeys(part.dataset for part, _ in done):
        for threat, name in THREATS.items():
            attacks = [
                record
                for part, own in done
                if part.dataset == dataset and part.script in within(threat)
                for record in own
                if record.split == _ADVISED
            ]
            if attacks:
                own = any(record.threat == threat for record in attacks)
                cells = _advised(attacks) if own else f"- | - | 0 | {UNDECIDED}"
                found.append(f"| {dataset} {_ADVISED} | {name} | {cells} |")
    if not found:
        return []
    return [
        "| the paper advises a fully connected layer on the edge | attackers | SSIM "
        "| re-identified | images | it protects |",
        "|---|---|---|---|---|---|",
        *found,
    ]


def _advised(attacks: Sequence[AttackRecord]) -> str:
    """Returns the worst that attacks do, with intervals, on how many images, and the verdict."""
    worst = [
        told(verdicts.highest(attacks, leak), verdicts.greatest(attacks, leak), form)
        for leak, form in ((SSIM, ".3f"), (REID, ".1%"))
    ]
    images = " and ".join(dict.fromkeys(f"{record.num_images:,}" for record in attacks))
    return " | ".join([*worst, images, _WORDS[verdicts.safe(attacks)]])


def _verdict(claim: _Claim, record: AttackRecord) -> str:
    """Returns whether a claim holds for an attack, by whole 95% intervals.

    An attack that diverged, or did not move from its start, tells nothing. What is lost counts from
    the undefended accuracy as it was measured, on the same images.
    """
    if record.has_diverged:
        return "diverged"
    if record.dead:
        return "dead start"
    before, (low, high) = record.accuracy_undefended, record.accuracy_ci
    loss = Ends()
    if before is not None and low is not None and high is not None:
        loss = Ends(before - high, before - low)
    measured = _MeasuredClaim(
        verdicts.greatest([record], SSIM),
        verdicts.greatest([record], PSNR),
        Ends(*record.accuracy_ci),
        loss,
    )
    return _WORDS[together(claim.judged(measured))]


_WORDS = {HOLDS: "holds", FAILS: "does not hold", UNDECIDED: "undecided"}


def quality(record: AttackRecord) -> str:
    """Returns mean PSNR with half its interval, and mean SSIM, as a cell of a table."""
    if record.psnr_mean is None:
        return "diverged"
    spread = paper.spread(record)
    reach = "" if math.isnan(spread) else f" ± {spread:.2f}"
    return f"{record.psnr_mean:.2f}{reach} / {fixed(record.ssim_mean, 3)}"


def fixed(value: float | None, digits: int = 4) -> str:
    """Returns a number with so many digits behind the point; a dash for None."""
    return "-" if value is None else f"{value:.{digits}f}"
