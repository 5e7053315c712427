"""The lines that a partition study prints."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxinv.constants import trained
from jaxinv.constants.choices import FULL
from jaxinv.constants.threats import THREATS
from jaxinv.constants.verdicts import (
    FAILS,
    GALLERY,
    HOLDS,
    LEAST_SURROGATES,
    SAFE_REID,
    SAFE_SSIM,
    SPOILT,
    UNDECIDED,
)
from jaxinv.look.terminal import aligned, coloured, heading, recommended
from jaxinv.look.text import rounded_up
from jaxinv.measures import decision, intervals, quality
from jaxinv.measures.leaks import LEAKS
from jaxinv.store.record import AttackRecord
from jaxinv.store.similarity import kind_of
from jaxinv.studies.defended.known import plain

RECOMMENDED = "recommended"
RECOMMENDED_SPLIT = "recommended if the cloud is to compute some layers"


def attack(record: AttackRecord) -> str:
    """Returns the line of an attack on a choice, each measure by the best of its ways."""
    ssim, reid = (leak.highest(record) for leak in LEAKS)
    told = "diverged" if ssim is None else f"SSIM {ssim:.3f}"
    defense = plain(record.fields["defense"])
    return (
        f"  {decision.name_of({'split': record.split, 'defense': defense}):<28}"
        f"{decision.attacker_name(decision.attacker(record)):<24}{told}"
        f"{'' if reid is None else f', re-identified {reid:.1%}'}"
    )


def replaced(
    rows: Sequence[Mapping[str, Any]],
    *,
    before: Mapping[int, str],
    now: Mapping[int, str],
    constraints: decision.Constraints,
) -> list[str]:
    """Returns what there is to say as other choices come to be recommended, by their places."""
    lines = []
    for place, reason in before.items():
        if place in now:
            continue
        row = rows[place]
        unkept = constraints.unkept(row)
        unmet = ", ".join([*unkept[FAILS], *(f"{name}?" for name in unkept[UNDECIDED])])
        if row["effort"] == FULL and not unmet:
            lines.append(f"{decision.name_of(row)} was attacked with everything.")
        else:
            told = f" ({unmet})" if unmet else ": another leaves less"
            lines.append(f"{decision.name_of(row)} is no longer {reason}{told}.")
    for place, reason in now.items():
        if place not in before:
            lines.append(
                f"{decision.name_of(rows[place])} would be {reason}: attacked with everything on "
                "images that no choice has seen first."
            )
    return lines


_FOUND = ("re-id [95%]", "dB", "by", "learned", "effort", "images")  # behind the similarity
_BOUNDED = ("dB of MSE", "no one above", "Bayes [95%]")
_COSTS = ("usable", "ms", "p95 ms", "mJ", "memory kB", "sent B", "Pareto", "limits")
_NUMBERS = {"dB", "learned", "dB of MSE", *_COSTS[:6]}


def table(record: Mapping[str, Any]) -> str:
    """Returns tables of all choices: what attackers find, what bounds it, and costs."""
    rows = record["choices"]
    similarity = kind_of(record).title
    found = [
        "SSIM, re-identified and PSNR are those of the strongest attacker that was run; who holds "
        f"fewer than {GALLERY:,} candidates re-identifies more. Intervals are those of the "
        "greatest of all attacks, by the best way of each in each measure: of A lower ends each is "
        "taken at 1 - 5% / A; those of SSIM hold for every distribution of images' SSIM. "
        "Learned is how many images attackers had to learn from, the least of all threat models; "
        f"with fewer than {LEAST_SURROGATES:,} no limit is shown to hold, but for those that are "
        "certified. Effort is full where everything attacked, and screen where few quick attackers "
        "did, who prove nothing: limits on leakage are undecided there. Images are choice where "
        "figures are of the half of the test split that choices are made on, and report where a "
        "choice was tried on the other, as what is recommended was: its intervals are wider, to "
        "allow for all that were.",
        *_lines(rows, (f"{similarity} [95%]", *_FOUND), _found),
        "",
        "No one is above in the PSNR of the mean squared error, dB of MSE (of the ways that "
        "attackers answer by), which may be below the mean PSNR, and in re-identification, on "
        "average over up to 1,000 images that choices are made on (also where the row is of the "
        "other); the Bayes rate is what the best attacker re-identifies in simulated releases "
        "(estimated).",
        *_lines(rows, _BOUNDED, _bounded),
        "",
        f"On {record['profile']['name']} ({record['profile']['description']}); ms is the median "
        "latency, and p95 ms, which max_latency_ms limits, what 5% of the images exceed; mJ has "
        "waiting and the radio's tail, and sent B no headers. A limit that is named is "
        "broken, or with ? undecided.",
    ]
    heads, *costs = _lines(rows, _COSTS, _costs)
    styled_costs = (_styled(record, place, line) for place, line in enumerate(costs))
    return "\n".join([*found, heads, *styled_costs])


def _lines(
    rows: Sequence[Mapping[str, Any]],
    heads: Sequence[str],
    cells: Callable[[Mapping[str, Any]], Sequence[str]],
) -> list[str]:
    """Returns the lines of a table of all choices."""
    named = [("split", "defence", *heads)]
    named += [(row["split"], _defense(row), *cells(row)) for row in rows]
    numbers = [place for place, head in enumerate(named[0]) if head in _NUMBERS]
    first, *others = aligned(named, numbers)
    return [heading(first), *others]


def _styled(record: Mapping[str, Any], place: int, line: str) -> str:
    """Returns the line of a choice in a colour if it is recommended, broken or undecided."""
    row = record["choices"][place]
    if place in (record["recommendation"], record["recommendation_split"]):
        return recommended(line)
    if row["fails"]:
        return coloured(line, FAILS)
    return coloured(line, UNDECIDED) if row["undecided"] else line


def _defense(row: Mapping[str, Any]) -> str:
    """Names the defense of a choice; "" for none."""
    return "" if row["defense"]["kind"] == "none" else decision.name_of(row).partition(" with ")[2]


def _found(row: Mapping[str, Any]) -> Sequence[str]:
    psnr = "-" if row["psnr_mean"] is None else f"{row['psnr_mean']:.2f}"
    by = decision.attacker_name(row["attacker"]) if row["attacker"] else ""
    told = (psnr, by, _learned(row), row["effort"], row["test_images"])
    return _ssim(row), _reid(row), *told


def _bounded(row: Mapping[str, Any]) -> Sequence[str]:
    of_mean = "-" if row["psnr_of_mean"] is None else f"{row['psnr_of_mean']:.2f}"
    return of_mean, _certified(row), _bayes(row)


def _costs(row: Mapping[str, Any]) -> Sequence[str]:
    return (
        f"{row['usability']['value']:.4f}",
        *(_milli(row[name]) for name in ("latency_s", "latency_p95_s", "energy_j")),
        f"{row['memory_bytes'] / 1e3:,.1f}",
        f"{row['sent_bytes']:,.0f}",
        "*" if row["pareto"] else "",
        _unmet(row),
    )


def _learned(row: Mapping[str, Any]) -> str:
    """Returns how many images attackers learned from; a dash where that is not told."""
    count = row["surrogate_images"]
    return "-" if count is None else f"{count:,}"


def _milli(value: float) -> str:
    """Returns thousands of a unit to three digits, or to whole ones."""
    return f"{1e3 * value:.3g}" if value < 0.9995 else f"{1e3 * value:,.0f}"


def _unmet(row: Mapping[str, Any]) -> str:
    """Names the limits that a choice breaks, and how many images settle the undecided ones."""
    told = [*row["fails"]]
    for name in row["undecided"]:
        count = row["images_needed"].get(name)
        told.append(f"{name}?" if count is None else f"{name}? ({count:,} images)")
    if told:
        return ", ".join(told)
    unproved = ", ".join(name for name in SPOILT if row.get(name))  # of a certified choice
    return f"ok but {unproved}" if unproved else "ok"


def _certified(row: Mapping[str, Any]) -> str:
    """The lowest certified bounds on the images as they are, where they say something."""
    told = []
    for quantity, text, digits in (("psnr", "{:.1f} dB", 1), ("reid", "{:.1%}", 3)):
        values = [
            bound["value"]
            for bound in row["bounds"]
            if bound["kind"] == "certified"
            and bound["quantity"] == quantity
            and bound["name"] != "Cramer-Rao"
            and not bound["dithered"]
            and bound["value"] is not None
        ]
        if values and (quantity == "reid" or min(values) < quality.PSNR_CAP):
            told.append(text.format(rounded_up(min(values), digits)))
    return ", ".join(told)


def _bayes(row: Mapping[str, Any]) -> str:
    """The Bayes rate of re-identification; "" where it is not known."""
    rates = [bound for bound in row["bounds"] if bound["name"] == "Bayes"]
    return intervals.told(rates[0]["value"], rates[0]["ci"], ".1%") if rates else ""


def summary(record: Mapping[str, Any]) -> str:
    """The recommendation, what would be certain, and the paper's advice."""
    limits = {name: value for name, value in record["constraints"].items() if value is not None}
    told = ", ".join(f"{name}={value:.4g}" for name, value in limits.items())
    lines = [f"Constraints: {told}; prefer {record['prefer']}."]
    best, split = record["recommendation"], record["recommendation_split"]
    if best is None:
        lines.append(f"Recommendation: none. {record['reason']}")
    else:
        lines.append(f"Recommendation: {_advised(record['choices'][best])}")
    if split != best or split is None:
        told = f"none. {record['reason_split']}"
        if split is not None:
            told = _advised(record["choices"][split])
        lines.append(f"If the cloud is to compute some layers: {told}")
    if record["certain"]:
        lines.append(
            f"Gaussian noise on the features that holds re-identification below {SAFE_REID:.0%} "
            "for certain, and the usability behind it, on images that choices are made on: "
            + ", ".join(_certainly(one, "") for one in record["certain"])
        )
        lines.append(
            f"Gaussian noise at which the Bayes rate is {SAFE_REID:.0%} (estimated): "
            + ", ".join(_certainly(one, "bayes_") for one in record["certain"])
        )
        bits = record["certain"][0].get("code_bits")
        if bits:
            most = f"{bits} bits or fewer" if bits > 1 else "one bit"
            lines.append(
                f"Behind a codebook of {most} it is at most {SAFE_REID:.0%} for "
                "certain at any cut, on average over these images "
                f"(--defense={trained.CODE}:{bits}; the network is trained on)."
            )
    lines.append(
        "Limits on usability and leakage are on whole intervals, but for re-identification that is "
        "certified, and what is undecided (?) is not recommended. Else the Pareto set and the "
        "recommendation go by measured means; choices whose 95% intervals overlap may change "
        "places on other images."
    )
    if record["advice"]:
        lines.append(_advice_text(record["advice"]))
    return "\n".join(lines)


def _advised(row: Mapping[str, Any]) -> str:
    usable = row["usability"]
    text = (
        f"{decision.name_of(row)}: {usable['kind']} {usable['value']:.2%}, "
        f"{_milli(row['latency_s'])} ms (95%: {_milli(row['latency_p95_s'])} ms), "
        f"{_milli(row['energy_j'])} mJ, "
        f"{row['memory_bytes'] / 1e3:,.0f} kB"
    )
    if row["attacker"] is None:
        return f"{text}; {'all' if row['ssim_mean'] else 'nothing'} is given away."
    by = decision.attacker_name(row["attacker"])
    certain = ""
    if row["certified_reid"] is not None:
        share = rounded_up(row["certified_reid"])
        certain = (
            f" It is certified that no attacker re-identifies more than {share:.1%} of {GALLERY:,} "
            "candidates (of all, if there are fewer), on average."
        )
    why = [words for name, words in SPOILT.items() if row.get(name)]
    if why:
        certain += f" Of reconstruction the attacks prove nothing: one {', one '.join(why)}."
    return (
        f"{text}; of everything that attacked images that no choice has seen, the strongest ({by}) "
        f"has SSIM {_ssim(row)} and re-identifies {_reid(row)} (intervals of "
        f"{100 * row['confidence']:.4g}%); that all stay below {SAFE_SSIM:g} and {SAFE_REID:.0%}: "
        f"{row['safe']}.{certain}"
    )


def _certainly(one: Mapping[str, Any], by: str) -> str:
    sigma, accuracy = one[f"{by}sigma"], one[f"{by}accuracy"]
    if sigma is None:
        return f"{one['split']} not by any"
    return f"{one['split']} {sigma:.3g} ({accuracy:.1%})"


def _advice_text(advice: Mapping[str, Any]) -> str:
    after, before = advice["after"], advice["before"]
    told = {HOLDS: "holds", FAILS: "does not hold", UNDECIDED: "is undecided"}
    return (
        f"The paper's advice, a fully connected layer on the edge, {told[advice['verdict']]} here: "
        f"the strongest attacker has SSIM {_ssim(before)} at {before['split']} and {_ssim(after)} "
        f"at {after['split']}, and re-identifies {_reid(after)}. By threat model, each on its own: "
        + "; ".join(_of_threat(each) for each in advice["threats"])
        + ". The paper argues from query-free attackers."
    )


def _of_threat(found: Mapping[str, Any]) -> str:
    """Returns the verdict on one threat model, with its intervals and number of images."""
    name = THREATS[found["threat_model"]]
    if not found["num_images"]:
        return f"{name} undecided, for none attacked"
    return (
        f"{name} {found['verdict']} (SSIM {_ssim(found)}, re-identified {_reid(found)}, "
        f"{found['num_images']:,} images)"
    )


def _ssim(row: Mapping[str, Any]) -> str:
    return intervals.told(row["ssim_mean"], row["ssim_ci"], ".3f")


def _reid(row: Mapping[str, Any]) -> str:
    return intervals.told(row["reid"], row["reid_ci"], ".1%")
