"""White-box attack: the cloud knows the edge's layers and weights, and inverts what it receives.

Reconstructs test images from the features that cross the wire at each --split, by regularised
maximum likelihood (He, Zhang & Lee 2021, Eq. 1), and compares them with the originals. Each split
is a run of its own: record.json, images.npz and grid.png in <workdir>/whitebox/<run>/.

  python experiments/whitebox.py --split=conv1
  python experiments/whitebox.py --split=relu2,fc1 --method=hybrid
  python experiments/whitebox.py --split=all --method=paper --num_images=1000
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from absl import flags

from jaxinv import cli, data, defenses, evaluation, paper, records, targets
from jaxinv.attacks import inverse, surrogate, whitebox
from jaxinv.attacks.solvers import Result
from jaxinv.errors import UsageError

EXPERIMENT = "whitebox"

FLAGS = flags.FLAGS
flags.DEFINE_enum(
    "method",
    "map",
    [*whitebox.METHODS, *surrogate.METHODS],
    "paper: the authors' settings (Adam with AMSGrad, eps 1e-3, mean losses). tv: Adam with total "
    "variation, pixels kept in [0, 1], rectifiers attacked through what went into them. map: "
    "Levenberg-Marquardt with total variation and a Gaussian prior of the attacker's images. "
    "hybrid: map, then an inverse map that is trained on the attacker's images as start, the "
    "distribution of its errors as prior, and a trained correction. Takes minutes to learn.",
)
flags.DEFINE_string(
    "tv_weight",
    None,
    "lambda of Eq. 1c, constant over the run, in the method's own scale: a number, or for paper "
    "code or printed, the authors' program's or the paper's number at that split. By default code "
    "for paper; for tv it falls from 1 to 0.003; map and hybrid choose it on their own images.",
)
cli.define_float("beta", None, "Smoothness of the total variation, Eq. 1b.", lower_bound=0.1)
flags.DEFINE_enum(
    "solver",
    None,
    list(whitebox.SOLVERS),
    "By default amsgrad for paper, adam for tv, lm (Levenberg-Marquardt) for map and hybrid.",
)
cli.define_count("steps", None, "Steps of the solver, of each stage of hybrid.")
cli.define_count("cg_steps", None, "Steps of conjugate gradients in each step of lm.")
cli.define_float("learning_rate", None, "Of amsgrad and adam.", lower_bound=1e-8)
cli.define_float(
    "eps", None, "Of amsgrad and adam, beside the root of the second moment.", lower_bound=0
)
flags.DEFINE_boolean("box", None, "Keep pixels in [0, 1].")
flags.DEFINE_enum(
    "surrogate",
    "attacker",
    ["attacker", "same"],
    "Images that map and hybrid learn from: the attacker's own, or the target's training images. "
    "Neither paper nor tv learns from images.",
)
cli.define_count(
    "fit_steps", inverse.STEPS, "Steps of training the inverse map of hybrid, and each correction."
)
cli.define_count("chunk", None, "Images attacked at once; by default what is fast here.")
cli.common_flags(num_images=100, splits="conv1")


@dataclasses.dataclass(frozen=True)
class Config:
    """A white-box experiment, over one or several cuts.

    Attributes:
      split: names of layers, or ("all",).
      method: a key of `whitebox.METHODS` or of `surrogate.METHODS`.
      tv_weight: "code", "printed", a number as text, or None for the method's own.
      overrides: fields of `whitebox.Settings` that are not the method's default.
      surrogate: "attacker" or "same".
      fit_steps: of training, for hybrid.
      dataset, data_dir, workdir, checkpoint, num_images, seed, rerun, chunk: as the flags.
    """

    split: tuple[str, ...] = ("conv1",)
    method: str = "map"
    tv_weight: str | None = None
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    surrogate: str = "attacker"
    fit_steps: int = inverse.STEPS
    dataset: str = "mnist"
    data_dir: str | None = None
    workdir: str = "results"
    checkpoint: str | None = None
    num_images: int = 100
    seed: int = 0
    rerun: bool = False
    chunk: int | None = None

    @property
    def learns(self) -> bool:
        """Whether the method learns from images."""
        return self.method in surrogate.METHODS


def run(config: Config) -> list[dict[str, Any]]:
    """Runs what is not finished yet, cut by cut, and returns all records with their `path`."""
    records.ensure_writable(config.workdir)
    dataset = data.load(config.dataset, data_dir=config.data_dir, announce=print)
    cli.check_images(config.num_images, len(dataset.test))
    target = targets.find(dataset, config.workdir, checkpoint=config.checkpoint, announce=print)
    cuts = cli.resolve_splits(config.split, target.network)
    settings = {cut: _settings(config, target, cut) for cut in cuts}
    accuracy = targets.test_accuracy(target, dataset)
    print(
        f"{dataset.name} ({dataset.source}), {config.num_images} test images, "
        f"method {config.method}, target {accuracy:.2%} ({target.source}), "
        f"{records.environment()['device']}"
    )
    print(evaluation.TABLE_HEADER)
    finished = []
    for cut in cuts:
        record = _run_cut(config, dataset, target, cut, settings[cut], accuracy)
        print(evaluation.table_row(record), flush=True)
        finished.append(record)
    if len(finished) > 1:
        name = records.config_hash({"runs": [record["config_hash"] for record in finished]})
        label = f"grid-{dataset.name}-{config.method}-{name}.png".replace("/", "_")
        path = Path(config.workdir) / EXPERIMENT / label
        evaluation.write_joint_grid(path, finished)
        print(f"All splits in one picture: {path}")
    return finished


def _settings(config: Config, target: targets.Target, cut: str) -> whitebox.Settings:
    """A method's settings at a cut; what map and hybrid choose themselves is chosen later."""
    overrides = dict(config.overrides)
    if config.learns:
        if config.tv_weight is not None:
            raise UsageError(
                f"--tv_weight={config.tv_weight}: --method={config.method} chooses it; "
                "it is for paper and tv."
            )
        return dataclasses.replace(whitebox.map_settings(), **overrides)
    settings = whitebox.METHODS[config.method](target.network, cut)
    if config.tv_weight is not None:
        if config.method != "paper" and config.tv_weight in ("code", "printed"):
            raise UsageError(
                f"--tv_weight={config.tv_weight}: is for --method=paper alone; expected a number."
            )
        weight = paper.resolve_lambda(config.tv_weight, target.network, cut)
        overrides |= {"tv_weight": weight, "tv_start": weight}
    return dataclasses.replace(settings, **overrides)


def _run_cut(
    config: Config,
    dataset: data.Dataset,
    target: targets.Target,
    cut: str,
    settings: whitebox.Settings,
    accuracy: float,
) -> dict[str, Any]:
    defense = defenses.NONE
    identity = {
        "experiment": EXPERIMENT,
        "dataset": dataset.name,
        "data_fingerprint": dataset.fingerprint,
        "target": target.fingerprint,
        "split": cut,
        "method": config.method,
        "settings": dataclasses.asdict(settings),
        "seed": config.seed,
        "defense": defense.describe(),
        "releases": 1,
        # What the attacker learns from is part of the run only if it learns.
        **({"surrogate": config.surrogate} if config.learns else {}),
        **({"fit_steps": config.fit_steps} if config.method == "hybrid" else {}),
        "num_images": config.num_images,
        # It changes the result by its rounding; the default is the device's affair.
        **({"chunk": config.chunk} if config.chunk else {}),
    }
    label = f"{dataset.name}-{cut}-{config.method}-n{config.num_images}-s{config.seed}"
    folder = records.run_dir(config.workdir, EXPERIMENT, identity, label=label)
    path = str(folder / records.RECORD_NAME)
    finished = (folder / records.IMAGES_NAME).is_file() and records.read(folder)
    if finished and not config.rerun:
        return {**finished, "path": path}

    edge, _ = target.network.split(cut)
    images = dataset.test[: config.num_images].images
    key_release, key_learn = jax.random.split(jax.random.key(config.seed))
    attack: Sequence[whitebox.Stage] = [whitebox.Stage(settings)]
    fit: dict[str, Any] = {"attacker_knowledge": whitebox.KNOWLEDGE, "surrogate": "none"}
    fit["fit_s"] = 0.0
    if config.learns:
        lesson = surrogate.learn(
            config.method,
            edge,
            target.params,
            dataset.surrogate(config.surrogate).images,
            key=key_learn,
            overrides=config.overrides,
            fit_steps=config.fit_steps,
            folder=Path(config.workdir) / "learned",
        )
        attack = lesson.stages
        fit = {
            "attacker_knowledge": surrogate.METHODS[config.method],
            "surrogate": config.surrogate,
            "fit_s": lesson.seconds,
            "held_out_psnr": list(lesson.quality),
        }
    release = defenses.Release(edge, target.params, images, defense, key_release)
    found = whitebox.invert(edge, target.params, release, attack, chunk=config.chunk)
    results = {result.name.lower(): int((found.result == result).sum()) for result in Result}
    record = {
        "experiment": EXPERIMENT,
        **evaluation.target_fields(target, dataset),
        "split": cut,
        "method": config.method,
        **fit,
        "stages": [dataclasses.asdict(stage.settings) for stage in attack],
        "seed": config.seed,
        "num_images": config.num_images,
        "defense": defense.describe(),
        "releases": 1,
        "accuracy": accuracy,
        "accuracy_undefended": accuracy,
        "paper": evaluation.paper_fields(EXPERIMENT, dataset.name, cut),
        "compile_s": found.compile_seconds,
        "attack_s": found.seconds,
        "images_per_s": config.num_images / found.seconds,
        **records.environment(),
        "config": identity,
        "config_hash": records.config_hash(identity),
        **evaluation.quality_fields(images, found.images),
        "objective": found.objective,
        "solver_steps": found.steps,
        "solver_results": results,
    }
    evaluation.write_run(folder, record, images, found.images)
    written = records.read(folder)
    assert written is not None
    return {**written, "path": path}


def main() -> Path:
    names = ("beta", "solver", "steps", "cg_steps", "learning_rate", "eps", "box")
    overrides = {name: FLAGS[name].value for name in names if FLAGS[name].value is not None}
    config = Config(
        split=tuple(FLAGS.split),
        overrides=overrides,
        **{
            field.name: FLAGS[field.name].value
            for field in dataclasses.fields(Config)
            if field.name not in ("split", "overrides")
        },
    )
    return Path(run(config)[-1]["path"])


if __name__ == "__main__":
    cli.run(main)
