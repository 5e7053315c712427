"""Recommendations of a partition in plain sentences. Standard library, pure functions."""

from collections.abc import Callable
from typing import Any

from jaxinv.constants.choices import CLOUD_ONLY, EDGE_ONLY
from jaxinv.report.results import Choice, Partition
from jaxinv.report.values import fixed, listed, percent, unit

_CONSTRAINTS: dict[str, Callable[[float], str]] = {
    "min_accuracy": lambda share: f"accuracy of at least {100 * share:g}%",
    "max_latency_ms": lambda value: f"at most {value:g} ms",
    "max_energy_mj": lambda value: f"at most {value:g} mJ",
    "max_memory_mb": lambda value: f"at most {value:g} MB of memory",
    "max_ssim": lambda value: f"SSIM of at most {value:g}",
    "max_reid": lambda share: f"re-identification of at most {100 * share:g}%",
}


def advice(partition: Partition) -> list[str]:
    """Tells what to do: the recommendation, and the best choice that still splits."""
    best, split = partition.recommended, partition.recommended_split
    if best is None:
        reason = partition.record.reason
        if reason.startswith("No choice"):
            return [reason]
        return [f"No choice meets all constraints. {reason}".strip()]
    sentences = [f"{_do(best)}: {_costs(best)}. {_leaves(best)}"]
    if split and split is not best:
        sentences.append(
            f"If the cloud has to compute a part, {_do(split, first=False)}: {_costs(split)}. "
            f"{_leaves(split)}"
        )
    return sentences


def _do(choice: Choice, *, first: bool = True) -> str:
    if choice.split == EDGE_ONLY:
        verb = "compute everything on the device"
    elif choice.split == CLOUD_ONLY:
        verb = "send the image to the cloud"
    else:
        verb = f"split after {choice.split}"
    defense = "" if choice.defense.is_none else f" with {choice.defense.words}"
    return (verb[0].upper() + verb[1:] if first else verb) + defense


def _costs(choice: Choice) -> str:
    return listed(
        [
            f"{percent(choice.accuracy.mean)} accuracy",
            f"{unit(choice.latency_s, 's')} and {unit(choice.energy_j, 'J')} an image",
            f"{unit(choice.memory_bytes, 'B')} of memory on the device",
        ]
    )


def _leaves(choice: Choice) -> str:
    if choice.split == CLOUD_ONLY and not choice.attacker:
        return "The cloud is given the image itself."
    if not choice.attacker:
        nothing = choice.split == EDGE_ONLY
        return "Nothing is sent, so nothing can be reconstructed." if nothing else "Not attacked."
    told = f", and re-identifies {percent(choice.reid.mean)} of the images"
    return (
        f"The strongest attacker that was run ({choice.attacker}) gets SSIM "
        f"{fixed(choice.ssim.mean, 3)} "
        f"({fixed(choice.psnr.mean, 1)} dB){told if choice.reid.mean is not None else ''}."
    )


def asked(partition: Partition) -> str:
    """Tells the constraints in words."""
    limits = [
        _CONSTRAINTS[name](value)
        for name, value in partition.record.constraints.items()
        if name in _CONSTRAINTS and value is not None
    ]
    words = f"Asked for: {listed(limits)}." if limits else "Nothing was asked for but the best."
    return f"{words} Of what meets that, {partition.record.prefer} counts first."


def paper_advice(partition: Partition) -> str:
    """The paper's advice put to the test, in a sentence; nothing where the record has no test."""
    tested = partition.record.advice
    if tested is None:
        return ""
    outcome = "That is enough here." if tested.holds else "That is not enough here."
    return (
        "The paper advises to compute up to a fully connected layer on the device. "
        "The strongest attacker that was run gets SSIM "
        f"{fixed(tested.after.ssim_mean, 3)} behind it ({tested.after.split}) and "
        f"{fixed(tested.before.ssim_mean, 3)} before ({tested.before.split}). {outcome}"
    )


def verdict(choice: Choice) -> str:
    """Tells whether a choice meets the constraints, or which it breaks."""
    if choice.meets:
        return "met"
    names = [name.removeprefix("max_").removeprefix("min_") for name in choice.record.fails]
    units = {"latency_ms": "latency", "energy_mj": "energy", "memory_mb": "memory", "ssim": "SSIM"}
    units["reid"] = "re-identification"
    broken = listed([units.get(name, name) for name in names if name != "diverged"])
    told = [f"breaks {broken}"] if broken else []
    if "diverged" in names:  # which proves nothing, and is no limit that is broken
        told.append("unproved: an attack diverged")
    return "; ".join(told)


def order(partition: Partition) -> list[Choice]:
    """Choices, the recommended first, then those that meet everything, by what they leave."""
    first = [partition.recommended, partition.recommended_split]

    def rank(choice: Choice) -> tuple[Any, ...]:
        place = next((n for n, each in enumerate(first) if each is choice), len(first))
        return (place, not choice.meets, not choice.pareto, choice.ssim.or_nothing)

    return sorted(partition.choices, key=rank)
