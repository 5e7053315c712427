"""Standings: what attackers find behind a defence, over trainings and images. NumPy."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxinv.constants.threats import SHADOW
from jaxinv.constants.verdicts import Verdict
from jaxinv.measures import crossed, verdicts
from jaxinv.measures.intervals import Ends
from jaxinv.store.record import AttackRecord

Attacks = Mapping[tuple[str, str], Sequence[AttackRecord]]
"""Threat model and method -> attacks, one for each seed."""

_LEAST_ERROR = 1e-10  # of an image: 100 dB
_CLAIMED = (("blackbox", "paper"), ("whitebox", "paper"), ("queryfree", "paper"))


def standing(attacks: Attacks, *, sure: float) -> dict[str, Any]:
    """Returns the fields of a record about one defence at one loss of accuracy.

    The claimed attacker is the authors' decoder, or the paper's attack of another threat model. The
    strongest is the one with the highest mean, of SSIM by any of its ways. The verdict pays for
    that choice with `sure`, as for that of rows; the intervals do not.

    Args:
      attacks: all attackers, on the same seeds and images.
      sure: confidence of the verdict.
    """
    every = [record for own in attacks.values() for record in own]
    claimed = next((who for who in _CLAIMED if who in attacks), None)
    found: dict[str, Any] = {
        "usability": _over([_usable(record) for record in next(iter(attacks.values()))]),
        "claimed": None if claimed is None else _quality(claimed, attacks[claimed]),
        "strongest": _strongest(attacks, "ssim"),
        "strongest_psnr": _strongest(attacks, "psnr"),
        "reid": max((record.reid for record in every if record.reid is not None), default=None),
        # These are not all attackers that there are, nor do they train for long.
        "verdict": verdicts.screened(judged(attacks, sure)),
        "attacks_s": sum(sum(_seconds(record)) for record in every),
        "error_ratio": None,
        "error_ratio_ci": [None, None],
    }
    if claimed is not None and found["strongest_psnr"] is not None:
        best = found["strongest_psnr"]
        ratio, ends = _ratio(attacks[claimed], attacks[best["threat_model"], best["method"]])
        found |= {"error_ratio": ratio, "error_ratio_ci": list(ends)}
    return found


def judged(attacks: Attacks, sure: float) -> Verdict:
    """Returns the verdict of these attacks on all trainings: each is judged by those on it.

    Args:
      attacks: all attackers, on the same seeds and images.
      sure: confidence of the verdict.
    """
    each = zip(*attacks.values(), strict=True)
    counted = len(next(iter(attacks.values())))
    own = verdicts.confidence(counted, sure)
    return verdicts.together(verdicts.safe(list(records), own) for records in each)


def _seconds(record: AttackRecord) -> list[float]:
    """Returns the seconds of an attack by part: learning, compiling, attacking."""
    return [each or 0.0 for each in (record.fit_s, record.compile_s, record.attack_s)]


def _usable(record: AttackRecord) -> float:
    return math.nan if record.usable.value is None else record.usable.value


def _over(values: Sequence[float]) -> dict[str, Any]:
    """Returns mean and spread over seeds."""
    known = np.asarray(values, float)
    spread = float(known.std(ddof=1)) if len(known) > 1 else None
    return {"mean": float(known.mean()), "std": spread, "by_seed": [*map(float, known)]}


def _scores(records: Sequence[AttackRecord], name: str) -> np.ndarray:
    """Returns scores `[S, N]`; what diverged is not a number."""
    rows = [[math.nan if v is None else v for v in getattr(record, name)] for record in records]
    return np.asarray(rows, float)


def _quality(who: tuple[str, str], records: Sequence[AttackRecord]) -> dict[str, Any]:
    """Returns PSNR and SSIM of an attacker, over seeds and images."""
    found: dict[str, Any] = {"threat_model": who[0], "method": who[1]}
    for name, least, most in (("psnr", -math.inf, 100.0), ("ssim", -1.0, 1.0)):
        scores = _scores(records, name)
        known = np.isfinite(scores).any()
        found[f"{name}_mean"] = float(np.nanmean(scores)) if known else None
        ends = _crossed(scores, least, most) if known else Ends()
        found[f"{name}_ci"] = list(ends)
    found["diverged"] = int(sum(record.diverged for record in records))
    found["dead"] = int(sum(record.dead or 0 for record in records))
    return found


def _crossed(scores: np.ndarray, least: float = -math.inf, most: float = math.inf) -> Ends:
    if not np.isfinite(scores).all():  # an image that diverged would leave the others' mean
        return Ends()
    return crossed.interval(scores.mean(axis=1), scores.mean(axis=0), least=least, most=most)


def _ways(who: tuple[str, str], records: Sequence[AttackRecord]) -> list[dict[str, Any]]:
    """Returns SSIM of each way of an attacker, of which it answers by that of the best PSNR."""
    found = []
    for name in records[0].ways:
        if name.startswith(SHADOW):
            continue  # a seed, and no way
        own = [record.ways[name] for record in records if name in record.ways]
        rows = [[math.nan if v is None else v for v in way.ssim] for way in own]
        scores = np.asarray(rows if len(own) == len(records) and all(rows) else [[]], float)
        if not np.isfinite(scores).any():
            continue
        told = [way.psnr_mean for way in own if way.psnr_mean is not None]
        found.append(
            {
                "threat_model": who[0],
                "method": who[1],
                "way": name,
                "psnr_mean": float(np.mean(told)) if told else None,
                "psnr_ci": [None, None],
                "ssim_mean": float(np.nanmean(scores)),
                "ssim_ci": list(_crossed(scores, -1.0, 1.0)),
                "diverged": sum(way.diverged for way in own),
                "dead": sum(record.dead or 0 for record in records),
            }
        )
    return found


def _strongest(attacks: Attacks, name: str) -> dict[str, Any] | None:
    found = [_quality(who, records) for who, records in attacks.items()]
    if name == "ssim":
        found += [way for who, records in attacks.items() for way in _ways(who, records)]
    found = [each for each in found if each[f"{name}_mean"] is not None]
    return max(found, key=lambda each: each[f"{name}_mean"], default=None)


def _ratio(
    claimed: Sequence[AttackRecord], strongest: Sequence[AttackRecord]
) -> tuple[float | None, Ends]:
    """Returns how many times less the strongest errs, a geometric mean, and its interval."""
    errors = [np.maximum(_scores(records, "mse"), _LEAST_ERROR) for records in (claimed, strongest)]
    if any(each.size == 0 or not np.isfinite(each).all() for each in errors):
        return None, Ends()
    ratios = np.log(errors[0]) - np.log(errors[1])
    low, high = _crossed(ratios)
    ends = Ends() if low is None or high is None else Ends(math.exp(low), math.exp(high))
    return float(np.exp(ratios.mean())), ends
