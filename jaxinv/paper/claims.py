"""The paper's sentences about defences, each tested on the records of ours."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from jaxinv.constants import paper
from jaxinv.paper.parts import Done, Record


class _Claim(NamedTuple):
    """A sentence of the paper about a defence, and what decides it."""

    dataset: str
    split: str
    kind: str
    site: str
    level: float
    says: str
    holds: Callable[[Record], bool]


_CLAIMS = [
    _Claim(
        "mnist",
        "relu2",
        "gaussian",
        "feature",
        0.8,
        "up to a deviation of 0.8 the attacker has SSIM > 0.4 and PSNR > 8.5 dB",
        lambda record: record["ssim_mean"] > 0.4 and record["psnr_mean"] > 8.5,
    ),
    _Claim(
        "mnist",
        "relu2",
        "dropout",
        "feature",
        0.6,
        "dropout of 0.6 leaves SSIM < 0.25, at an accuracy above 95%",
        lambda record: record["ssim_mean"] < 0.25 and record["accuracy"] > 0.95,
    ),
    _Claim(
        "cifar10",
        "relu22",
        "dropout",
        "feature",
        0.6,
        "dropout of 0.6 leaves SSIM < 0.25, for less than 0.8 points of accuracy",
        lambda record: (
            record["ssim_mean"] < 0.25
            and record["accuracy_undefended"] - record["accuracy"] < 0.008
        ),
    ),
]


def rows(done: Sequence[Done]) -> list[str]:
    """Returns a Markdown table of the claims, against each attacker; nothing without records."""
    found = []
    for claim in _CLAIMS:
        wanted = (claim.split, claim.kind, claim.site, claim.level)
        for part, own in done:
            if part.name != "defenses" or part.dataset.removesuffix("_5k") != claim.dataset:
                continue
            for record in own:
                defense = record["defense"]
                has = (record["split"], defense["kind"], defense["site"], defense["level"])
                if has == wanted:
                    verdict = "holds" if claim.holds(record) else "does not hold"
                    found.append(
                        f"| {part.dataset} {claim.split}: {claim.says} | {record['method']} | "
                        f"{record['accuracy']:.4f} | {quality(record)} | {verdict} |"
                    )
    if not found:
        return []
    return [
        "| the paper says of defences (Figs. 6 to 10) | attacker | accuracy | reconstructions |  |",
        "|---|---|---|---|---|",
        *found,
    ]


def quality(record: Record) -> str:
    """Returns mean PSNR with half its interval, and mean SSIM, as a cell of a table."""
    if record["psnr_mean"] is None:
        return "diverged"
    return f"{record['psnr_mean']:.2f} ± {paper.spread(record):.2f} / {record['ssim_mean']:.3f}"
