"""Query-free attack: the cloud knows its own layers only, and may not query the edge.

Trains shadow edges from the cloud's layers and images of the attacker's, and reconstructs test
images from the features that cross the wire at each --split with their help (He, Zhang & Lee 2021,
Eqs. 3-5). Where images have no labels, or the network is no classifier, strong does without.
Shadows of several seeds are trained at once: a record has the mean of their quality, each one's,
and that of their joint answer. Each split is a run of its own: record.json, images.npz and grid.png
in <workdir>/queryfree/<run>/; several share the pictures of the paper's Figs. 14 and 15.

  jaxinv queryfree --split=conv1,relu2
  jaxinv queryfree --split=all --method=paper
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax

from jaxinv import defenses
from jaxinv.attacks import registry
from jaxinv.attacks.attack import Attack, CloudKnown
from jaxinv.attacks.queryfree import paper, strong
from jaxinv.inputs import data
from jaxinv.look.charts import splits, style
from jaxinv.studies import attacked, elsewhere, evaluation, linked, runs
from jaxinv.studies.config import SURROGATES, ExchangedConfig
from jaxinv.studies.experiment import Experiment, setting

_LEAST_STREAM = 500  # images; with fewer left, the stream is of those that are attacked, too


@dataclass(frozen=True)
class QueryfreeConfig(ExchangedConfig):
    """Settings of a query-free attack, at one or several cuts."""

    method: str = setting(
        "strong",
        registry.summaries("queryfree"),
        choices=tuple(registry.methods("queryfree")),
    )
    num_shadows: int = setting(3, "Shadows to train, which differ in their seeds.")
    shadow_steps: int | None = setting(
        None,
        f"Steps of training them, to whole epochs. By default {paper.RECIPE.steps} for paper, "
        f"{strong.RECIPE.steps} for strong.",
    )
    fit_steps: int = setting(strong.FIT_STEPS, "Steps of training each inverse map of strong.")
    num_stream: int = setting(
        9000,
        "Features that strong learns from, at most: of the test images behind those that are "
        "attacked.",
    )
    surrogate: str = setting(
        "attacker",
        "Images that the attacker has: its own, or the target's training images.",
        choices=SURROGATES,
    )


def run(config: QueryfreeConfig) -> list[dict[str, Any]]:
    """Runs what is not finished yet, cut by cut, and returns all records with their `path`."""
    runs.begin(config)
    config = elsewhere.completed(config)
    scene = runs.load(config, prepare(config))
    if config.imported is None:
        scene.check_labels("method", (config.method,), (EXPERIMENT.name,))
    attacks = elsewhere.tasks(EXPERIMENT.name, config, scene) or [
        partial(run_cut, config, scene, cut) for cut in scene.cuts
    ]
    finished = runs.run_all(EXPERIMENT.name, config, scene, attacks)
    if len(finished) > 1 and all("psnr_by_seed" in record for record in finished):
        path = runs.joint_path("splits", EXPERIMENT.name, config, scene, finished)
        rows, cuts = evaluation.points_of_seeds(finished), [row["split"] for row in finished]
        chart = splits.figure(rows, cuts, title=evaluation.grid_title(finished))
        style.save(path, chart._replace(kind=scene.dataset.kind))
        print(f"Quality by split: {path}")
    return finished


def prepare(config: QueryfreeConfig, dataset: data.Dataset | None = None) -> runs.Plan:
    """Returns what is attacked, once it is known that shadows can learn; see `runs.plan`."""
    plan = elsewhere.checked(config, runs.plan(config, dataset))
    if config.imported is None:
        plan.check_labels("method", (config.method,), (EXPERIMENT.name,))
        attacked.check_surrogates(config.method, plan.dataset, config.surrogate)
    return plan


def run_cut(config: QueryfreeConfig, scene: runs.Scene, cut: str) -> dict[str, Any]:
    """Runs what is not finished yet at a cut and returns its record."""
    attack = registry.make(
        "queryfree",
        config.method,
        num_shadows=config.num_shadows,
        shadow_steps=config.shadow_steps,
        fit_steps=config.fit_steps,
    )
    return runs.run_once(
        EXPERIMENT.name,
        config,
        scene,
        cut,
        partial(_attack, config, scene, cut, attack),
        identity={
            **attacked.identity(attack, config.surrogate),
            "num_stream": config.num_stream,
        },
        decided_by=(__name__, registry.find("queryfree", config.method).module),
    )


def _attack(
    config: QueryfreeConfig, scene: runs.Scene, cut: str, attack: Attack[CloudKnown]
) -> runs.Outcome:
    edge, cloud = scene.target.network.split(cut)
    params, images = scene.target.params, scene.images(config)
    keys = jax.random.split(jax.random.key(config.seed), 3)
    release = defenses.Release(edge, params, images, defenses.NONE, keys[0])
    rest = scene.dataset.test[scene.num_images(config) :][: config.num_stream]
    is_attacked = len(rest) < min(_LEAST_STREAM, config.num_stream)
    if is_attacked:
        rest = scene.dataset.test[: config.num_stream]
    stream = defenses.Release(edge, params, rest.scaled, defenses.NONE, keys[1])
    samples = scene.surrogate(config.surrogate)
    known = CloudKnown(cloud, cloud.select(params), samples, stream)
    learned = attack.learn(known, keys[2], attacked.shelf(config, cut))
    found, gallery = learned.invert(release), linked.candidates(scene.dataset)
    released = defenses.Release(edge, params, gallery, defenses.NONE, keys[0])
    fields: dict[str, Any] = {"num_stream": len(rest), "stream_is_attacked": is_attacked}
    fields |= linked.fields(known, learned, released, gallery, seed=config.seed)
    fields["ways"] = evaluation.ways_fields(
        images, found.ways, scene.dataset.test, scene.dataset.columns
    )
    if found.joint is not None:
        fields["num_shadows"] = len(found.images)
        fields["joint"] = evaluation.quality_fields(images, found.joint, scene.dataset.columns)
    return attacked.outcome(attack, found, config.surrogate, **fields)


EXPERIMENT = Experiment("queryfree", QueryfreeConfig, run, __doc__, check=prepare)
