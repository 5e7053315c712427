"""Trains the target network of a dataset, which the attacks then split and invert.

The target's part of the training split (its first two thirds) trains; the test split is only
measured. A run that is killed goes on from its last finished epoch when it is started again. The
run's folder holds target.safetensors (for --checkpoint), record.json and learning_curve.png.
"""

import dataclasses
from typing import Any

from jaxinv.inputs import data
from jaxinv.networks import for_images
from jaxinv.store import files, records
from jaxinv.studies import runs
from jaxinv.studies.config import DataConfig
from jaxinv.studies.experiment import Experiment, setting
from jaxinv.training import recipes, targets


@dataclasses.dataclass(frozen=True)
class TrainingConfig(DataConfig):
    """Settings of the training of a target; None is the dataset's own."""

    epochs: int | None = setting(None, "Passes over the data; by default chosen by the dataset.")
    batch_size: int | None = setting(None, "Images a step; by default chosen by the dataset.")
    learning_rate: float | None = setting(
        None, "Learning rate; of colour images at the peak of its cycle.", least=1e-8
    )


def run(config: TrainingConfig) -> list[dict[str, Any]]:
    """Trains the target, if it is not trained yet; returns its record with its `path`."""
    runs.begin(config)
    dataset = prepare(config)
    files.ensure_writable(config.workdir)
    names = ("epochs", "batch_size", "learning_rate")
    given = {name: value for name in names if (value := getattr(config, name)) is not None}
    recipe = dataclasses.replace(recipes.default_recipe(dataset), seed=config.seed, **given)
    path = targets.train_run(dataset, recipe, config.workdir, rerun=config.rerun)
    records.note(path)
    record = records.read(path.parent)
    assert record is not None
    return [{**record.fields, "path": str(path)}]


def prepare(config: TrainingConfig, dataset: data.Dataset | None = None) -> data.Dataset:
    """Returns the data, once it is known that a network takes them.

    Raises:
      UserError: the data cannot be had, or no built-in network takes the images.
    """
    if dataset is None:
        dataset = data.load(
            config.dataset,
            data_dir=config.data_dir,
            image_size=config.image_size,
            announce=print,
        )
    for_images(dataset.image_shape, dataset.num_classes)
    return dataset


EXPERIMENT = Experiment("train_target", TrainingConfig, run, __doc__, check=prepare)
