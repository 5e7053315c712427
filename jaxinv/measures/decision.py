"""Where to split and what to add: which choices are worth having, and which to take. NumPy.

A choice is a cut and a defence, as a row of a `partition` record: a dictionary of what it costs and
of what it leaves to the strongest of those that attacked it (`worst`), in base units.

Choices are compared by what was measured, the means: those whose intervals overlap may change
places on other images. Limits on what leaks are on whole intervals, all others on the means.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxinv.store import records

PREFERENCES = ("privacy", "accuracy", "latency", "energy")


Row = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Constraints:
    """What a choice must meet; None for what does not matter.

    Attributes:
      min_accuracy: share of the test split that is classified rightly, as measured.
      max_latency_ms: of one image, from the edge's first layer to the cloud's answer.
      max_energy_mj: that the device spends on one image.
      max_memory_mb: of parameters and activations on the device, 1e6 bytes.
      max_ssim: of what the strongest attacker reconstructs, with the whole 95% interval.
      max_reid: share of images that it re-identifies, with the whole 95% interval.
    """

    min_accuracy: float | None = None
    max_latency_ms: float | None = None
    max_energy_mj: float | None = None
    max_memory_mb: float | None = None
    max_ssim: float | None = None
    max_reid: float | None = None

    def broken(self, row: Row) -> list[str]:
        """Names of those that a choice does not meet, and "diverged" where an attack did.

        An attack that diverged proves nothing: no limit on what leaks is met then.
        """
        values = {
            "min_accuracy": -row["accuracy"],
            "max_latency_ms": 1e3 * row["latency_s"],
            "max_energy_mj": 1e3 * row["energy_j"],
            "max_memory_mb": 1e-6 * row["memory_bytes"],
            "max_ssim": row["ssim_ci"][1],
            "max_reid": row["reid_ci"][1],
        }
        limits = dataclasses.asdict(self)
        if limits["min_accuracy"] is not None:
            limits["min_accuracy"] = -limits["min_accuracy"]
        names = [
            name
            for name, value in values.items()
            if limits[name] is not None and not (value is not None and value <= limits[name])
        ]
        return names + (["diverged"] if row.get("diverged") else [])


def worst(attacks: Sequence[Row]) -> dict[str, Any]:
    """What attacks on one choice leave of privacy, each measure by whoever does best in it.

    Args:
      attacks: records of attacks on the same release.

    Returns:
      `psnr_mean`, `ssim_mean`, `reid_top1` and their `_ci`, whose upper end is the highest of all;
      `attacker`, the threat model and method that is worst by SSIM, and `surrogate` if that was
      the target's own training images; `diverged`, whether any of them did.

    Raises:
      ValueError: there is no attack.
    """
    if not attacks:
        raise ValueError("Expected at least one attack.")
    found: dict[str, Any] = {}
    for name, interval in (
        ("psnr_mean", "psnr_ci"),
        ("ssim_mean", "ssim_ci"),
        ("reid_top1", "reid_ci"),
    ):
        # What diverged altogether has no mean.
        best = max(attacks, key=lambda record: -math.inf if record[name] is None else record[name])
        ends = [record[interval][1] for record in attacks if record[interval][1] is not None]
        found |= {name: best[name], interval: [best[interval][0], max(ends, default=None)]}
    by_ssim = max(
        attacks, key=lambda record: -1.0 if record["ssim_mean"] is None else record["ssim_mean"]
    )
    return found | {
        "attacker": attacker(by_ssim),
        "diverged": any(record["diverged"] for record in attacks),
    }


def attacker(record: Row) -> dict[str, str]:
    """Who attacked, of an attack's record: `threat_model`, `method`, and where it learned from.

    The last, `surrogate`, is there if it is "same": the target's own training images.
    """
    named = {
        "threat_model": str(record.get("threat_model", record["experiment"])),
        "method": str(record["method"]),
    }
    return named | ({"surrogate": "same"} if record.get("surrogate") == "same" else {})


def attacker_name(who: Mapping[str, Any]) -> str:
    """An attacker in words: `whitebox, adaptive`; `(same)` learned from the target's images."""
    told = " (same)" if who.get("surrogate") == "same" else ""
    return f"{who['threat_model']}, {who['method']}{told}"


def pareto(rows: Sequence[Row]) -> list[bool]:
    """Whether each choice is worth having: none is as good in everything and better in something.

    Everything is accuracy, latency, energy, memory, and the SSIM and re-identification that are
    left to the strongest attacker; where an attack diverged, nothing is known of these two.
    """
    costs = np.array([[objective(row) for objective in _OBJECTIVES] for row in rows])
    no_worse = (costs[:, None] <= costs).all(axis=-1)
    better = (costs[:, None] < costs).any(axis=-1)
    beaten = np.asarray((no_worse & better).any(axis=0))
    return [not each for each in beaten]


def _left(row: Row, name: str) -> float:
    """What is left to attackers; more than anything where that is not known."""
    return math.inf if row[name] is None or row.get("diverged") else row[name]


_OBJECTIVES: tuple[Callable[[Row], float], ...] = (
    lambda row: -row["accuracy"],
    lambda row: row["latency_s"],
    lambda row: row["energy_j"],
    lambda row: row["memory_bytes"],
    lambda row: _left(row, "ssim_mean"),
    lambda row: _left(row, "reid_top1"),
)

# What counts first, and what decides between equals.
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
    """The place of the best choice that meets the constraints, or None where none does.

    Args:
      rows: the choices.
      constraints: to be met.
      prefer: of `PREFERENCES`, what is best.
      allowed: of which choices.
    """
    order = _ORDERS[prefer]
    fit = [
        number for number, row in enumerate(rows) if allowed(row) and not constraints.broken(row)
    ]
    if not fit:
        return None
    return min(fit, key=lambda number: [_OBJECTIVES[place](rows[number]) for place in order])


def reason(rows: Sequence[Row], constraints: Constraints) -> str:
    """Why no choice meets the constraints: which of them leave none, alone or together."""
    limits = {
        name: value for name, value in dataclasses.asdict(constraints).items() if value is not None
    }
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
    """A choice in words: `relu2 with dropout 0.6`."""
    defense = row["defense"]
    if defense["kind"] == "none":
        return str(row["split"])
    site = " at the input" if defense["site"] == "input" else ""
    return f"{row['split']} with {defense['kind']} {records.level_text(defense)}{site}"
