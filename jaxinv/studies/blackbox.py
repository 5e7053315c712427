"""Black-box attack: the cloud queries the edge with its own images, and learns to invert it.

Reconstructs test images from the features that cross the wire at each --split, by an inverse
network (He, Zhang & Lee 2021, Eq. 2), and compares them with the originals. The attack is handed a
function to query and nothing else of the network. Each split, and each of several --num_queries, is
a run of its own: record.json, images.npz and grid.png in <workdir>/blackbox/<run>/. With several
--num_queries, quality is drawn against them, too.

  jaxinv blackbox --split=conv1 --num_queries=785
  jaxinv blackbox --split=relu2,pool2
  jaxinv blackbox --split=relu2 --num_queries=300,1000,3000,10000,30000,100000
  jaxinv blackbox --split=conv1,relu2 --method=paper --num_images=1000
  jaxinv blackbox --pairs=sent.npz
"""

import dataclasses
from functools import partial
from itertools import product
from typing import Any

import jax

from jaxinv import defenses
from jaxinv.attacks import registry
from jaxinv.attacks.attack import Attack, EdgeKnown, QueriesKnown
from jaxinv.attacks.blackbox import paper
from jaxinv.attacks.learned import inverse, maps
from jaxinv.inputs import data
from jaxinv.look.charts import queries, style
from jaxinv.studies import attacked, elsewhere, evaluation, linked, pairs, runs
from jaxinv.studies.config import SURROGATES, ExchangedConfig
from jaxinv.studies.experiment import Experiment, setting


@dataclasses.dataclass(frozen=True)
class BlackboxConfig(ExchangedConfig):
    """Settings of a black-box attack, at one or several cuts and budgets of queries."""

    split: tuple[str, ...] = ("relu2",)
    method: str = setting(
        "strong",
        registry.summaries("blackbox"),
        choices=tuple(registry.methods("blackbox")),
    )
    num_queries: tuple[int, ...] | None = setting(
        None,
        "Different queries that the attacker may ask: one number or a comma list. By default "
        f"{inverse.NUM_QUERIES} for strong, every surrogate image once for paper.",
    )
    fit_steps: int | None = setting(
        None,
        f"Steps of training, the same for every number of queries. By default {maps.STEPS} for "
        f"strong, {paper.STEPS} for paper.",
    )
    pairs: str | None = setting(
        None,
        "FILE.npz in place of a network: learns from images and features [N, ...] that some device "
        "sent for them, and inverts observed [M, ...]; originals [M, ...], if they are there, "
        "judge the outcome. Rows, columns and channels of features are in this order.",
        is_path=True,
    )
    surrogate: str = setting(
        "attacker",
        "Images to query with: the attacker's own, or the target's training images.",
        choices=SURROGATES,
    )


def run(config: BlackboxConfig) -> list[dict[str, Any]]:
    """Runs what is not finished yet, one after another; returns all records with their `path`."""
    if config.pairs is not None:
        return [pairs.run(config)]
    runs.begin(config)
    config = elsewhere.completed(config)
    scene = runs.load(config, prepare(config))
    budgets: tuple[int | None, ...] = config.num_queries or (None,)
    attacks = elsewhere.tasks(EXPERIMENT.name, config, scene) or [
        partial(run_cut, config, scene, cut, number) for cut, number in product(scene.cuts, budgets)
    ]
    finished = runs.run_all(EXPERIMENT.name, config, scene, attacks)
    if len(budgets) > 1:
        path = runs.joint_path("queries", EXPERIMENT.name, config, scene, finished)
        chart = queries.figure(finished, title=_title(finished[0]))
        style.save(path, chart._replace(kind=scene.dataset.kind))
        print(f"Quality against queries: {path}")
    return finished


def prepare(config: BlackboxConfig, dataset: data.Dataset | None = None) -> runs.Plan:
    """Returns what is attacked, once the budgets are checked; see `runs.plan`."""
    for number in config.num_queries or ():
        _attack_within(config, number)
    plan = elsewhere.checked(config, runs.plan(config, dataset))
    if config.imported is None:
        attacked.check_surrogates(config.method, plan.dataset, config.surrogate)
    return plan


def run_cut(
    config: BlackboxConfig, scene: runs.Scene, cut: str, num_queries: int | None = None
) -> dict[str, Any]:
    """Runs what is not finished yet at a cut, within a budget of queries; returns its record."""
    attack = _attack_within(config, num_queries)
    number = getattr(attack, "num_queries", None) or len(scene.dataset.surrogate(config.surrogate))
    asked: dict[str, Any] = {} if num_queries is None else {"num_queries": (num_queries,)}
    return runs.run_once(
        EXPERIMENT.name,
        config,
        scene,
        cut,
        partial(_attack, config, scene, cut, attack, number),
        identity=attacked.identity(attack, config.surrogate),
        flags=runs.flags_of(config, scene, split=(cut,), **asked),
        label=f"-q{number}",
        decided_by=(__name__, registry.find("blackbox", config.method).module),
    )


def _attack_within(config: BlackboxConfig, num_queries: int | None) -> Attack[QueriesKnown]:
    return registry.make(
        "blackbox", config.method, num_queries=num_queries, fit_steps=config.fit_steps
    )


def _attack(
    config: BlackboxConfig,
    scene: runs.Scene,
    cut: str,
    attack: Attack[QueriesKnown],
    num_queries: int,
) -> runs.Outcome:
    edge, _ = scene.target.network.split(cut)
    params = scene.target.params
    key_release, key_learn = jax.random.split(jax.random.key(config.seed))
    known = EdgeKnown(edge, params, scene.surrogate_images(config)).queries(0)
    learned = attack.learn(known, key_learn, attacked.shelf(config, cut))
    release = defenses.Release(edge, params, scene.images(config), defenses.NONE, key_release)
    gallery = linked.candidates(scene.dataset)
    released = defenses.Release(edge, params, gallery, defenses.NONE, key_release)
    return attacked.outcome(
        attack,
        learned.invert(release),
        config.surrogate,
        **linked.fields(known, learned, released, gallery, seed=config.seed),
        num_queries=num_queries,
        fit_steps=getattr(attack, "fit_steps", None),
    )


def _title(record: dict[str, Any]) -> str:
    steps = record.get("fit_steps")
    trained = "" if steps is None else f", {steps:,} steps of training each"
    return (
        f"Black-box, {record['method']}, {evaluation.subject(record)}{trained}: "
        f"means of {record['num_images']:,} test images, 95% intervals"
    )


EXPERIMENT = Experiment("blackbox", BlackboxConfig, run, __doc__, check=prepare)
