"""White-box attack: the cloud knows the edge's layers and weights, and inverts what it receives.

Reconstructs test images from the features that cross the wire at each --split, by regularised
maximum likelihood (He, Zhang & Lee 2021, Eq. 1), and compares them with the originals. Each split
is a run of its own: record.json, images.npz and grid.png in <workdir>/whitebox/<run>/.

  jaxinv whitebox --split=conv1
  jaxinv whitebox --split=relu2,fc1 --method=hybrid
  jaxinv whitebox --split=all --method=paper --num_images=1000
"""

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax

from jaxinv import defenses
from jaxinv.attacks.inversion.solvers import Result
from jaxinv.attacks.learned import inverse
from jaxinv.attacks.whitebox import rmle as whitebox
from jaxinv.attacks.whitebox import surrogate
from jaxinv.constants import paper
from jaxinv.errors import UsageError
from jaxinv.studies import runs
from jaxinv.studies.config import SURROGATES, AttackConfig
from jaxinv.studies.experiment import Experiment, setting
from jaxinv.training import targets

METHODS = (*whitebox.METHODS, *surrogate.METHODS)
_OVERRIDES = ("beta", "solver", "steps", "cg_steps", "learning_rate", "eps", "box")


@dataclasses.dataclass(frozen=True)
class WhiteboxConfig(AttackConfig):
    """Settings of a white-box attack, at one or several cuts."""

    method: str = setting(
        "map",
        "paper: the authors' settings (Adam with AMSGrad, eps 1e-3, mean losses). tv: Adam with "
        "total variation, pixels kept in [0, 1], rectifiers attacked through what went into them. "
        "map: Levenberg-Marquardt with total variation and a Gaussian prior of the attacker's "
        "images. hybrid: map, then an inverse map that is trained on the attacker's images as "
        "start, the distribution of its errors as prior, and a trained correction. Takes minutes "
        "to learn.",
        choices=METHODS,
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
        choices=tuple(whitebox.SOLVERS),
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
        inverse.STEPS,
        "Steps of training the inverse map of hybrid, and each correction, to whole epochs.",
    )
    chunk: int | None = setting(
        None,
        "Images attacked at once, filled up with copies if there are fewer; by default what is "
        "fast.",
    )

    @property
    def overrides(self) -> dict[str, Any]:
        """Returns the fields of `whitebox.Settings` that are not the method's default."""
        given = {name: getattr(self, name) for name in _OVERRIDES}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def learns(self) -> bool:
        """Whether the method learns from images."""
        return self.method in surrogate.METHODS


def run(config: WhiteboxConfig) -> list[dict[str, Any]]:
    """Runs what is not finished yet, cut by cut, and returns all records with their `path`."""
    scene = runs.load(config)
    settings = {cut: _settings(config, scene.target, cut) for cut in scene.cuts}
    attacks = [partial(_run_cut, config, scene, cut, settings[cut]) for cut in scene.cuts]
    return runs.run_all(EXPERIMENT.name, config, scene, attacks)


def _settings(config: WhiteboxConfig, target: targets.Target, cut: str) -> whitebox.Settings:
    """A method's settings at a cut; what map and hybrid choose themselves is chosen later."""
    overrides = dict(config.overrides)
    if config.learns:
        if config.tv_weight is not None:
            raise UsageError(
                f"tv_weight={config.tv_weight}: method={config.method} chooses it; "
                "it is for paper and tv."
            )
        return dataclasses.replace(whitebox.map_settings(), **overrides)
    settings = whitebox.METHODS[config.method](target.network, cut)
    if config.tv_weight is not None:
        if config.method != "paper" and config.tv_weight in ("code", "printed"):
            raise UsageError(
                f"tv_weight={config.tv_weight}: is for method=paper alone; expected a number."
            )
        weight = paper.resolve_lambda(config.tv_weight, target.network, cut)
        overrides |= {"tv_weight": weight, "tv_start": weight}
    return dataclasses.replace(settings, **overrides)


def _run_cut(
    config: WhiteboxConfig, scene: runs.Scene, cut: str, settings: whitebox.Settings
) -> dict[str, Any]:
    identity = {
        "settings": dataclasses.asdict(settings),
        # What the attacker learns from is part of the run only if it learns.
        **({"surrogate": config.surrogate} if config.learns else {}),
        **({"fit_steps": config.fit_steps} if config.method == "hybrid" else {}),
        # It changes the result by its rounding; the default is the device's affair.
        **({"chunk": config.chunk} if config.chunk else {}),
    }
    attack = partial(_attack, config, scene, cut, settings)
    return runs.run_once(
        EXPERIMENT.name,
        config,
        scene,
        cut,
        attack,
        identity=identity,
        decided_by=("jaxinv.attacks.whitebox",),
    )


def _attack(
    config: WhiteboxConfig, scene: runs.Scene, cut: str, settings: whitebox.Settings
) -> runs.Outcome:
    edge, _ = scene.target.network.split(cut)
    params, images = scene.target.params, scene.images(config)
    key_release, key_learn = jax.random.split(jax.random.key(config.seed))
    attack: Sequence[whitebox.Stage] = [whitebox.Stage(settings)]
    knowledge, learned_from, fit_seconds = whitebox.KNOWLEDGE, "none", 0.0
    fields: dict[str, Any] = {}
    if config.learns:
        lesson = surrogate.learn(
            config.method,
            edge,
            params,
            scene.surrogate_images(config),
            key=key_learn,
            overrides=config.overrides,
            fit_steps=config.fit_steps,
            folder=Path(config.workdir) / "learned",
        )
        attack, fit_seconds = lesson.stages, lesson.seconds
        knowledge, learned_from = surrogate.METHODS[config.method], config.surrogate
        fields["held_out_psnr"] = list(lesson.quality)
    release = defenses.Release(edge, params, images, defenses.NONE, key_release)
    found = whitebox.invert(edge, params, release, attack, chunk=config.chunk)
    fields |= {
        "stages": [dataclasses.asdict(stage.settings) for stage in attack],
        "objective": found.objective,
        "solver_steps": found.steps,
        "solver_results": {
            result.name.lower(): int((found.result == result).sum()) for result in Result
        },
    }
    return runs.Outcome(
        found.images,
        knowledge,
        learned_from,
        fit_seconds,
        found.compile_seconds,
        found.seconds,
        fields,
    )


EXPERIMENT = Experiment("whitebox", WhiteboxConfig, run, __doc__)
