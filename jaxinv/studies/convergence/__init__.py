"""Convergence of the white-box methods: PSNR and misfit against iterations and against seconds.

Attacks the same test images by each --method, watches the reconstructions on their way, and draws
the methods side by side. The misfit, ||f1(x) - v||^2 / ||v||^2, is what every method makes small,
whatever else is in its objective. Each split is a run of its own: record.json and convergence.png
in <workdir>/convergence/<run>/.

  jaxinv convergence --split=relu2
  jaxinv convergence --split=relu2,fc1 --method=paper,tv,map,hybrid
"""

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np

from jaxinv import defenses
from jaxinv.attacks import registry
from jaxinv.attacks.attack import Attack, EdgeKnown, Features
from jaxinv.attacks.inversion.loop import chunk_size
from jaxinv.attacks.whitebox import rmle
from jaxinv.attacks.whitebox.rmle import StagedAttack
from jaxinv.attacks.whitebox.stage import Stage
from jaxinv.errors import UsageError
from jaxinv.inputs import data
from jaxinv.look.charts import convergence, style
from jaxinv.look.terminal import heading
from jaxinv.machine import environment, hosts
from jaxinv.networks import Network
from jaxinv.store import records
from jaxinv.studies import attacked, evaluation, lines, runs
from jaxinv.studies.config import SURROGATES, AttackConfig, number_of_images
from jaxinv.studies.convergence.watcher import Watcher
from jaxinv.studies.experiment import Experiment, setting

NAME = "convergence"
FIGURE_NAME = "convergence.png"
METHODS = tuple(registry.methods("convergence"))
_SNAPSHOTS = 200  # of a stage, about


@dataclasses.dataclass(frozen=True)
class ConvergenceConfig(AttackConfig):
    """Settings of a comparison of methods, at one or several cuts."""

    split: tuple[str, ...] = ("relu2",)
    usual_images: ClassVar[int] = 32
    num_images: int | None = number_of_images(usual_images)
    method: tuple[str, ...] = setting(
        ("paper", "tv", "map"),
        f"Methods to compare, a comma list of {', '.join(METHODS)}; whitebox --help tells what "
        "each is. hybrid takes minutes to learn.",
    )
    steps: int | None = setting(None, "Steps of every method's solver, of each stage of hybrid.")
    surrogate: str = setting(
        "attacker",
        "Images that map and hybrid learn from: the attacker's own, or the target's training "
        "images.",
        choices=SURROGATES,
    )

    @property
    def overrides(self) -> dict[str, Any]:
        """Returns the fields of `RmleSettings` that are not the methods' own."""
        return {} if self.steps is None else {"steps": self.steps}


def run(config: ConvergenceConfig) -> list[dict[str, Any]]:
    """Runs what is not finished yet, cut by cut, and returns all records with their `path`."""
    runs.begin(config)
    plan, methods = prepare(config)
    scene = runs.load(config, plan)
    print(
        f"{scene.dataset.name} ({scene.dataset.source}), {scene.num_images(config)} test images, "
        f"target {scene.target.source}, {environment.facts()['device']}"
    )
    header, rows = table(scene.cuts)
    print(heading(header))
    finished = []
    for cut in scene.cuts:
        record = _run_cut(config, methods, scene, cut)
        print(*rows(record), sep="\n", flush=True)
        finished.append(record)
    return finished


def prepare(
    config: ConvergenceConfig, dataset: data.Dataset | None = None
) -> tuple[runs.Plan, tuple[str, ...]]:
    """Returns what is attacked, and the methods; see `runs.plan` and `resolve_methods`."""
    methods = resolve_methods(config.method)
    return runs.plan(config, dataset), methods


def resolve_methods(names: Sequence[str]) -> tuple[str, ...]:
    """Names of methods, in the order given and without repeats.

    Raises:
      UsageError: there is no such method, or none is named.
    """
    methods = tuple(dict.fromkeys(name.strip().lower() for name in names))
    for method in methods:
        if method not in METHODS:
            raise UsageError(f"method={method}: expected some of {', '.join(METHODS)}.")
    if not methods:
        raise UsageError(f"method=: expected some of {', '.join(METHODS)}.")
    return methods


def _run_cut(
    config: ConvergenceConfig, methods: Sequence[str], scene: runs.Scene, cut: str
) -> dict[str, Any]:
    attacks = {method: _attack_on(config, method, scene.target.network, cut) for method in methods}
    learns = any(attack.learns for attack in attacks.values())
    identity = {
        "split": cut,
        "attacks": {method: attack.identity for method, attack in attacks.items()},
        "num_images": scene.num_images(config),
        **({"surrogate": config.surrogate} if learns else {}),
    }

    def make(folder: Path, common: dict[str, Any]) -> None:
        found = {
            method: _run_method(config, attack, scene, cut) for method, attack in attacks.items()
        }
        record = {
            **common,
            "cut": cut,
            "methods": list(methods),
            "num_images": scene.num_images(config),
            "defense": defenses.NONE.describe(),
            **environment.facts(),
            "attacks": {method: attack for method, (attack, _) in found.items()},
            "curves": {method: curves for method, (_, curves) in found.items()},
        }
        records.write(folder, record, images=None)

    label = (
        f"{scene.dataset.name}-{cut}-{'+'.join(methods)}-n{scene.num_images(config)}-s{config.seed}"
    )
    flags = runs.flags_of(config, scene, split=(cut,))
    record = runs.read_or_make(
        NAME,
        "convergence",
        config,
        scene,
        make,
        identity=identity,
        label=label,
        flags=flags,
        decided_by=(
            __name__,
            *(registry.find("whitebox", method).module for method in methods),
        ),
    )
    folder = Path(record["path"]).parent
    if hosts.is_first() and not (folder / FIGURE_NAME).is_file():
        draw(folder, record)
    return record


def _attack_on(
    config: ConvergenceConfig, method: str, network: Network, cut: str
) -> Attack[EdgeKnown]:
    return registry.make("whitebox", method, network=network, cut=cut, overrides=config.overrides)


def _run_method(
    config: ConvergenceConfig, attack: Attack[EdgeKnown], scene: runs.Scene, cut: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Attacks by one method; returns its fields of a record, and its curves."""
    target, originals = scene.target, scene.images(config)
    edge, _ = target.network.split(cut)
    key_release, key_learn = jax.random.split(jax.random.key(config.seed))
    known = EdgeKnown(edge, target.params, attacked.samples(attack, scene, config).scaled)
    learned = attack.learn(known, key_learn, attacked.shelf(config, cut))
    assert isinstance(learned, StagedAttack)
    release = defenses.Release(edge, target.params, originals, defenses.NONE, key_release)
    features = release[np.arange(len(originals))]
    watcher = Watcher(originals, features, edge, target.params, scene.dataset.columns)
    found = rmle.invert(
        edge,
        target.params,
        features,
        [_timed(stage, watcher.spend) for stage in learned.stages],
        # Without places for more images than there are: their time would be shared by too few.
        chunk=chunk_size(edge, len(originals)),
        watch=watcher,
        watch_every=max(1, max(stage.settings.steps for stage in learned.stages) // _SNAPSHOTS),
    )
    quality = evaluation.quality_fields(originals, found.images, scene.dataset.columns)
    fields = {
        "attacker_knowledge": attack.knowledge,
        "stages": [dataclasses.asdict(stage.settings) for stage in learned.stages],
        **{name: quality[name] for name in ("psnr_mean", "ssim_mean", "diverged")},
        "dead": 0 if found.dead is None else int(found.dead.sum()),
        "fit_s": learned.fit_seconds,
        "compile_s": found.compile_seconds,
    }
    return fields, watcher.curves()


def _timed(stage: Stage, spend: Callable[[float], None]) -> Stage:
    """A stage whose `estimate` tells the seconds that it takes once it is compiled."""
    estimate = stage.estimate
    if estimate is None:
        return stage

    def timed(features: Features, found: np.ndarray | None) -> np.ndarray:
        estimate(features, found)
        began = time.perf_counter()
        images = estimate(features, found)
        spend(time.perf_counter() - began)
        return images

    return dataclasses.replace(stage, estimate=timed)


def draw(folder: Path, record: dict[str, Any]) -> None:
    """Draws the curves of a record into its folder."""
    names = {method: _name(method, record["attacks"][method]) for method in record["methods"]}
    title = f"{evaluation.subject(record)}, {record['cut']}: {record['num_images']:,} images"
    curves = {name: record["curves"][method] for method, name in names.items()}
    chart = convergence.figure(curves, title=f"{title}; {record['device']}")
    style.save(folder / FIGURE_NAME, chart)


def _name(method: str, attack: dict[str, Any]) -> str:
    words = [f"{attack[name]} {name}" for name in ("diverged", "dead") if attack.get(name)]
    return f"{method} ({', '.join(words)})" if words else method


def table(cuts: Iterable[str]) -> tuple[str, Callable[[Mapping[str, Any]], list[str]]]:
    """Returns a header, and the lines of a record: for each method where its curves end."""
    first = lines.width(cuts, least=10)
    header = (
        f"{'split':<{first}}{'method':<8}{'PSNR dB':>8}{'SSIM':>8}{'misfit':>10}"
        f"{'steps':>7}{'s/image':>10}{'learning s':>12}"
    )
    return header, partial(_rows, first)


def _rows(first: int, record: Mapping[str, Any]) -> list[str]:
    rows = []
    for method in record["methods"]:
        attack, curves = record["attacks"][method], record["curves"][method]
        psnr, ssim, misfit = (
            # Null if every image diverged.
            float("nan") if value is None else value
            for value in (attack["psnr_mean"], attack["ssim_mean"], curves["misfit_median"][-1])
        )
        row = (
            f"{record['cut']:<{first}}{method:<8}{psnr:>8.2f}{ssim:>8.4f}{misfit:>10.1e}"
            f"{curves['steps'][-1]:>7}{curves['seconds'][-1]:>10.4f}{attack['fit_s']:>12.1f}"
        )
        counts = [f"{attack[name]} {name}" for name in ("diverged", "dead") if attack.get(name)]
        rows.append(row + (f"  ({', '.join(counts)})" if counts else ""))
    return rows


EXPERIMENT = Experiment(NAME, ConvergenceConfig, run, __doc__, check=prepare)
