"""Trains the target network of a dataset, which the attacks then split and invert.

The target's part of the training split (its first two thirds) trains; the test split is only
measured. A run that is killed goes on from its last finished epoch when it is started again. The
run's folder holds target.safetensors (for --checkpoint), record.json and learning_curve.png.

  jaxinv train_target --dataset=mnist --seed=1
  jaxinv train_target --dataset=cifar10 --network=resnet20 --epochs=60
"""

import dataclasses
from typing import Any

from jaxinv.errors import UsageError
from jaxinv.inputs import data
from jaxinv.networks.loading import Model
from jaxinv.store import files, records
from jaxinv.studies import runs, scenes
from jaxinv.studies.config import TrackedConfig
from jaxinv.studies.experiment import Experiment, setting
from jaxinv.studies.models import data_and_model
from jaxinv.training import recipes, targets


@dataclasses.dataclass(frozen=True)
class TrainingConfig(TrackedConfig):
    """Settings of the training of a target; None is that of the network and the dataset."""

    epochs: int | None = setting(
        None, "Passes over the data; by default chosen by network and dataset."
    )
    batch_size: int | None = setting(
        None, "Images a step; by default chosen by network and dataset."
    )
    learning_rate: float | None = setting(
        None, "Learning rate; at the peak of its cycle, if it has one.", least=1e-8
    )


def run(config: TrainingConfig) -> list[dict[str, Any]]:
    """Trains the target, if it is not trained yet; returns its record with its `path`."""
    runs.begin(config)
    dataset, model = prepare(config)
    files.ensure_writable(config.workdir)
    names = ("epochs", "batch_size", "learning_rate")
    given = {name: value for name in names if (value := getattr(config, name)) is not None}
    usual = recipes.default_recipe(dataset, model.name)
    recipe = dataclasses.replace(usual, seed=config.seed, **given)
    path = targets.train_run(
        dataset,
        recipe,
        config.workdir,
        model=model,
        flags=scenes.asked(config, dataset),
        rerun=config.rerun,
    )
    records.note(path)
    record = records.read(path.parent)
    assert record is not None
    return [{**record.fields, "path": str(path)}]


def prepare(
    config: TrainingConfig, dataset: data.Dataset | None = None
) -> tuple[data.Dataset, Model]:
    """Returns the data and the network, once it is known that they fit.

    Raises:
      UserError: one cannot be had, the network brings its parameters, or the data cannot train it.
    """
    dataset, model = data_and_model(config, dataset)
    if model.params is not None:
        raise UsageError(f"network={model.name}: brings its parameters; there is nothing to train.")
    targets.check_trains(model, dataset)
    return dataset, model


EXPERIMENT = Experiment("train_target", TrainingConfig, run, __doc__, check=prepare)
