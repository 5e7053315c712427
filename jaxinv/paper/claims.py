"""The paper's sentences about defences, each tested on the records of ours."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from jaxinv.constants import paper
from jaxinv.paper.parts import Done
from jaxinv.store.fields import RecordedDefense
from jaxinv.store.record import AttackRecord


class _MeasuredClaim(NamedTuple):
    """Means that a sentence is about: SSIM, PSNR in dB, accuracy and what it lost, as shares."""

    ssim: float
    psnr: float
    accuracy: float
    loss: float


class _Claim(NamedTuple):
    """A sentence of the paper about a defence, and what decides it."""

    dataset: str
    split: str
    defense: RecordedDefense
    says: str
    holds: Callable[[_MeasuredClaim], bool]


_CLAIMS = [
    _Claim(
        "mnist",
        "relu2",
        RecordedDefense("gaussian", "feature", 0.8),
        "up to a deviation of 0.8 the attacker has SSIM > 0.4 and PSNR > 8.5 dB",
        lambda found: found.ssim > 0.4 and found.psnr > 8.5,
    ),
    _Claim(
        "mnist",
        "relu2",
        RecordedDefense("dropout", "feature", 0.6),
        "dropout of 0.6 leaves SSIM < 0.25, at an accuracy above 95%",
        lambda found: found.ssim < 0.25 and found.accuracy > 0.95,
    ),
    _Claim(
        "cifar10",
        "relu22",
        RecordedDefense("dropout", "feature", 0.6),
        "dropout of 0.6 leaves SSIM < 0.25, for less than 0.8 points of accuracy",
        lambda found: found.ssim < 0.25 and found.loss < 0.008,
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
                if (record.split, record.defense) == (claim.split, claim.defense):
                    found.append(
                        f"| {part.dataset} {claim.split}: {claim.says} | {record.method} | "
                        f"{record.accuracy:.4f} | {quality(record)} | {_verdict(claim, record)} |"
                    )
    if not found:
        return []
    return [
        "| the paper says of defences (Figs. 6 to 10) | attacker | accuracy | reconstructions |  |",
        "|---|---|---|---|---|",
        *found,
    ]


def _verdict(claim: _Claim, record: AttackRecord) -> str:
    """Returns whether a claim holds for an attack; one that diverged tells nothing."""
    ssim, psnr, accuracy = record.ssim_mean, record.psnr_mean, record.accuracy
    before = record.accuracy_undefended
    if ssim is None or psnr is None or accuracy is None or before is None:
        return "diverged"
    measured = _MeasuredClaim(ssim, psnr, accuracy, before - accuracy)
    return "holds" if claim.holds(measured) else "does not hold"


def quality(record: AttackRecord) -> str:
    """Returns mean PSNR with half its interval, and mean SSIM, as a cell of a table."""
    if record.psnr_mean is None:
        return "diverged"
    return f"{record.psnr_mean:.2f} ± {paper.spread(record):.2f} / {record.ssim_mean:.3f}"
