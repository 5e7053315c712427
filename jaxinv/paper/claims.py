"""The paper's sentences about defences, each tested on the records of ours."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from msgspec import structs

from jaxinv.constants import paper
from jaxinv.constants.verdicts import FAILS, HOLDS, UNDECIDED, Verdict
from jaxinv.look.text import markdown
from jaxinv.measures.intervals import Ends
from jaxinv.measures.verdicts import at_least, at_most, together
from jaxinv.paper.parts import Done
from jaxinv.store.fields import RecordedDefense
from jaxinv.store.record import AttackRecord


class _MeasuredClaim(NamedTuple):
    """Intervals of SSIM, PSNR in dB, accuracy and what it lost, as shares."""

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


def _verdict(claim: _Claim, record: AttackRecord) -> str:
    """Returns whether a claim holds for an attack, by whole 95% intervals.

    An attack that diverged, or did not move from its start, tells nothing. What is lost counts from
    the undefended accuracy as it was measured, on the same images.
    """
    if record.ssim_mean is None or record.psnr_mean is None:
        return "diverged"
    if record.dead:
        return "dead start"
    before, (low, high) = record.accuracy_undefended, record.accuracy_ci
    loss = Ends()
    if before is not None and low is not None and high is not None:
        loss = Ends(before - high, before - low)
    measured = _MeasuredClaim(
        Ends(*record.ssim_ci), Ends(*record.psnr_ci), Ends(*record.accuracy_ci), loss
    )
    return _WORDS[together(claim.judged(measured))]


_WORDS = {HOLDS: "holds", FAILS: "does not hold", UNDECIDED: "undecided"}


def quality(record: AttackRecord) -> str:
    """Returns mean PSNR with half its interval, and mean SSIM, as a cell of a table."""
    if record.psnr_mean is None:
        return "diverged"
    spread = paper.spread(record)
    told = "" if math.isnan(spread) else f" ± {spread:.2f}"
    return f"{record.psnr_mean:.2f}{told} / {fixed(record.ssim_mean, 3)}"


def fixed(value: float | None, digits: int = 4) -> str:
    """Returns a number with so many digits behind the point; a dash for None."""
    return "-" if value is None else f"{value:.{digits}f}"
