"""The lines that a partition study prints."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxinv.constants import trained
from jaxinv.constants.threats import THREATS
from jaxinv.constants.verdicts import (
    FAILS,
    GALLERY,
    HOLDS,
    LEAST_SURROGATES,
    SAFE_REID,
    SAFE_SSIM,
    UNDECIDED,
)
from jaxinv.machine.terminal import BOLD, GREEN, styled
from jaxinv.measures import decision, intervals, quality
from jaxinv.measures.leaks import LEAKS
from jaxinv.store.record import AttackRecord
from jaxinv.studies.defended.known import plain
from jaxinv.studies.lines import heading, judged, width

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
    rows: Sequence[Mapping[str, Any]], before: Mapping[int, str], now: Mapping[int, str]
) -> list[str]:
    """Returns what there is to say as other choices come to be recommended, by their places."""
    lines = []
    for place, reason in before.items():
        if place in now:
            continue
        row = rows[place]
        unmet = ", ".join([*row["fails"], *(f"{name}?" for name in row["undecided"])])
        if row["effort"] == "full" and not unmet:
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


_COLUMNS = (
    f"{'usable':<10}{'ms':>8}{'p95 ms':>8}{'mJ':>9}"
    f"{'memory kB':>11}{'sent B':>9}"
    f"{'SSIM [95%]':>22}{'re-id [95%]':>19}{'dB':>7}  {'by':<27}"
    f"{'learned':<9}{'effort':<8}{'images':<8}"
    f"{'dB of MSE':>9}  {'no one above':<16}{'Bayes [95%]':<21}"
)


def table(record: Mapping[str, Any]) -> str:
    """All choices; * is the Pareto set, and what is shown to break no constraint is marked ok."""
    rows = record["choices"]
    first = width([row["split"] for row in rows], least=12)
    second = width(map(_defense, rows), least=20)
    told = [
        f"On {record['profile']['name']} ({record['profile']['description']}); ms is the median "
        "latency, and p95 ms, which max_latency_ms limits, what 5% of the images exceed; mJ has "
        "waiting and the radio's tail, and sent B no headers.",
        "SSIM, re-identified and PSNR are those of the strongest attacker that was run; who holds "
        f"fewer than {GALLERY:,} candidates re-identifies more. * marks "
        "the Pareto set. No one is above in the PSNR of the mean squared error, dB of MSE (of the "
        "ways that attackers answer by), which may be below the mean PSNR, and in "
        "re-identification, on average over up to 1,000 images that choices are made on "
        "(also where the row is of the other); the Bayes rate is what the best attacker "
        "re-identifies in simulated releases (estimated). Intervals are those of the greatest of "
        "all attacks, by the best way of each in each measure: of A lower ends "
        "each is taken at 1 - 5% / A; those of SSIM hold for every distribution of images' SSIM. "
        "Learned is how many images attackers had to learn from, the least of all threat models; "
        f"with fewer than {LEAST_SURROGATES:,} no limit is shown to hold. "
        "Effort is full where everything attacked, and screen where few quick attackers did, who "
        "prove nothing. Images are choice where figures are of the half of the test split that "
        "choices are made on, and report where a choice was tried on the other, as what is "
        "recommended was: its intervals are wider, to allow for all that were.",
        heading(f"{'split':<{first}}{'defence':<{second}}{_COLUMNS}"),
        *(
            _styled(record, place, f"{row['split']:<{first}}{_defense(row):<{second}}{measured}")
            for place, (row, measured) in enumerate(zip(rows, map(_measured, rows), strict=True))
        ),
    ]
    return "\n".join(told)


def _styled(record: Mapping[str, Any], place: int, line: str) -> str:
    """Returns the line of a choice: recommended ones stand out, and those that break a limit.

    Whatever else looks fine was attacked by few, who prove nothing, and has no colour.
    """
    row = record["choices"][place]
    if place in (record["recommendation"], record["recommendation_split"]):
        return styled(line, BOLD, GREEN)
    if row["fails"]:
        return judged(line, FAILS)
    return judged(line, UNDECIDED) if row["undecided"] else line


def _defense(row: Mapping[str, Any]) -> str:
    """Names the defense of a choice; "" for none."""
    return "" if row["defense"]["kind"] == "none" else decision.name_of(row).partition(" with ")[2]


def _measured(row: Mapping[str, Any]) -> str:
    """Returns the line of a choice behind its name."""
    psnr, of_mean = (
        "-" if row[key] is None else f"{row[key]:.2f}" for key in ("psnr_mean", "psnr_of_mean")
    )
    by = row["attacker"]
    who = decision.attacker_name(by) if by else ""
    return (
        f"{row['usability']['value']:<10.4f}"
        f"{_milli(row['latency_s']):>8}{_milli(row['latency_p95_s']):>8}{_milli(row['energy_j']):>9}"
        f"{row['memory_bytes'] / 1e3:>11.1f}{row['sent_bytes']:>9,.0f}"
        f"{_ssim(row):>22}{_reid(row):>19}{psnr:>7}  {who:<27}"
        f"{_learned(row):<9}{row['effort']:<8}{row['test_images']:<8}{of_mean:>9}  "
        f"{_certified(row):<16}{_bayes(row):<21}"
        f"{'*' if row['pareto'] else ' '} {_unmet(row)}"
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
    return ", ".join(told) or "ok"


def _certified(row: Mapping[str, Any]) -> str:
    """The lowest certified bounds on the images as they are, where they say something."""
    told = []
    for quantity, text in (("psnr", "{:.1f} dB"), ("reid", "{:.0%}")):
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
            told.append(text.format(min(values)))
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
            lines.append(
                f"Behind a codebook of {bits} bits or fewer it is at most {SAFE_REID:.0%} for "
                "certain at any cut, on average over these images "
                f"(--defense={trained.CODE}:{bits}; the network is trained on)."
            )
    lines.append(
        "Limits on usability and leakage are on whole intervals, and what is undecided (?) is "
        "not recommended. Else the Pareto set and the recommendation go by measured means; choices "
        "whose 95% intervals overlap may change places on other images."
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
    return (
        f"{text}; of everything that attacked images that no choice has seen, the strongest ({by}) "
        f"has SSIM {_ssim(row)} and re-identifies {_reid(row)} (intervals of "
        f"{100 * row['confidence']:.4g}%); that all stay below {SAFE_SSIM:g} and {SAFE_REID:.0%}: "
        f"{row['safe']}."
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
