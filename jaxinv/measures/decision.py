"""Choices of a cut and a defense: the Pareto front, limits, and a recommendation. NumPy.

A choice is a row of a `partition` record: a dictionary of its costs and of the success of its
strongest attacker (`worst`), in base units.

Choices are compared by measured means: choices whose intervals overlap may change places on other
images. Limits on leakage apply to whole intervals, all others to means.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxinv.store.fields import level_text
from jaxinv.store.record import AttackRecord

PREFERENCES = ("privacy", "accuracy", "latency", "energy")

Row = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Constraints:
    """Limits that a choice must meet; None for no limit.

    Attributes:
      min_accuracy: share of the test split classified correctly, as measured.
      max_latency_ms: of one image, from the edge's first layer to the cloud's answer.
      max_energy_mj: that the device spends on one image.
      max_memory_mb: of parameters and activations on the device, 1e6 bytes.
      max_ssim: of the strongest attacker's reconstructions, by the upper end of the 95% interval.
      max_reid: share of images that an attacker re-identifies, by the upper end of the interval.
    """

    min_accuracy: float | None = None
    max_latency_ms: float | None = None
    max_energy_mj: float | None = None
    max_memory_mb: float | None = None
    max_ssim: float | None = None
    max_reid: float | None = None

    def broken(self, row: Row) -> list[str]:
        """Returns the names of limits that a choice breaks, and "diverged" where an attack did.

        A diverged attack proves nothing, so a limit on leakage cannot be met then.
        """
        values = {
            "min_accuracy": -row["accuracy"],
            "max_latency_ms": 1e3 * row["latency_s"],
            "max_energy_mj": 1e3 * row["energy_j"],
            "max_memory_mb": 1e-6 * row["memory_bytes"],
            "max_ssim": row["ssim_ci"][1],
            "max_reid": row["reid_ci"][1],
        }
        limits = self.limits
        if "min_accuracy" in limits:
            limits["min_accuracy"] *= -1
        unmet = [
            name
            for name, most in limits.items()
            if values[name] is None or not values[name] <= most
        ]
        return unmet + (["diverged"] if row.get("diverged") else [])

    @property
    def limits(self) -> dict[str, float]:
        """Limits by name, without those that are None."""
        given = dataclasses.asdict(self)
        return {name: value for name, value in given.items() if value is not None}


def worst(attacks: Sequence[AttackRecord]) -> dict[str, Any]:
    """Returns the greatest leakage of a choice, each measure by the attack that is best in it.

    Args:
      attacks: records of attacks on the same release.

    Returns:
      `psnr_mean`, `ssim_mean`, `reid_top1` and their `_ci`, whose upper end is the highest of all;
      `attacker`, the best by SSIM, as `attacker` returns it; `diverged`, True if any attack did.

    Raises:
      ValueError: there is no attack.
    """
    if not attacks:
        raise ValueError("Expected at least one attack.")
    found: dict[str, Any] = {}
    for name, interval in _LEAKS.items():
        best = _best(attacks, name)
        ends = [end for each in attacks if (end := getattr(each, interval)[1]) is not None]
        low = getattr(best, interval)[0]
        found |= {name: getattr(best, name), interval: [low, max(ends, default=None)]}
    return found | {
        "attacker": attacker(_best(attacks, "ssim_mean")),
        "diverged": any(record.diverged for record in attacks),
    }


_LEAKS = {"psnr_mean": "psnr_ci", "ssim_mean": "ssim_ci", "reid_top1": "reid_ci"}


def _best(attacks: Sequence[AttackRecord], name: str) -> AttackRecord:
    """Returns the attack with the highest mean; one that diverged altogether has none."""

    def rank(record: AttackRecord) -> float:
        mean = getattr(record, name)
        return -math.inf if mean is None else mean

    return max(attacks, key=rank)


def attacker(record: AttackRecord) -> dict[str, str]:
    """Returns the attacker of a record: `threat_model`, `method`, and `surrogate` if "same".

    The surrogate "same" means the target's own training images.
    """
    named = {"threat_model": record.threat, "method": record.method}
    return named | ({"surrogate": "same"} if record.surrogate == "same" else {})


def attacker_name(who: Mapping[str, Any]) -> str:
    """Returns an attacker in words: `whitebox, adaptive`; `(same)` used the target's images."""
    told = " (same)" if who.get("surrogate") == "same" else ""
    return f"{who['threat_model']}, {who['method']}{told}"


def pareto(rows: Sequence[Row]) -> list[bool]:
    """Marks the choices on the Pareto front: no other is as good in everything and better in one.

    Objectives are accuracy, latency, energy, memory, and the SSIM and re-identification of the
    strongest attacker, which are unknown where an attack diverged.
    """
    costs = np.array([[objective(row) for objective in _OBJECTIVES] for row in rows])
    no_worse = (costs[:, None] <= costs).all(axis=-1)
    better = (costs[:, None] < costs).any(axis=-1)
    beaten = np.asarray((no_worse & better).any(axis=0))
    return [not each for each in beaten]


def _left(row: Row, name: str) -> float:
    """Returns the leakage; infinite where it is unknown."""
    return math.inf if row[name] is None or row.get("diverged") else row[name]


_OBJECTIVES: tuple[Callable[[Row], float], ...] = (
    lambda row: -row["accuracy"],
    lambda row: row["latency_s"],
    lambda row: row["energy_j"],
    lambda row: row["memory_bytes"],
    lambda row: _left(row, "ssim_mean"),
    lambda row: _left(row, "reid_top1"),
)

# Places of objectives: the first decides, the others break ties.
_ORDERS: dict[str, tuple[int, ...]] = {
    "privacy": (4, 5, 0, 2, 1, 3),
    "accuracy": (0, 4, 5, 2, 1, 3),
    "latency": (1, 2, 4, 5, 0, 3),
    "energy": (2, 1, 4, 5, 0, 3),
}


def recommend(
    rows: Sequence[Row],
    constraints: Constraints,
    *,
    prefer: str = "privacy",
    allowed: Callable[[Row], bool] = lambda row: True,
) -> int | None:
    """Returns the place of the best choice that meets the constraints, or None.

    Args:
      rows: the choices.
      constraints: to be met.
      prefer: the first objective, one of `PREFERENCES`.
      allowed: tests if a choice may be taken.
    """
    order = _ORDERS[prefer]
    fit = [
        number for number, row in enumerate(rows) if allowed(row) and not constraints.broken(row)
    ]
    if not fit:
        return None
    return min(fit, key=lambda number: [_OBJECTIVES[place](rows[number]) for place in order])


def reason(rows: Sequence[Row], constraints: Constraints) -> str:
    """Explains why no choice meets the constraints: the limits that no choice keeps."""
    limits = constraints.limits
    broken = [constraints.broken(row) for row in rows]
    if all("diverged" in names for names in broken):
        return "Attacks on every choice diverged, which proves nothing."
    alone = [name for name in limits if all(name in names for names in broken)]
    if alone:
        told = " and ".join(f"{name}={limits[name]:g}" for name in alone)
        return f"No choice meets {told}."
    least = min(len(names) for names in broken)
    nearest = next(row for row, names in zip(rows, broken, strict=True) if len(names) == least)
    names = constraints.broken(nearest)
    faults = [name for name in names if name != "diverged"]
    wrong = [f"breaks {', '.join(faults)}"] if faults else []
    if "diverged" in names:
        wrong.append("was attacked by what diverged, which proves nothing")
    return (
        f"Each limit is met by some choice and all together by none; {name_of(nearest)} comes "
        f"nearest and {' and '.join(wrong)}."
    )


def name_of(row: Row) -> str:
    """Returns a choice in words: `relu2 with dropout 0.6`."""
    if row["defense"]["kind"] == "none":
        return str(row["split"])
    return f"{row['split']} with {defense_name(row['defense'])}"


def defense_name(defense: Row) -> str:
    """Returns a defense in words: `dropout 0.6`, or `none`."""
    if defense["kind"] == "none":
        return "none"
    site = " at the input" if defense["site"] == "input" else ""
    return f"{defense['kind']} {level_text(defense['level'])}{site}"
