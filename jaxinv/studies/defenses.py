"""Defences: what each costs in accuracy, and what it leaves to attackers who know that it is there.

Puts each --defense at each --site (the input or the features) of a --split, at all its levels, and
measures the accuracy of the whole test split and what an attacker reconstructs, both on the same
release. --attacker=paper attacks as the authors did, who ignore the defence; adaptive knows it and
its level. Each level and attacker is a run of its own: record.json, images.npz and grid.png in
<workdir>/defenses/<run>/. The pictures are those of the paper's Figs. 6 to 13: reconstructions by
level, and accuracy against SSIM and PSNR. At the end: what it costs to be safe, for each defence.

  python experiments/defenses.py --split=relu2 --defense=dropout --level=0,.2,.4,.6,.8
  python experiments/defenses.py --defense=gaussian,laplace,dropout --site=input,feature
  python experiments/defenses.py --defense=dropout --level=.6 --releases=4 --attacker=adaptive
  python experiments/defenses.py --defense=dropout+gaussian --level=.2+.3,.4+.5 --retrain=both
  python experiments/defenses.py --defense=nopeek --level=0,1,5 --threat_model=whitebox,blackbox
"""

import itertools
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from jaxinv.defenses import MECHANISMS
from jaxinv.look import figures
from jaxinv.studies import cli, evaluation, runs, tradeoffs
from jaxinv.studies.tradeoffs import EXPERIMENT, SAFE_REID, SAFE_SSIM, Attacker, Config, Deployment
from jaxinv.training import retraining

FLAGS = flags.FLAGS
flags.DEFINE_list(
    "defense",
    "dropout",
    f"One or several of {', '.join(tradeoffs.KINDS)}; a+b does both, first a. "
    "gaussian, laplace: noise added. dropout: values set to zero. quantize: to a number of bits. "
    "prune: the smallest values set to zero. project: to a random subspace. clip: to the median "
    "length, with Gaussian noise in proportion to it. nopeek: trained for small distance "
    "correlation of input and features.",
)
flags.DEFINE_list(
    "site",
    "feature",
    "Where: feature, input (pixels as the network normalises them), or both in turn: "
    "input,feature. Of a+b: input+feature, or one for both.",
)
flags.DEFINE_list(
    "level",
    None,
    "Levels, a comma list; of a+b: .2+.3,.4+.3. "
    + " ".join(f"{each.name}: {each.unit}." for each in MECHANISMS.values())
    + " By default some of each.",
)
flags.DEFINE_list(
    "attacker",
    "paper,adaptive",
    "paper: the authors' attack of the threat model. adaptive: one that knows the defence and its "
    "level, and trains on defended releases.",
)
flags.DEFINE_list(
    "threat_model",
    "whitebox",
    f"What the attacker knows: one or several of {', '.join(tradeoffs.THREAT_MODELS)}.",
)
cli.define_count("releases", 1, "Releases of each image that the attacker sees.")
cli.define_count(
    "draws", 2, "Independent draws of a random defence, over which accuracy and quality are means."
)
flags.DEFINE_enum(
    "retrain",
    "none",
    ["none", *retraining.PARTS],
    "Whether the target is trained on with the defence in the loop: the cloud alone, or both "
    "halves. nopeek always trains both.",
)
cli.define_count("retrain_steps", retraining.STEPS, "Steps of that, to whole epochs.")
cli.define_count(
    "fit_steps",
    None,
    "Steps of training what the attacker learns, to whole epochs. By default that of each attack.",
)
flags.DEFINE_boolean(
    "correction",
    True,
    "Whether adaptive white-box attackers learn a network that corrects what they find. It is what "
    "takes them longest.",
)
cli.define_count("shadow_steps", None, "Steps of training query-free shadows.")
flags.DEFINE_enum(
    "surrogate",
    "attacker",
    ["attacker", "same"],
    "Images that the attacker learns from: its own, or the target's training images.",
)
cli.common_flags(num_images=200, splits="relu2")


def run(config: Config) -> list[dict[str, Any]]:
    """Runs what is not finished yet and returns all records with their `path`."""
    chosen = tradeoffs.choices(config)
    scene = runs.load(config)
    defended = [
        Deployment(config, scene, cut, choice)
        for cut, choice in itertools.product(scene.cuts, chosen)
    ]
    attackers = [
        Attacker(config, scene, deployment, threat, method)
        for deployment in defended
        for threat in dict.fromkeys(config.threat_model)
        for method in dict.fromkeys(config.attacker)
    ]
    attacks = [
        partial(tradeoffs.run_one, config, scene, attacker, number)
        for attacker in attackers
        for number in range(len(attacker.deployment.family))
    ]
    finished = runs.run_all(EXPERIMENT, config, scene, attacks, table=tradeoffs.TABLE, grid=False)
    _draw(config, scene, attackers, finished)
    print(protection_table(finished))
    return finished


# --- Tables and pictures ------------------------------------------------------------------------


def protection_table(finished: Sequence[dict[str, Any]]) -> str:
    """`tradeoffs.protection` as text."""
    lines = [
        f"Least loss of accuracy at which every attacker above stays below SSIM {SAFE_SSIM:g} "
        f"and {SAFE_REID:.0%} re-identification:"
    ]
    for row in tradeoffs.protection(finished):
        what = "not reached"
        if row["loss"] is not None:
            what = (
                f"{100 * row['loss']:.2f} points, at level {row['level']} "
                f"(SSIM {row['ssim']:.3f}, re-identified {row['reid']:.1%})"
            )
        lines.append(f"  {row['split']:<9}{row['defense']:<28}{what}")
    return "\n".join(lines)


def _draw(
    config: Config,
    scene: runs.Scene,
    attackers: Sequence[Attacker],
    finished: Sequence[dict[str, Any]],
) -> None:
    """A grid over levels for each defence and threat model, a trade-off for each threat model."""
    ends = np.cumsum([len(attacker.deployment.family) for attacker in attackers])[:-1]
    runs_of = dict(zip(attackers, _split(finished, ends), strict=True))
    for deployment in dict.fromkeys(attacker.deployment for attacker in attackers):
        for threat in dict.fromkeys(config.threat_model):
            own = [
                records
                for attacker, records in runs_of.items()
                if attacker.deployment is deployment and attacker.threat == threat
            ]
            # Level by level, attackers side by side.
            rows = [record for level in zip(*own, strict=True) for record in level]
            path = runs.joint_path("levels", EXPERIMENT, config, scene, rows)
            evaluation.write_joint_grid(path, rows, title=_title(rows[0], deployment.name))
            print(f"Reconstructions, {deployment.name}, {deployment.cut}, {threat}: {path}")
    for threat in dict.fromkeys(config.threat_model):
        panels: dict[str, dict[str, dict[str, list[Any]]]] = {}
        for attacker, records in runs_of.items():
            if attacker.threat == threat:
                name = attacker.deployment.name
                if len(scene.cuts) > 1:
                    name = f"{attacker.deployment.cut}: {name}"
                panels.setdefault(attacker.method, {})[name] = tradeoffs.curve(records)
        rows = [record for record in finished if record["threat_model"] == threat]
        path = runs.joint_path("tradeoff", EXPERIMENT, config, scene, rows)
        claims = (SAFE_SSIM, 0.95 if scene.accuracy > 0.95 else None)
        title = (
            f"{scene.dataset.name}, {threat}, {', '.join(scene.cuts)}: {config.num_images:,} images"
        )
        figures.tradeoff_curves(path, panels, title=title, claims=claims)
        print(f"Accuracy against quality, {threat}: {path}")


def _split(finished: Sequence[dict[str, Any]], ends: np.ndarray) -> list[list[dict[str, Any]]]:
    bounds = [0, *ends.tolist(), len(finished)]
    return [list(finished[low:high]) for low, high in itertools.pairwise(bounds)]


def _title(record: dict[str, Any], name: str) -> str:
    return (
        f"{name} at {record['split']}, {record['dataset']}, {record['threat_model']}: level, "
        f"attacker, mean PSNR / SSIM of {record['num_images']:,} images"
    )


def main() -> Path:
    return Path(run(runs.from_flags(Config, method="-".join(FLAGS.attacker)))[-1]["path"])


if __name__ == "__main__":
    cli.run(main)
