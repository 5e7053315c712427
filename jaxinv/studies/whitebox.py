"""White-box attack: the cloud knows the edge's layers and weights, and inverts what it receives.

Reconstructs test images from the features that cross the wire at each --split, by regularised
maximum likelihood (He, Zhang & Lee 2021, Eq. 1), and compares them with the originals. Each split
is a run of its own: record.json, images.npz and grid.png in <workdir>/whitebox/<run>/. A record
says of a few images, too, what is in the attacker's way: the solver, the prior, or nothing.

  jaxinv whitebox --split=conv1
  jaxinv whitebox --split=relu2,fc1 --method=hybrid
  jaxinv whitebox --split=all --method=paper --num_images=1000
"""

import dataclasses
from functools import partial
from typing import Any

import jax

from jaxinv import defenses
from jaxinv.attacks import registry
from jaxinv.attacks.attack import Attack, EdgeKnown
from jaxinv.attacks.learned import maps
from jaxinv.attacks.whitebox import obstacle
from jaxinv.attacks.whitebox.settings import SOLVERS
from jaxinv.errors import UsageError
from jaxinv.inputs import data
from jaxinv.networks import Network
from jaxinv.studies import attacked, elsewhere, linked, runs
from jaxinv.studies.config import SURROGATES, ExchangedConfig
from jaxinv.studies.experiment import Experiment, setting

_OVERRIDES = ("beta", "solver", "steps", "cg_steps", "learning_rate", "eps", "box")


@dataclasses.dataclass(frozen=True)
class WhiteboxConfig(ExchangedConfig):
    """Settings of a white-box attack, at one or several cuts."""

    method: str = setting(
        "map",
        registry.summaries("whitebox"),
        choices=tuple(registry.methods("whitebox")),
    )
    tv_weight: str | None = setting(
        None,
        "lambda of Eq. 1c, constant over the run, in the method's own scale: a number, or for "
        "paper code or printed, the authors' program's or the paper's number at that split. By "
        "default code for paper; for tv it falls from 1 to 0.003; map and hybrid choose it on "
        "their own images.",
    )
    beta: float | None = setting(None, "Smoothness of the total variation, Eq. 1b.", least=0.1)
    solver: str | None = setting(
        None,
        "By default amsgrad for paper, adam for tv, lm (Levenberg-Marquardt) for map and hybrid.",
        choices=SOLVERS,
    )
    steps: int | None = setting(None, "Steps of the solver, of each stage of hybrid.")
    cg_steps: int | None = setting(None, "Steps of conjugate gradients in each step of lm.")
    learning_rate: float | None = setting(None, "Learning rate of amsgrad and adam.", least=1e-8)
    eps: float | None = setting(
        None, "Constant of amsgrad and adam beside the root of the second moment.", least=0
    )
    box: bool | None = setting(None, "Keep pixels in [0, 1].")
    surrogate: str = setting(
        "attacker",
        "Images that map and hybrid learn from: the attacker's own, or the target's training "
        "images. Neither paper nor tv learns from images.",
        choices=SURROGATES,
    )
    fit_steps: int = setting(
        maps.STEPS,
        "Steps of training the inverse map of hybrid; each correction takes half as many.",
    )
    chunk: int | None = setting(
        None,
        "Images attacked at once, filled up with copies if there are fewer; by default what is "
        "fast.",
    )

    @property
    def overrides(self) -> dict[str, Any]:
        """Returns the fields of `RmleSettings` that are not the method's default."""
        given = {name: getattr(self, name) for name in _OVERRIDES}
        return {name: value for name, value in given.items() if value is not None}


def run(config: WhiteboxConfig) -> list[dict[str, Any]]:
    """Runs what is not finished yet, cut by cut, and returns all records with their `path`."""
    runs.begin(config)
    config = elsewhere.completed(config)
    scene = runs.load(config, prepare(config))
    attacks = elsewhere.tasks(EXPERIMENT.name, config, scene) or [
        partial(run_cut, config, scene, cut) for cut in scene.cuts
    ]
    return runs.run_all(EXPERIMENT.name, config, scene, attacks)


def prepare(config: WhiteboxConfig, dataset: data.Dataset | None = None) -> runs.Plan:
    """Returns what is attacked, once the attack at each cut is checked; see `runs.plan`."""
    plan = elsewhere.checked(config, runs.plan(config, dataset))
    for cut in plan.cuts:
        attack = _attack_on(config, plan.network, cut)
        if attack.learns and config.imported is None:
            attacked.check_surrogates(config.method, plan.dataset, config.surrogate)
    return plan


def _attack_on(config: WhiteboxConfig, network: Network, cut: str) -> Attack[EdgeKnown]:
    entry = registry.find("whitebox", config.method)
    if config.tv_weight is not None and not entry.takes("tv_weight"):
        raise UsageError(
            f"tv_weight={config.tv_weight}: method={config.method} has none to set; "
            "it is for paper and tv."
        )
    return entry.make(
        network=network,
        cut=cut,
        overrides=config.overrides,
        tv_weight=config.tv_weight,
        fit_steps=config.fit_steps,
        chunk=config.chunk,
    )


def run_cut(config: WhiteboxConfig, scene: runs.Scene, cut: str) -> dict[str, Any]:
    """Runs what is not finished yet at a cut and returns its record."""
    attack = _attack_on(config, scene.target.network, cut)
    return runs.run_once(
        EXPERIMENT.name,
        config,
        scene,
        cut,
        partial(_attack, config, scene, cut, attack),
        identity=attacked.identity(attack, config.surrogate),
        decided_by=(__name__, registry.find("whitebox", config.method).module),
    )


def _attack(
    config: WhiteboxConfig, scene: runs.Scene, cut: str, attack: Attack[EdgeKnown]
) -> runs.Outcome:
    edge, _ = scene.target.network.split(cut)
    params, images = scene.target.params, scene.images(config)
    key_release, key_learn = jax.random.split(jax.random.key(config.seed))
    known = EdgeKnown(edge, params, attacked.samples(attack, scene, config).scaled)
    learned = attack.learn(known, key_learn, attacked.shelf(config, cut))
    release = defenses.Release(edge, params, images, defenses.NONE, key_release)
    gallery = linked.candidates(scene.dataset)
    released = defenses.Release(edge, params, gallery, defenses.NONE, key_release)
    told = linked.fields(known, learned, released, gallery, seed=config.seed)
    found = learned.invert(release)
    told |= obstacle.diagnose(edge, params, release, found.images).fields
    return attacked.outcome(attack, found, config.surrogate, **told)


EXPERIMENT = Experiment("whitebox", WhiteboxConfig, run, __doc__, check=prepare)
