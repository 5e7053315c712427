"""Convergence of the white-box methods: PSNR and misfit against iterations and against seconds.

Attacks the same test images by each --method, watches the reconstructions on their way, and draws
the methods side by side. The misfit, ||f1(x) - v||^2 / ||v||^2, is what every method makes small,
whatever else is in its objective. Each split is a run of its own: record.json and convergence.png
in <workdir>/convergence/<run>/.

  python experiments/convergence.py --split=relu2
  python experiments/convergence.py --split=relu2,fc1 --method=paper,tv,map,hybrid
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from jaxinv import defenses
from jaxinv.attacks.inversion.loop import Snapshot, chunk_size
from jaxinv.attacks.whitebox import rmle as whitebox
from jaxinv.attacks.whitebox import surrogate
from jaxinv.errors import UsageError
from jaxinv.inputs import data
from jaxinv.look import figures
from jaxinv.machine import environment, hosts
from jaxinv.measures import quality
from jaxinv.networks import Network, Params
from jaxinv.store import files, records
from jaxinv.studies import cli, evaluation
from jaxinv.training import targets

EXPERIMENT = "convergence"
FIGURE_NAME = "convergence.png"
METHODS = (*whitebox.METHODS, *surrogate.METHODS)
_SNAPSHOTS = 200  # of a stage, about

FLAGS = flags.FLAGS
flags.DEFINE_list(
    "method",
    "paper,tv,map",
    f"Methods to compare, a comma list of {', '.join(METHODS)}; whitebox.py --help tells what each "
    "is. hybrid takes minutes to learn.",
)
cli.define_count("steps", None, "Steps of every method's solver, of each stage of hybrid.")
flags.DEFINE_enum(
    "surrogate",
    "attacker",
    ["attacker", "same"],
    "Images that map and hybrid learn from: the attacker's own, or the target's training images.",
)
cli.common_flags(num_images=32, splits="relu2")


@dataclasses.dataclass(frozen=True)
class Config:
    """A comparison of methods, at one or several cuts.

    Attributes:
      split: names of layers, or ("all",).
      method: keys of `whitebox.METHODS` or of `surrogate.METHODS`.
      steps: of every method's solver, in place of its own; or None.
      surrogate: "attacker" or "same".
      dataset, data_dir, workdir, checkpoint, num_images, seed, rerun: as the flags.
    """

    split: tuple[str, ...] = ("relu2",)
    method: tuple[str, ...] = ("paper", "tv", "map")
    steps: int | None = None
    surrogate: str = "attacker"
    dataset: str = "mnist"
    data_dir: str | None = None
    workdir: str = "results"
    checkpoint: str | None = None
    num_images: int = 32
    seed: int = 0
    rerun: bool = False

    @property
    def overrides(self) -> dict[str, Any]:
        """Fields of `whitebox.Settings` that are not the methods' own."""
        return {} if self.steps is None else {"steps": self.steps}


def run(config: Config) -> list[dict[str, Any]]:
    """Runs what is not finished yet, cut by cut, and returns all records with their `path`."""
    methods = resolve_methods(config.method)
    files.ensure_writable(config.workdir)
    dataset = data.load(config.dataset, data_dir=config.data_dir, announce=print)
    cli.check_images(config.num_images, len(dataset.test))
    target = targets.find(dataset, config.workdir, checkpoint=config.checkpoint, announce=print)
    cuts = cli.resolve_splits(config.split, target.network)
    print(
        f"{dataset.name} ({dataset.source}), {config.num_images} test images, "
        f"target {target.source}, {environment.facts()['device']}"
    )
    print(TABLE_HEADER)
    finished = []
    for cut in cuts:
        record = _run_cut(config, methods, dataset, target, cut)
        print(*table_rows(record), sep="\n", flush=True)
        finished.append(record)
    return finished


def resolve_methods(names: Sequence[str]) -> tuple[str, ...]:
    """Names of methods, in the order given and without repeats.

    Raises:
      UsageError: there is no such method, or none is named.
    """
    methods = tuple(dict.fromkeys(name.strip().lower() for name in names))
    for method in methods:
        if method not in METHODS:
            raise UsageError(f"--method={method}: expected some of {', '.join(METHODS)}.")
    if not methods:
        raise UsageError(f"--method is empty; choose from {', '.join(METHODS)}.")
    return methods


class Watcher:
    """Follows each image of an attack: what it looks like after how many steps and seconds.

    It alone sees the originals, and the attack never sees it. Its own work is not in the seconds.

    Args:
      originals: `[N, H, W, C]` in unit space.
      features: `[N, ...]`, what the attack was given.
      edge, params: the part of the network on the device, and its parameters.
    """

    def __init__(
        self, originals: np.ndarray, features: np.ndarray, edge: Network, params: Params
    ) -> None:
        self._originals, self._features = originals, features
        self._edge, self._params = edge, edge.select(params)
        count = len(originals)
        self._seen: list[np.ndarray] = []  # rows: image, steps, seconds, PSNR, SSIM, misfit
        self._stage, self._waiting = -1, 0.0
        # Of the stages before: an image's seconds; the steps are the most that any image took.
        self._earlier_steps, self._earlier_seconds = 0, np.zeros(count)
        self._steps, self._seconds = [0], np.zeros(count)
        self._stage_starts: list[tuple[int, float]] = []

    def spend(self, seconds: float) -> None:
        """Adds what the stage to come costs before its first step, for all images together."""
        self._waiting += seconds

    def __call__(self, stage: int, seen: Snapshot) -> None:
        """Notes what is seen; see `whitebox.invert`."""
        if stage != self._stage:
            self._begin(stage)
        places = np.flatnonzero(seen.indices >= 0)
        images = seen.indices[places]
        new = np.isnan(self._began[images])
        self._began[images[new]] = self._before
        self._before = seen.seconds
        # The places of a chunk share its time.
        own = (seen.seconds - self._began[images]) / len(seen.indices)
        self._seconds[images] = self._earlier_seconds[images] + own
        steps = self._earlier_steps + seen.steps[places]
        if steps.max() > self._steps[-1]:
            self._steps.append(int(steps.max()))
        # All places are measured, idle ones too, so that one program does.
        quality = [values[places] for values in self._measure(np.maximum(seen.indices, 0), seen.x)]
        self._seen.append(np.stack([images, steps, self._seconds[images], *quality]))

    def curves(self) -> dict[str, Any]:
        """What was seen, as statistics over images at each number of steps.

        Between what was seen of an image values are interpolated, and after it they stay, so that
        images that ended early, or were attacked later than others, are in each. The first number
        of steps is the first at which all images were seen. Diverged images are in no statistic.

        Returns:
          `[T]` each: `steps`; `seconds`, that an image took until then: the share of its place in
          the time of its chunk, and of the time that the `estimate` of a stage took; `psnr_mean`
          (dB) and `psnr_low`, `psnr_high`, the quartiles; `ssim_mean`; `misfit_median` and
          `misfit_low`, `misfit_high`, the quartiles. And `stage_steps` and `stage_seconds`, where
          the stages after the first begin.
        """
        seen = np.concatenate(self._seen, axis=1)
        ways = [seen[1:, seen[0] == image] for image in range(len(self._originals))]
        first = max(steps[0] for steps, *_ in ways)
        grid = np.array([steps for steps in self._steps if steps >= first], float)
        table = np.array(
            [[np.interp(grid, steps, values) for values in rest] for steps, *rest in ways]
        )
        seconds, psnr, ssim, misfit = table.transpose(1, 0, 2)
        psnr_low, _, psnr_high = _quartiles(psnr)
        misfit_low, misfit_median, misfit_high = _quartiles(misfit)
        return {
            "steps": grid.astype(int),
            "seconds": seconds.mean(axis=0),
            "psnr_mean": _over_finite(np.mean, psnr),
            "psnr_low": psnr_low,
            "psnr_high": psnr_high,
            "ssim_mean": _over_finite(np.mean, ssim),
            "misfit_median": misfit_median,
            "misfit_low": misfit_low,
            "misfit_high": misfit_high,
            "stage_steps": [steps for steps, _ in self._stage_starts[1:]],
            "stage_seconds": [seconds for _, seconds in self._stage_starts[1:]],
        }

    def _begin(self, stage: int) -> None:
        self._stage, self._before = stage, 0.0
        self._began = np.full(len(self._originals), np.nan)
        self._stage_starts.append((self._steps[-1], float(self._seconds.mean())))
        self._earlier_steps = self._steps[-1]
        self._earlier_seconds = self._seconds + self._waiting / len(self._originals)
        self._waiting = 0.0

    def _measure(self, images: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, ...]:
        """PSNR in dB, SSIM and misfit of `x [B, H, W, C]`."""
        measured = quality.evaluate(self._originals[images], x, chunk_size=len(x))
        misfit = relative_misfit(self._edge, self._params, x, self._features[images])
        return measured.psnr, measured.ssim, np.asarray(misfit)


@partial(jax.jit, static_argnums=0)
def relative_misfit(edge: Network, params: Params, x: jax.Array, observed: jax.Array) -> jax.Array:
    """`||f1(x) - v||^2 / ||v||^2`, `[B]`, of images `[B, H, W, C]` and features `v [B, ...]`."""
    observed = observed.reshape(len(observed), -1)
    difference = edge.apply(params, x).reshape(observed.shape) - observed
    # Behind a closed rectifier there may be nothing but zeros.
    return jnp.sum(difference**2, axis=1) / (jnp.sum(observed**2, axis=1) + 1e-12)


def _over_finite(statistic: Callable[[np.ndarray], Any], values: np.ndarray) -> np.ndarray:
    """`statistic` of the finite ones of each column of `values` `[N, T]`; NaN if there are none."""
    columns = (column[np.isfinite(column)] for column in values.T)
    return np.array([statistic(column) if column.size else np.nan for column in columns])


def _quartiles(values: np.ndarray) -> list[np.ndarray]:
    return [_over_finite(partial(np.percentile, q=q), values) for q in (25, 50, 75)]


def _run_cut(
    config: Config,
    methods: Sequence[str],
    dataset: data.Dataset,
    target: targets.Target,
    cut: str,
) -> dict[str, Any]:
    identity = {
        "experiment": EXPERIMENT,
        "dataset": dataset.name,
        "data_fingerprint": dataset.fingerprint,
        "target": target.fingerprint,
        "split": cut,
        "settings": {
            method: dataclasses.asdict(_settings(config, method, target, cut)) for method in methods
        },
        "seed": config.seed,
        "num_images": config.num_images,
        **({"surrogate": config.surrogate} if set(methods) & set(surrogate.METHODS) else {}),
    }
    label = f"{dataset.name}-{cut}-{'+'.join(methods)}-n{config.num_images}-s{config.seed}"
    folder = records.run_dir(config.workdir, EXPERIMENT, identity, label=label)
    path = str(folder / records.RECORD_NAME)
    finished = records.read(folder)
    if finished and not config.rerun:
        if hosts.is_first() and not (folder / FIGURE_NAME).is_file():
            draw(folder, finished)
        return {**finished, "path": path}

    attacks, curves = {}, {}
    for method in methods:
        attacks[method], curves[method] = _run_method(config, method, dataset, target, cut)
    record = {
        "experiment": EXPERIMENT,
        **evaluation.target_fields(target, dataset),
        # Not `split`: that would make it the record of one attack by one method.
        "cut": cut,
        "methods": list(methods),
        "seed": config.seed,
        "num_images": config.num_images,
        "defense": defenses.NONE.describe(),
        **environment.facts(),
        "config": identity,
        "config_hash": records.config_hash(identity),
        "attacks": attacks,
        "curves": curves,
    }
    draw(folder, record)
    records.write(folder, record, images=None)
    written = records.read(folder)
    assert written is not None
    return {**written, "path": path}


def _settings(config: Config, method: str, target: targets.Target, cut: str) -> whitebox.Settings:
    """A method's settings at a cut; what map and hybrid choose themselves is chosen later."""
    if method in surrogate.METHODS:
        settings = whitebox.map_settings()
    else:
        settings = whitebox.METHODS[method](target.network, cut)
    return dataclasses.replace(settings, **config.overrides)


def _run_method(
    config: Config, method: str, dataset: data.Dataset, target: targets.Target, cut: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Attacks by one method; returns what a record says of it, and its curves."""
    edge, _ = target.network.split(cut)
    originals = dataset.test[: config.num_images].images
    key_release, key_learn = jax.random.split(jax.random.key(config.seed))
    settings = _settings(config, method, target, cut)
    attack: Sequence[whitebox.Stage] = [whitebox.Stage(settings)]
    knowledge, fit_seconds = whitebox.KNOWLEDGE, 0.0
    if method in surrogate.METHODS:
        lesson = surrogate.learn(
            method,
            edge,
            target.params,
            dataset.surrogate(config.surrogate).images,
            key=key_learn,
            overrides=config.overrides,
            folder=Path(config.workdir) / "learned",
        )
        attack, knowledge = lesson.stages, surrogate.METHODS[method]
        fit_seconds = lesson.seconds
    release = defenses.Release(edge, target.params, originals, defenses.NONE, key_release)
    features = release[np.arange(len(originals))]
    watcher = Watcher(originals, features, edge, target.params)
    found = whitebox.invert(
        edge,
        target.params,
        features,
        [_timed(stage, watcher.spend) for stage in attack],
        # Without places for more images than there are: their time would be shared by too few.
        chunk=chunk_size(edge, len(originals)),
        watch=watcher,
        watch_every=max(1, max(stage.settings.steps for stage in attack) // _SNAPSHOTS),
    )
    quality = evaluation.quality_fields(originals, found.images)
    fields = {
        "attacker_knowledge": knowledge,
        "stages": [dataclasses.asdict(stage.settings) for stage in attack],
        **{name: quality[name] for name in ("psnr_mean", "ssim_mean", "diverged")},
        "fit_s": fit_seconds,
        "compile_s": found.compile_seconds,
    }
    return fields, watcher.curves()


def _timed(stage: whitebox.Stage, spend: Callable[[float], None]) -> whitebox.Stage:
    """A stage whose `estimate` tells the seconds that it takes once it is compiled."""
    estimate = stage.estimate
    if estimate is None:
        return stage

    def timed(features: whitebox.Features, found: np.ndarray | None) -> np.ndarray:
        estimate(features, found)
        began = time.perf_counter()
        images = estimate(features, found)
        spend(time.perf_counter() - began)
        return images

    return dataclasses.replace(stage, estimate=timed)


def draw(folder: Path, record: dict[str, Any]) -> None:
    """Draws the curves of a record into its folder."""
    names = {method: _name(method, record["attacks"][method]) for method in record["methods"]}
    figures.convergence_curves(
        folder / FIGURE_NAME,
        {name: record["curves"][method] for method, name in names.items()},
        title=f"{record['dataset']}, {record['cut']}: {record['num_images']:,} images; "
        f"{record['device']}",
    )


def _name(method: str, attack: dict[str, Any]) -> str:
    return f"{method} ({attack['diverged']} diverged)" if attack["diverged"] else method


TABLE_HEADER = (
    f"{'split':<10}{'method':<8}{'PSNR dB':>8}{'SSIM':>8}{'misfit':>10}"
    f"{'steps':>7}{'s/image':>10}{'learning s':>12}"
)


def table_rows(record: dict[str, Any]) -> list[str]:
    """A line below `TABLE_HEADER` for each method: where its curves end."""
    rows = []
    for method in record["methods"]:
        attack, curves = record["attacks"][method], record["curves"][method]
        psnr, ssim, misfit = (
            # Null if every image diverged.
            float("nan") if value is None else value
            for value in (attack["psnr_mean"], attack["ssim_mean"], curves["misfit_median"][-1])
        )
        row = (
            f"{record['cut']:<10}{method:<8}{psnr:>8.2f}{ssim:>8.4f}{misfit:>10.1e}"
            f"{curves['steps'][-1]:>7}{curves['seconds'][-1]:>10.4f}{attack['fit_s']:>12.1f}"
        )
        some = f"  ({attack['diverged']} diverged)" if attack["diverged"] else ""
        rows.append(row + some)
    return rows


def main() -> Path:
    config = Config(
        split=tuple(FLAGS.split),
        method=tuple(FLAGS.method),
        **{
            field.name: FLAGS[field.name].value
            for field in dataclasses.fields(Config)
            if field.name not in ("split", "method")
        },
    )
    return Path(run(config)[-1]["path"])


if __name__ == "__main__":
    cli.run(main)
