"""Recommendations of a partition in plain sentences. Standard library, pure functions."""

from collections.abc import Callable, Sequence
from typing import Any

from jaxinv.constants.choices import CLOUD_ONLY, EDGE_ONLY, FULL
from jaxinv.constants.threats import THREATS
from jaxinv.constants.verdicts import FAILS, HOLDS, SAFE_REID, SAFE_SSIM, SPOILT, UNDECIDED
from jaxinv.look.text import rounded_up
from jaxinv.measures.leaks import LEAKS
from jaxinv.report.results import Choice, Partition
from jaxinv.report.values import MISSING, Measure, fixed, interval, listed, percent, percents, unit
from jaxinv.store.choice import CutQuality, JudgedThreat

_CONSTRAINTS: dict[str, Callable[[float], str]] = {
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
    if split is None and partition.record.reason_split:
        reason = partition.record.reason_split
        sentences.append(f"If the cloud has to compute a part, nothing is recommended: {reason}")
    elif split and split is not best:
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
            f"{percent(choice.usability.mean)} {choice.usability_kind}",
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
    share = " ".join(filter(None, [percent(choice.reid.mean), percents(choice.reid)]))
    told = f", and re-identifies {share} of the images"
    ssim = " ".join(filter(None, [fixed(choice.ssim.mean, 3), interval(choice.ssim, 3)]))
    words = (
        f"Of {effort(choice)}, the strongest ({choice.attacker}) gets SSIM {ssim} "
        f"({fixed(choice.psnr.mean, 1)} dB){told if choice.reid.mean is not None else ''}."
    )
    sentences = [words, _unproved(choice), _certain(choice), _SAFE.get(choice.record.safe, "")]
    return " ".join(filter(None, sentences))


def _certain(choice: Choice) -> str:
    """Tells the certified upper limit on re-identification; nothing where there is none."""
    share = choice.record.certified_reid
    if share is None:
        return ""
    return (
        f"It is certified that no attacker re-identifies more than {percent(rounded_up(share))} of "
        "the candidates, on average."
    )


def _unproved(choice: Choice) -> str:
    """Tells why attacks prove nothing of a reconstruction; nothing where they do."""
    why = [words for name, words in SPOILT.items() if getattr(choice.record, name)]
    return f"They prove nothing: one {', one '.join(why)}." if why else ""


def effort(choice: Choice) -> str:
    """Tells which attacks were run on a choice."""
    if not choice.attacker:
        return "none"
    return "all attacks" if choice.record.effort == FULL else "quick attacks alone"


_LIMITS = f"SSIM {SAFE_SSIM:g} and {SAFE_REID:.0%} re-identification"
_SAFE: dict[str | None, str] = {
    HOLDS: f"That is shown to be below {_LIMITS}.",
    FAILS: f"That is not below {_LIMITS}.",
    UNDECIDED: f"Whether that is below {_LIMITS} is undecided.",
}


def asked(partition: Partition) -> str:
    """Tells the constraints in words."""
    kind = next((choice.usability_kind for choice in partition.choices), "accuracy")
    spelled = {
        "min_accuracy": lambda share: f"{kind} of at least {100 * share:g}%",
        **_CONSTRAINTS,
    }
    limits = [
        spelled[name](value)
        for name, value in partition.record.constraints.items()
        if name in spelled and value is not None
    ]
    words = f"Asked for: {listed(limits)}." if limits else "Nothing was asked for but the best."
    return f"{words} Of what meets that, {partition.record.prefer} counts first."


def paper_advice(partition: Partition) -> str:
    """The paper's advice put to the test, in a sentence; nothing where the record has no test."""
    tested = partition.record.advice
    if tested is None:
        return ""
    outcome = "That is enough here." if tested.holds else "That is not enough here."
    if tested.verdict == UNDECIDED:
        outcome = "Whether that is enough is undecided."
    return (
        "The paper advises to compute up to a fully connected layer on the device. "
        "The strongest attacker that was run gets SSIM "
        f"{_behind(tested.after)} behind it ({tested.after.split}) and "
        f"{fixed(tested.before.ssim_mean, 3)} before ({tested.before.split}). {outcome}"
        f"{_by_threat(tested.threats)}"
    )


def _by_threat(threats: Sequence[JudgedThreat]) -> str:
    """Tells what is found under each threat model that attacked; the paper argues from one."""
    told = [
        f"{THREATS.get(each.threat_model, each.threat_model)} ({each.num_images:,} images) "
        f"{each.verdict}"
        for each in threats
        if each.num_images
    ]
    if not told:
        return ""
    return f" Against attackers of each threat model on their own: {', '.join(told)}."


def _behind(cut: CutQuality) -> str:
    ssim = Measure(cut.ssim_mean, *cut.ssim_ci)
    return " ".join(filter(None, [fixed(ssim.mean, 3), interval(ssim, 3)]))


def verdict(choice: Choice) -> str:
    """Tells whether a choice is shown to meet the constraints; else what it breaks, or may."""
    if choice.meets:
        alone = _unproved(choice) or (choice.is_certified and choice.record.effort != FULL)
        return "met, by a certificate" if alone else "met"
    record = choice.record
    kind = choice.usability_kind
    broken = listed([_limit(name, kind) for name in record.fails if name not in SPOILT])
    unsure = listed(
        [
            f"{_limit(name, kind)}{_settled(_count(choice, name))}"
            for name in (*record.undecided, *choice.screened)
            if name not in SPOILT
        ]
    )
    told = [f"breaks {broken}"] if broken else []
    told += [f"undecided: {unsure}"] if unsure else []
    given = (*record.fails, *record.undecided)
    told += [f"unproved: an attack {words}" for name, words in SPOILT.items() if name in given]
    return "; ".join(told)


def _limit(name: str, kind: str) -> str:
    """Returns the words for a limit; `kind` is that of usability."""
    words = {"latency_ms": "latency", "energy_mj": "energy", "memory_mb": "memory", "ssim": "SSIM"}
    short = name.removeprefix("max_").removeprefix("min_")
    return {**words, "reid": "re-identification", "accuracy": kind}.get(short, short)


def _count(choice: Choice, name: str) -> int | None:
    """Returns how many images settle a limit; where quick attacks stay below it, none does."""
    leak = next((leak for leak in LEAKS if leak.limit == name), None)
    if leak is not None and choice.record.effort != FULL:
        mean, limit = getattr(choice.record, leak.name), choice.constraints.get(name)
        if mean is None or limit is None or mean <= limit:
            return None
    return choice.record.images_needed.get(name)


def _settled(count: int | None) -> str:
    """Tells how many images settle a limit, where that is known."""
    return "" if count is None else f" ({count:,} images would settle it)"


def order(partition: Partition) -> list[Choice]:
    """Choices, the recommended first, then those that meet everything, by what they leave."""
    first = [partition.recommended, partition.recommended_split]

    def rank(choice: Choice) -> tuple[Any, ...]:
        place = next((n for n, each in enumerate(first) if each is choice), len(first))
        broken = bool(choice.record.fails)
        return (place, broken, not choice.meets, not choice.pareto, choice.ssim.or_all)

    return sorted(partition.choices, key=rank)


def profile(partition: Partition) -> str:
    """The device that was reckoned with, in words."""
    found = partition.record.profile
    rates = [
        f"device {unit(found.edge_flops_per_s, 'FLOP/s')}",
        f"{unit(found.edge_joules_per_flop, 'J')} a FLOP",
    ]
    facts = [
        *([] if found.edge_times else rates),
        f"uplink {unit(found.uplink_bits_per_s, 'bit/s')}",
        f"at most {unit(found.uplink_p5_bits_per_s, 'bit/s')} for 5%",
        f"{unit(found.uplink_joules_per_bit, 'J')} a bit",
        f"round trip {unit(found.round_trip_s, 's')}",
        f"cloud {unit(found.cloud_flops_per_s, 'FLOP/s')}",
    ]
    told = ", ".join(fact for fact in facts if MISSING not in fact)
    words = [found.description, told, found.source]
    return " ".join(f"{word[0].upper()}{word[1:].rstrip('.')}." for word in words if word)
