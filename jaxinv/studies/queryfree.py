"""Query-free attack: the cloud knows its own layers only, and may not query the edge.

Trains shadow edges from the cloud's layers and labelled images, and reconstructs test images from
the features that cross the wire at each --split with their help (He, Zhang & Lee 2021, Eqs. 3-5).
Shadows of several seeds are trained at once: a record has the mean of their quality, each one's,
and that of their joint answer. Each split is a run of its own: record.json, images.npz and grid.png
in <workdir>/queryfree/<run>/; several share the pictures of the paper's Figs. 14 and 15.

  jaxinv queryfree --split=conv1,relu2
  jaxinv queryfree --split=all --method=paper
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax

from jaxinv import defenses
from jaxinv.attacks.queryfree import queryfree
from jaxinv.look.charts import splits, style
from jaxinv.studies import evaluation, runs
from jaxinv.studies.config import SURROGATES, AttackConfig
from jaxinv.studies.experiment import Experiment, setting

_LEAST_STREAM = 500  # images; with fewer left, the stream is of those that are attacked, too


@dataclass(frozen=True)
class QueryfreeConfig(AttackConfig):
    """Settings of a query-free attack, at one or several cuts."""

    method: str = setting(
        "strong",
        "paper: shadows trained by cross-entropy alone, inverted by rMLE with the authors' "
        "settings. strong: the shadows must also meet the class means of a stream of features that "
        "the cloud was sent; they are inverted by maps trained on pairs of theirs.",
        choices=tuple(queryfree.METHODS),
    )
    num_shadows: int = setting(3, "Shadows to train, which differ in their seeds.")
    shadow_steps: int | None = setting(
        None,
        "Steps of training them, to whole epochs. By default "
        + ", ".join(f"{recipe.steps} for {name}" for name, recipe in queryfree.RECIPES.items())
        + ".",
    )
    fit_steps: int = setting(
        queryfree.FIT_STEPS, "Steps of training each inverse map of strong, to whole epochs."
    )
    num_stream: int = setting(
        9000,
        "Features that strong learns from, at most: of the test images behind those that are "
        "attacked.",
    )
    surrogate: str = setting(
        "attacker",
        "Labelled images that the attacker has: its own, or the target's training images.",
        choices=SURROGATES,
    )


def run(config: QueryfreeConfig) -> list[dict[str, Any]]:
    """Runs what is not finished yet, cut by cut, and returns all records with their `path`."""
    scene = runs.load(config)
    attacks = [partial(_run_cut, config, scene, cut) for cut in scene.cuts]
    finished = runs.run_all(EXPERIMENT.name, config, scene, attacks)
    if len(finished) > 1:
        path = runs.joint_path("splits", EXPERIMENT.name, config, scene, finished)
        rows, cuts = evaluation.points_of_seeds(finished), [row["split"] for row in finished]
        style.save(path, splits.figure(rows, cuts, title=evaluation.grid_title(finished)))
        print(f"Quality by split: {path}")
    return finished


def _run_cut(config: QueryfreeConfig, scene: runs.Scene, cut: str) -> dict[str, Any]:
    identity: dict[str, Any] = {
        "surrogate": config.surrogate,
        "num_shadows": config.num_shadows,
        **queryfree.settings(config.method, config.shadow_steps),
    }
    if config.method == "strong":
        identity |= {"fit_steps": config.fit_steps, "num_stream": config.num_stream}
    attack = partial(_attack, config, scene, cut)
    return runs.run_once(
        EXPERIMENT.name,
        config,
        scene,
        cut,
        attack,
        identity=identity,
        decided_by=("jaxinv.attacks.queryfree",),
    )


def _attack(config: QueryfreeConfig, scene: runs.Scene, cut: str) -> runs.Outcome:
    edge, cloud = scene.target.network.split(cut)
    params, images = scene.target.params, scene.images(config)
    keys = jax.random.split(jax.random.key(config.seed), 3)
    release = defenses.Release(edge, params, images, defenses.NONE, keys[0])
    rest = scene.dataset.test[config.num_images :][: config.num_stream]
    attacked = len(rest) < min(_LEAST_STREAM, config.num_stream)
    if attacked:
        rest = scene.dataset.test[: config.num_stream]
    stream = defenses.Release(edge, params, rest.images, defenses.NONE, keys[1])
    found = queryfree.invert(
        config.method,
        cloud,
        cloud.select(params),
        release,
        scene.dataset.surrogate(config.surrogate),
        key=keys[2],
        stream=stream,
        seeds=config.num_shadows,
        shadow_steps=config.shadow_steps,
        fit_steps=config.fit_steps,
        folder=Path(config.workdir) / "learned",
        label=cut,
    )
    fields: dict[str, Any] = {
        "num_shadows": config.num_shadows,
        "shadow_layers": list(found.shadows.network.cuts),
        "shadow_accuracy": list(found.shadows.accuracy),
        "joint": evaluation.quality_fields(images, found.joint),
    }
    if config.method == "strong":
        fields |= {"num_stream": len(rest), "stream_is_attacked": attacked}
    return runs.Outcome(
        found.images,
        queryfree.METHODS[config.method],
        config.surrogate,
        found.fit_seconds,
        found.compile_seconds,
        found.seconds,
        fields,
    )


EXPERIMENT = Experiment("queryfree", QueryfreeConfig, run, __doc__)
