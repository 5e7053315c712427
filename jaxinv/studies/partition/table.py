"""Where to split a network and which defence to add: what that costs, and what it still leaks.

For every cut of a target and every --defense: accuracy of the whole test split; latency, energy and
memory on a device of a --profile; what the strongest of the attackers that are run reconstructs of
the test images, and what no attacker can (bounds). Of these choices it shows the Pareto set, and
recommends one that meets the constraints. Sending everything and sending nothing are choices, too.

Each attack is a run of defenses.py, so either script reads what the other has finished, and attacks
of the other scripts on the same release count, too. The run itself is a folder
<workdir>/partition/<run>/ with record.json, pareto.png and costs.png; report.py makes a page of it.

  python experiments/partition.py --dataset=mnist
  python experiments/partition.py --profile=microcontroller --max_latency_ms=100 --min_accuracy=.97
  python experiments/partition.py --defense=none,dropout:.6,gaussian:2,quantize:1 --max_ssim=.5
  python experiments/partition.py --split=relu2,fc1 --profile=my_device.toml --prefer=energy
"""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import flags

from jaxinv.machine import environment
from jaxinv.measures import costs, decision, quality
from jaxinv.measures.decision import Constraints
from jaxinv.studies import cli, partition, runs, tradeoffs
from jaxinv.studies.partition import Config
from jaxinv.studies.tradeoffs import SAFE_REID
from jaxinv.training import retraining

FLAGS = flags.FLAGS
flags.DEFINE_list(
    "defense",
    "none,gaussian:.5,gaussian:2",
    "Defences, a comma list of kind:level, or kind@site:level, as defenses.py knows them; none is "
    "one. gaussian@input:.5 is noise on the input; a+b:.2+.3 does both.",
)
flags.DEFINE_string(
    "profile",
    "phone-wifi",
    f"Device and network: {', '.join(costs.profile_names())}, or a file of one's own, .toml.",
)
cli.define_float(
    "min_accuracy",
    None,
    "Constraint: share of right answers, as measured. By default one point less than undefended.",
    lower_bound=0,
    upper_bound=1,
)
cli.define_float("max_latency_ms", None, "Constraint: of one image.", lower_bound=0)
cli.define_float("max_energy_mj", None, "Constraint: of the device, for one image.", lower_bound=0)
cli.define_float(
    "max_memory_mb",
    None,
    "Constraint: of the device. By default what the profile has, if it says.",
    lower_bound=0,
)
cli.define_float(
    "max_ssim",
    None,
    "Constraint: of every attacker's reconstructions, with the whole 95% interval of the mean.",
    lower_bound=0,
    upper_bound=1,
)
cli.define_float(
    "max_reid",
    None,
    "Constraint: share of images that any attacker re-identifies, with the whole 95% interval.",
    lower_bound=0,
    upper_bound=1,
)
flags.DEFINE_enum(
    "prefer", "privacy", decision.PREFERENCES, "What is best among choices that meet all of these."
)
flags.DEFINE_list(
    "threat_model",
    "whitebox,blackbox",
    f"Attackers to run: one or several of {', '.join(tradeoffs.THREAT_MODELS)}. What others have "
    "finished in --workdir counts, too.",
)
flags.DEFINE_list("attacker", "adaptive", "One or both of paper and adaptive, as in defenses.py.")
cli.define_count("fit_steps", 400, "Steps of training what an attacker learns.")
cli.define_count("shadow_steps", 300, "Steps of training query-free shadows.")
flags.DEFINE_boolean(
    "correction", False, "Whether white-box attackers learn a correction, too; it takes longer."
)
flags.DEFINE_enum(
    "surrogate",
    "attacker",
    ["attacker", "same"],
    "Images that the attacker learns from: its own, or the target's training images.",
)
flags.DEFINE_boolean(
    "measure",
    False,
    "Whether to time every edge on this machine, too, and to compare with what is counted.",
)
cli.common_flags(num_images=64, splits="all")


def run(config: Config) -> dict[str, Any]:
    """Runs what is not finished yet and returns the record with its `path`."""
    record = partition.study(config)
    folder = Path(record["path"]).parent
    print(table(record))
    print(f"What each cut costs: {folder / partition.COSTS_NAME}")
    print(f"Accuracy against what is left: {folder / partition.CHOICES_NAME}")
    print(summary(record))
    if config.measure:
        print(measured(config))
    return record


def measured(config: Config) -> str:
    """Seconds an image of each edge on this machine, beside its FLOPs, and how the orders agree."""
    target = runs.load(config).target
    counted = {row.split: row.edge_flops for row in costs.split_costs(target.network)}
    seconds = costs.measure_edges(target.network, target.params)
    lines = [f"Edges on this machine, {environment.facts()['device']}, 64 images at once:"]
    lines += [
        f"{cut:<12}{counted[cut] / 1e6:>10.3f} MFLOP{1e6 * time:>10.1f} us an image"
        for cut, time in seconds.items()
    ]
    pairs = [(a, b) for a, b in itertools.combinations(seconds, 2) if counted[a] != counted[b]]
    apart = [(a, b) for a, b in pairs if seconds[a] > seconds[b]]
    told = ", ".join(f"{a} and {b}" for a, b in apart) or "none"
    lines.append(
        f"{len(pairs) - len(apart)} of {len(pairs)} pairs in the order counted; not: {told}"
    )
    return "\n".join(lines)


_COLUMNS = (
    f"{'split':<12}{'defence':<20}{'accuracy':<10}{'ms':>8}{'mJ':>9}{'memory kB':>11}{'sent B':>9}"
    f"{'SSIM':>7}{'re-id':>8}{'dB':>7}  {'by':<27}{'dB of MSE':>9}  {'no one above':<16}"
)


def table(record: Mapping[str, Any]) -> str:
    """All choices; * is the Pareto set, and what breaks no constraint is marked ok."""
    lines = [
        f"On {record['profile']['name']} ({record['profile']['description']}); SSIM, re-identified "
        "and PSNR are those of the strongest attacker that was run; * marks the Pareto set. No one "
        "is above in the PSNR of the mean squared error, dB of MSE, which may be below the mean "
        "PSNR, and in re-identification, on average over more images than were attacked:",
        _COLUMNS,
        *(_line(row) for row in record["choices"]),
    ]
    return "\n".join(lines)


def _line(row: Mapping[str, Any]) -> str:
    defense = row["defense"]
    name = "" if defense["kind"] == "none" else decision.name_of(row).partition(" with ")[2]
    psnr, of_mean = (
        "-" if row[key] is None else f"{row[key]:.2f}" for key in ("psnr_mean", "psnr_of_mean")
    )
    by = row["attacker"]
    who = decision.attacker_name(by) if by else ""
    return (
        f"{row['split']:<12}{name:<20}{row['accuracy']:<10.4f}{1e3 * row['latency_s']:>8.3g}"
        f"{1e3 * row['energy_j']:>9.3g}{row['memory_bytes'] / 1e3:>11.1f}{row['sent_bytes']:>9,.0f}"
        f"{_ssim(row):>7}{row['reid_top1']:>8.1%}{psnr:>7}  {who:<27}{of_mean:>9}  "
        f"{_certified(row):<16}"
        f"{'*' if row['pareto'] else ' '} {'ok' if row['meets'] else ', '.join(row['fails'])}"
    )


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
    if split != best:
        told = _advised(record["choices"][split]) if split is not None else "none meets these."
        lines.append(f"If the cloud is to compute some layers: {told}")
    lines.append(
        f"Gaussian noise on the features that holds re-identification below {SAFE_REID:.0%} for "
        "certain, and the accuracy behind it: "
        + ", ".join(_certainly(one) for one in record["certain"])
    )
    lines.append(
        "The Pareto set and the recommendation go by measured means; choices whose 95% intervals "
        "overlap may change places on other images."
    )
    if record["advice"]:
        lines.append(_advice_text(record["advice"]))
    return "\n".join(lines)


def _advised(row: Mapping[str, Any]) -> str:
    text = (
        f"{decision.name_of(row)}: accuracy {row['accuracy']:.2%}, "
        f"{1e3 * row['latency_s']:.3g} ms, {1e3 * row['energy_j']:.3g} mJ, "
        f"{row['memory_bytes'] / 1e3:,.0f} kB"
    )
    if row["attacker"] is None:
        return f"{text}; {'all' if row['ssim_mean'] else 'nothing'} is given away."
    by = decision.attacker_name(row["attacker"])
    return (
        f"{text}; the strongest attacker that was run ({by}) has SSIM {row['ssim_mean']:.3f} and "
        f"re-identifies {row['reid_top1']:.1%}."
    )


def _certainly(one: Mapping[str, Any]) -> str:
    if one["sigma"] is None:
        return f"{one['split']} not by any"
    return f"{one['split']} {one['sigma']:.3g} ({one['accuracy']:.1%})"


def _advice_text(advice: Mapping[str, Any]) -> str:
    after, before = advice["after"], advice["before"]
    verdict = "holds" if advice["holds"] else "does not hold"
    return (
        f"The paper's advice, a fully connected layer on the edge, {verdict} here: the strongest "
        f"attacker has SSIM {_ssim(before)} at {before['split']} and {_ssim(after)} at "
        f"{after['split']}, and re-identifies {after['reid_top1']:.1%}."
    )


def _ssim(row: Mapping[str, Any]) -> str:
    return "-" if row["ssim_mean"] is None else f"{row['ssim_mean']:.3f}"


def main() -> Path:
    given = {name: FLAGS[name].value for name in Constraints.__dataclass_fields__}
    config = runs.from_flags(
        Config,
        constraints=Constraints(**given),
        method="-".join(FLAGS.attacker),
        site=(),
        level=None,
        releases=1,
        draws=1,
        retrain="none",
        retrain_steps=retraining.STEPS,
    )
    return Path(run(config)["path"])


if __name__ == "__main__":
    cli.run(main)
