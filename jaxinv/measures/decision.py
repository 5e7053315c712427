"""Choices of a cut and a defense: the Pareto front, limits, and a recommendation. NumPy.

A choice is a row of a `partition` record: a dictionary of its costs and of the success of its
strongest attacker (`worst`), in base units.

Choices are compared by measured means: choices whose intervals overlap may change places on other
images. Limits on accuracy and leakage apply to whole intervals (`verdicts`), and what is undecided
is never recommended. A limit on re-identification holds, too, where a certificate says that no
attacker finds more, unless an attack shows otherwise. Costs are computed, and have no interval;
choices are compared by the median latency, and the limit on it is on the 95th percentile.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxinv.constants.choices import FULL
from jaxinv.constants.verdicts import FAILS, HOLDS, SPOILT, UNDECIDED, Verdict
from jaxinv.measures import intervals, verdicts
from jaxinv.measures.leaks import LEAKS, PSNR, REID, SSIM, Leak
from jaxinv.store.fields import level_text
from jaxinv.store.record import AttackRecord

PREFERENCES = ("privacy", "accuracy", "latency", "energy")

Row = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Constraints:
    """Limits that a choice must meet; None for no limit.

    Attributes:
      min_accuracy: share that is classified correctly, or other usability where there is no
        accuracy, by the lower end of its 95% interval.
      max_latency_ms: of one image, from the edge's first layer to the cloud's answer; 95% of the
        images keep it.
      max_energy_mj: that the device spends on one image.
      max_memory_mb: of parameters and activations on the device, 1e6 bytes.
      max_ssim: of the strongest attacker's reconstructions, by the upper end of the 95% interval.
      max_reid: share of images that an attacker re-identifies, by the upper end of the interval, or
        by the row's `certified_reid`.
    """

    min_accuracy: float | None = None
    max_latency_ms: float | None = None
    max_energy_mj: float | None = None
    max_memory_mb: float | None = None
    max_ssim: float | None = None
    max_reid: float | None = None

    def verdicts(self, row: Row) -> dict[str, Verdict]:
        """Returns a verdict on each limit, and on "diverged" and "dead" where attacks are so.

        They prove nothing then: limits on leakage are not known to be kept; see `verdicts.spoilt`.
        What is certified needs no attack to prove it, and is broken by one that succeeds. The
        attacks that a row is of count as all that there are; see `told`.
        """
        found = {name: self._verdict(name, limit, row) for name, limit in self.limits.items()}
        leaks = found.keys() & {leak.limit for leak in LEAKS}
        if self._certifies(row) and found[REID.limit] != FAILS:
            found[REID.limit] = HOLDS
            leaks.remove(REID.limit)
            if not leaks:
                return found
        spoilt = _spoilt(row)
        if not spoilt:
            return found
        unproved = [name for name in leaks if found[name] == HOLDS]
        return found | dict.fromkeys([*unproved, *spoilt], UNDECIDED)

    def unkept(self, row: Row) -> dict[str, list[str]]:
        """Returns what `verdicts` names as `fails`, and as `undecided`: nothing if a row promises
        to meet the constraints.
        """
        return _by_verdict(self.verdicts(row))

    def _screened(self, row: Row, found: Mapping[str, Verdict]) -> list[str]:
        """Returns the limits on leakage that hold, and that no certificate keeps."""
        held = [leak.limit for leak in LEAKS if found.get(leak.limit) == HOLDS]
        return [name for name in held if name != REID.limit or not self._certifies(row)]

    def _certifies(self, row: Row) -> bool:
        """Tells whether a certificate keeps the limit on re-identification."""
        share = row.get("certified_reid")
        return share is not None and self.max_reid is not None and share <= self.max_reid

    def _verdict(self, name: str, limit: float, row: Row) -> Verdict:
        if name == "min_accuracy":
            return verdicts.at_least(row["usability"]["ci"], limit)
        if name in _COSTS:
            key, factor = _COSTS[name]
            return verdicts.at_most([factor * row[key]] * 2, limit)
        leak = next(leak for leak in LEAKS if leak.limit == name)
        noise = leak.noise if row.get("attacker") else 0.0  # what is sent whole needs no attack
        return verdicts.at_most(row[leak.interval_name], limit, noise=noise)

    def is_exceeded(self, row: Row, name: str) -> bool:
        """Tells whether the mean leakage of a row is above a limit: more images then break it.

        Where quick attacks stay below it, no number of images shows that it holds.
        """
        leak = next(leak for leak in LEAKS if leak.limit == name)
        return row[leak.name] is not None and row[leak.name] > self.limits[name]

    def told(self, row: Row) -> dict[str, Verdict]:
        """Returns `verdicts`, with those as undecided that quick attacks alone leave.

        These are limits on leakage that hold, where the `effort` is not "full", but for what is
        certified.
        """
        found = self.verdicts(row)
        if row.get("effort") != FULL:
            found |= dict.fromkeys(self._screened(row, found), UNDECIDED)
        return found

    def judged(self, row: Row) -> dict[str, Any]:
        """Returns the fields of a choice about the limits, as `told` judges them.

        `verdict` on all together; `meets`, True only if all of them hold; `fails` and `undecided`,
        the names of those that do not.
        """
        found = self.told(row)
        whole = verdicts.together(found.values())
        return {"verdict": whole, "meets": whole == HOLDS, **_by_verdict(found)}

    @property
    def limits(self) -> dict[str, float]:
        """Limits by name, without those that are None."""
        given = dataclasses.asdict(self)
        return {name: value for name, value in given.items() if value is not None}


def _by_verdict(found: Mapping[str, Verdict]) -> dict[str, list[str]]:
    """Returns the names of limits that fail, and of those that are undecided."""
    return {word: [name for name in found if found[name] == word] for word in (FAILS, UNDECIDED)}


_COSTS = {
    "max_latency_ms": ("latency_p95_s", 1e3),
    "max_energy_mj": ("energy_j", 1e3),
    "max_memory_mb": ("memory_bytes", 1e-6),
}


def worst(attacks: Sequence[AttackRecord], sure: float = intervals.CONFIDENCE) -> dict[str, Any]:
    """Returns the greatest leakage of a choice, each measure by the attack and way best in it.

    Args:
      attacks: records of attacks on the same release.
      sure: confidence of the intervals.

    Returns:
      `psnr_mean`, `ssim_mean`, `reid` and their `_ci`, which `verdicts.greatest` computes;
      `attacker`, the best by SSIM, as `attacker` returns it; `diverged` and the like, as
      `verdicts.spoilt` tells; `surrogate_images`, as `verdicts.surrogate_images` tells; and `safe`,
      the verdict on whether they give nothing away.

    Raises:
      ValueError: there is no attack.
    """
    if not attacks:
        raise ValueError("Expected at least one attack.")
    found: dict[str, Any] = {}
    for leak in (PSNR, *LEAKS):
        found[leak.name] = verdicts.highest(attacks, leak)
        found[leak.interval_name] = list(verdicts.greatest(attacks, leak, sure))
    return found | {
        "attacker": attacker(_best(attacks)),
        **verdicts.spoilt(attacks),
        "surrogate_images": verdicts.surrogate_images(attacks),
        "safe": verdicts.safe(attacks, sure),
    }


def images_needed(
    attacks: Sequence[AttackRecord],
    constraints: Constraints,
    undecided: Sequence[str],
    sure: float = intervals.CONFIDENCE,
) -> dict[str, int | None]:
    """Returns how many images settle each undecided limit on leakage; None if no number does."""
    limits = constraints.limits
    return {
        leak.limit: verdicts.images_needed(attacks, leak, limits[leak.limit], sure)
        for leak in LEAKS
        if leak.limit in undecided
    }


def _best(attacks: Sequence[AttackRecord]) -> AttackRecord:
    """Returns the attack with the highest mean SSIM; one that diverged altogether has none."""

    def rank(record: AttackRecord) -> float:
        mean = SSIM.highest(record)
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

    Objectives are usability, median latency, energy, memory, and the SSIM and re-identification of
    the strongest attacker. Where attacks prove nothing, it has all, or what is certified.
    """
    costs = np.array([[objective(row) for objective in _OBJECTIVES] for row in rows])
    no_worse = (costs[:, None] <= costs).all(axis=-1)
    better = (costs[:, None] < costs).any(axis=-1)
    beaten = np.asarray((no_worse & better).any(axis=0))
    return [not each for each in beaten]


def _left(row: Row, leak: Leak) -> float:
    """Returns the leakage; where it is unknown, what is certified, or else all."""
    if row[leak.name] is not None and not _spoilt(row):
        return row[leak.name]
    certain = row.get("certified_reid") if leak is REID else None
    return leak.most if certain is None else certain


def _spoilt(row: Row) -> list[str]:
    """Returns the names of what makes attacks on a choice prove nothing."""
    return [name for name in SPOILT if row.get(name)]


_OBJECTIVES: tuple[Callable[[Row], float], ...] = (
    lambda row: -row["usability"]["value"],
    lambda row: row["latency_s"],
    lambda row: row["energy_j"],
    lambda row: row["memory_bytes"],
    lambda row: _left(row, SSIM),
    lambda row: _left(row, REID),
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

    What is undecided does not meet them. Quick attacks count here as all others do: who takes a
    choice attacks it with everything first.

    Args:
      rows: the choices.
      constraints: to be met.
      prefer: the first objective, one of `PREFERENCES`.
      allowed: tests if a choice may be taken.
    """
    order = _ORDERS[prefer]
    fit = [
        number
        for number, row in enumerate(rows)
        if allowed(row) and not any(constraints.unkept(row).values())
    ]
    if not fit:
        return None
    return min(fit, key=lambda number: [_OBJECTIVES[place](rows[number]) for place in order])


def reason(
    rows: Sequence[Row],
    constraints: Constraints,
    *,
    allowed: Callable[[Row], bool] = lambda row: True,
) -> str:
    """Explains why no choice meets the constraints: which limits none keeps, and who is nearest."""
    able = [row for row in rows if allowed(row)]
    if not able:
        return "There is no such choice."
    limits = constraints.limits
    judged = [constraints.unkept(row) for row in able]
    for name, words in SPOILT.items():
        if all(name in each["undecided"] for each in judged):
            return f"An attack on every choice {words}, which proves nothing."
    alone = [name for name in limits if all(name in _unmet(each) for each in judged)]
    if alone:
        told = " and ".join(f"{name}={limits[name]:g}" for name in alone)
        shown = any(name in each["undecided"] for each in judged for name in alone)
        start = f"No choice {'is shown to meet' if shown else 'meets'} {told}"
    else:
        screened = [_by_verdict(constraints.told(row)) for row in able]
        shown = all(any(name not in _unmet(each) for each in screened) for name in limits)
        far = "" if shown else ", as far as quick attacks tell,"
        start = f"Each limit is met by some choice{far} and all together by none"
    place = min(range(len(able)), key=lambda number: _distance(able[number], judged[number]))
    return (
        f"{start}; {name_of(able[place])} comes nearest and {_faults(able[place], judged[place])}."
    )


def _unmet(judged: Mapping[str, Any]) -> list[str]:
    return [*judged["fails"], *judged["undecided"]]


def _distance(row: Row, judged: Mapping[str, Any]) -> tuple[float, ...]:
    """Returns a rank: least limits that fail, then least that are undecided, then least leakage."""
    leaks = (_left(row, leak) for leak in LEAKS)
    return (len(judged["fails"]), len(judged["undecided"]), *leaks)


def _faults(row: Row, judged: Mapping[str, Any]) -> str:
    """Tells what keeps a choice from meeting the constraints."""
    wrong = [f"breaks {', '.join(judged['fails'])}"] if judged["fails"] else []
    unsure = [_unsure(row, name) for name in judged["undecided"] if name not in SPOILT]
    if unsure:
        wrong.append(f"is undecided in {', '.join(unsure)}")
    wrong += [
        f"was attacked by what {words}, which proves nothing"
        for name, words in SPOILT.items()
        if name in judged["undecided"]
    ]
    return " and ".join(wrong)


def _unsure(row: Row, name: str) -> str:
    """Tells the interval that a limit lies in, and how many images settle it, if known."""
    keys = {leak.limit: leak.interval_name for leak in LEAKS}
    low, high = row[keys[name]] if name in keys else row["usability"]["ci"]
    sure = f"{100 * row.get('confidence', intervals.CONFIDENCE):.4g}%"
    told = (
        "no interval" if low is None or high is None else f"{sure} interval {low:.3f} to {high:.3f}"
    )
    count = row.get("images_needed", {}).get(name)
    return f"{name} ({told}{'' if count is None else f'; about {count:,} images would settle it'})"


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
