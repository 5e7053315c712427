"""Leakage: which cuts and defences give most away, predicted in seconds without an attack.

Replaces each release by a linear channel with Gaussian noise, measured at a few images of the
attacker's own, and prints what follows from it, the choice that should leak most first: no test
image is looked at. Each cut and level is a run <workdir>/leakage/<run>/record.json.

Where finished attacks of other experiments are in --workdir, on this target or on others, each
prediction is then held against the strongest of them: rank correlations for each network and over
networks, and the picture predictions.png beside them. Attacks count whatever version of the code
made them. A prediction is no bound, and no defence is safe for it.

  jaxinv leakage --split=all --defense=gaussian --level=0,.5,2
  jaxinv leakage --split=relu2 --defense=dropout,quantize,prune --num_images=16
  jaxinv leakage --attacked --workdir=results
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

from jaxinv.constants.kinds import in_words
from jaxinv.inputs import data
from jaxinv.studies import attacked, runs
from jaxinv.studies.config import AttackConfig
from jaxinv.studies.defended import choices
from jaxinv.studies.defended.choices import DefenseChoice, DefenseConfig
from jaxinv.studies.experiment import Experiment, setting, settings_of
from jaxinv.studies.leakage import joined, predicted, table
from jaxinv.training import retraining

_SHARED = ("defense", "site", "level", "retrain", "retrain_steps")
_TEXTS = {name: settings_of(DefenseConfig)[name].text for name in _SHARED}


@dataclasses.dataclass(frozen=True)
class LeakageConfig(AttackConfig):
    """Settings of predictions at one or several cuts, behind defences."""

    split: tuple[str, ...] = ("all",)
    usual_images: ClassVar[int] = 8
    num_images: int | None = setting(
        None,
        "Test images that a finished attack must be on, at least, to count; by default "
        f"{usual_images}.",
    )
    defense: tuple[str, ...] = setting(("gaussian",), _TEXTS["defense"])
    site: tuple[str, ...] = setting(("feature",), _TEXTS["site"])
    level: tuple[str, ...] | None = setting(None, _TEXTS["level"])
    retrain: str = setting("none", _TEXTS["retrain"], choices=("none", *retraining.PARTS))
    retrain_steps: int = setting(retraining.STEPS, _TEXTS["retrain_steps"])
    attacked: bool = setting(
        False,
        "In place of --split and --defense: the releases of this target that finished attacks in "
        "--workdir are on.",
    )
    jacobians: int = setting(3, "Images of the attacker's own at which Jacobians are taken.")

    @property
    def method_name(self) -> str:
        return "leakage"

    @property
    def defended(self) -> DefenseConfig:
        """The settings of the defences."""
        names = {field.name for field in dataclasses.fields(DefenseConfig)}
        names &= {field.name for field in dataclasses.fields(self)}
        return DefenseConfig(**{name: getattr(self, name) for name in names})


def run(config: LeakageConfig) -> list[dict[str, Any]]:
    """Measures what is not finished yet; returns all records, and that of the comparison."""
    runs.begin(config)
    plan, chosen = prepare(config)
    scene = runs.load(config, plan)
    releases = (
        predicted.of_attacks(config, scene)
        if config.attacked
        else predicted.of_choices(config.defended, scene, chosen)
    )
    finished = predicted.run_all(config, scene, releases)
    print(in_words(table.predictions(finished), scene.dataset.kind))
    triples = joined.join(config.workdir, images=scene.num_images(config))
    if len(triples) < joined.FEWEST:
        print(
            f"Finished attacks in {config.workdir} are on {len(triples)} of the releases that were "
            f"measured there; {joined.FEWEST} are compared."
        )
        return finished
    compared = joined.compare(config, scene, triples)
    print(in_words(table.comparison(compared), scene.dataset.kind))
    return [*finished, compared]


def prepare(
    config: LeakageConfig, dataset: data.Dataset | None = None
) -> tuple[runs.Plan, Sequence[DefenseChoice]]:
    """Returns what is measured; see `runs.plan` and `choices.choices`."""
    chosen = choices.choices(config.defended)
    plan = runs.plan(config, dataset)
    attacked.check_surrogates("leakage", plan.dataset, config.surrogate)
    return plan, chosen


EXPERIMENT = Experiment(predicted.NAME, LeakageConfig, run, __doc__, check=prepare)
