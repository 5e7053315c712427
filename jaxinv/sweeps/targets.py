"""Attacks on several targets, trained alike with other seeds: a row for all of them. NumPy."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxinv.measures import crossed, intervals
from jaxinv.measures.intervals import Ends
from jaxinv.measures.leaks import PSNR, SSIM, Leak
from jaxinv.store import records
from jaxinv.store.record import AttackRecord, Printed
from jaxinv.sweeps.store import SweepOutcome

SEED = "target_seed"


@dataclasses.dataclass(frozen=True)
class Over:
    """A measure over targets: the mean, how targets differ in it, and how far the mean is known.

    Attributes:
      mean: of the images' means over the targets for which they did not diverge.
      std, least, most: of the targets' means; one target has no standard deviation.
      interval: 95%, over targets and images, about the mean; see `measures.crossed`.
    """

    mean: float
    std: float | None
    least: float
    most: float
    interval: Ends


@dataclasses.dataclass(frozen=True)
class OverTargets:
    """Attacks that differ in the target alone.

    Attributes:
      flags: that they share.
      seeds: of the targets.
      psnr, ssim: None where images of all targets diverged.
      dead: number of runs with images that did not move from their start.
      diverged: number of runs with images that diverged.
      printed: what the paper prints, and by how many targets' means it is exceeded; or None.
    """

    flags: dict[str, str]
    seeds: list[int]
    psnr: Over | None
    ssim: Over | None
    dead: int
    diverged: int
    printed: Printed | None
    above_printed: int | None


def rows(outcomes: Sequence[SweepOutcome]) -> list[OverTargets]:
    """Returns a row for each group of finished runs that differ in the target's seed alone.

    Groups of one target have none, and so have runs of several records.
    """
    groups: dict[tuple[Any, ...], list[SweepOutcome]] = {}
    for outcome in outcomes:
        shared = {name: value for name, value in outcome.run.flags.items() if name != SEED}
        if len(outcome.records) == 1:
            key = (outcome.run.script, *sorted(shared.items()))
            groups.setdefault(key, []).append(outcome)
    found = [_row(own) for own in groups.values()]
    return [row for row in found if row is not None and len(row.seeds) > 1]


def _row(outcomes: Sequence[SweepOutcome]) -> OverTargets | None:
    read = {
        each.run.flags.get(SEED, "0"): records.read(each.records[0].parent) for each in outcomes
    }
    attacks = {int(seed): one for seed, one in read.items() if isinstance(one, AttackRecord)}
    if not attacks:
        return None
    flags = outcomes[0].run.flags.items()
    return over(attacks, {name: value for name, value in flags if name != SEED})


def over(attacks: Mapping[int, AttackRecord], flags: Mapping[str, str]) -> OverTargets:
    """Summarises attacks that differ in the target alone.

    Args:
      attacks: by the seed of the target; at least one.
      flags: that they share.
    """
    own = list(attacks.values())
    printed = own[0].paper
    means = [one.psnr_mean for one in own if one.psnr_mean is not None]
    return OverTargets(
        dict(flags),
        list(attacks),
        _over(own, PSNR),
        _over(own, SSIM),
        sum(bool(one.dead) for one in own),
        sum(one.has_diverged for one in own),
        printed,
        sum(mean > printed.psnr for mean in means) if printed else None,
    )


def _over(attacks: Sequence[AttackRecord], leak: Leak) -> Over | None:
    """Summarises a measure; the same image stands at the same place for every target."""
    by_target = np.array([getattr(one, leak.name) for one in attacks], np.float64)
    by_target = by_target[np.isfinite(by_target)]
    if not by_target.size:
        return None
    scores = np.array([getattr(one, leak.scores) for one in attacks], np.float64)
    std = float(by_target.std(ddof=1)) if by_target.size > 1 else None
    by_image = _by_image(scores)
    ends = crossed.interval(by_target, by_image, least=leak.least, most=leak.most)
    return Over(float(by_image.mean()), std, float(by_target.min()), float(by_target.max()), ends)


def _by_image(scores: np.ndarray) -> np.ndarray:
    """Returns means over targets `[N]` of scores `[S, N]`; images that always diverged are out."""
    known = np.isfinite(scores)
    count = known.sum(axis=0)
    total = np.where(known, scores, 0.0).sum(axis=0)
    return total[count > 0] / count[count > 0]


def fields(row: OverTargets) -> dict[str, Any]:
    """Returns a row for `summary.json`."""
    told: dict[str, Any] = {"flags": row.flags, "target_seeds": row.seeds}
    for name, over in (("psnr", row.psnr), ("ssim", row.ssim)):
        told[name] = None if over is None else dataclasses.asdict(over)
    told |= {"dead": row.dead, "diverged": row.diverged}
    printed = None if row.printed is None else [row.printed.psnr, row.printed.ssim]
    return told | {"printed": printed, "above_printed": row.above_printed}


HEADER = ("targets", "PSNR dB", "std", "min", "max", "SSIM", "min", "max", "dead", "paper dB")
NOTE = (
    "Means over targets that differ in their seeds, with 95% intervals over targets and images "
    "(Student's, approximate); "
    "dead: runs with images that did not move from their start."
)


def cells(row: OverTargets) -> list[str]:
    """Returns a row's cells below `HEADER`."""
    count = len(row.seeds)
    dead = f"{row.dead} of {count}" if row.dead else "0"
    printed = "-"
    if row.printed is not None:
        printed = f"{row.printed.psnr:.2f} ({row.above_printed} of {count} above)"
    return [str(count), *_told(row.psnr, 2, True), *_told(row.ssim, 3, False), dead, printed]


def _told(over: Over | None, digits: int, spread: bool) -> list[str]:
    """Returns mean with interval, the standard deviation if asked for, minimum and maximum."""
    if over is None:
        return ["diverged", *["-"] * (2 + spread)]
    form = f".{digits}f"
    rest = [over.std] * spread + [over.least, over.most]
    numbers = ("-" if one is None else f"{one:{form}}" for one in rest)
    return [intervals.told(over.mean, over.interval, form), *numbers]
