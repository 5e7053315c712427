"""Trained target networks: shipped with the package, found in a work folder, or trained here. JAX.

A target belongs to the data it was trained on: weights of one dataset never serve another.
"""

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxinv.errors import DamagedError, UserError
from jaxinv.inputs.data import Dataset, print_to_stderr
from jaxinv.look.charts import learning, style
from jaxinv.machine import environment, hosts, source
from jaxinv.networks import Network, Params, for_images
from jaxinv.store import checkpoints, files, locks, records
from jaxinv.training.classification import accuracy
from jaxinv.training.recipes import TargetRecipe, default_recipe, train

EXPERIMENT = "train_target"
WEIGHTS = "target.safetensors"
SHIPPED = Path(__file__).parent / "weights"
_CHECKPOINT = "checkpoint.safetensors"
_FLAGS = {"epochs", "batch_size", "learning_rate", "seed"}  # of the command that trains


@dataclasses.dataclass(frozen=True)
class Target:
    """A trained network and its origin.

    Attributes:
      network: the whole network; `split` it to attack it.
      params: its trained parameters.
      source: "shipped", or the file of the parameters.
      fingerprint: of the network and its parameters, for configuration hashes.
      training: record of its training (empty if the file has none).
    """

    network: Network
    params: Params
    source: str
    fingerprint: str
    training: Mapping[str, Any]


def train_run(
    dataset: Dataset, recipe: TargetRecipe, workdir: str | os.PathLike[str], *, rerun: bool = False
) -> Path:
    """Trains a target as a run: `<workdir>/train_target/<run_id>/`, with its record last.

    A finished run is not repeated; a killed one continues after its last finished epoch.

    Args:
      dataset: its `target` part trains.
      recipe: the settings.
      workdir: folder of runs.
      rerun: True trains anew even if the run is finished.

    Returns:
      The path of the run's record.
    """
    config = {
        "dataset": dataset.name,
        "data_fingerprint": dataset.fingerprint,
        "recipe": dataclasses.asdict(recipe),
        "code": source.digest(__name__),
        **environment.numeric_mode(),
    }
    folder = records.run_dir(workdir, EXPERIMENT, config, label=f"{dataset.name}-s{recipe.seed}")
    if rerun or not hosts.first(lambda: _is_trained(folder)):
        # One of several runs that need the target trains it, with all its processes.
        lock = Path(workdir) / "locks" / f"{EXPERIMENT}-{folder.name}"
        with locks.held(lock) if hosts.is_first() else contextlib.nullcontext():
            if rerun:
                (folder / _CHECKPOINT).unlink(missing_ok=True)
            if rerun or not hosts.first(lambda: _is_trained(folder)):
                _train_into(folder, dataset, recipe, config)
    return folder / records.RECORD_NAME


def _is_trained(folder: Path) -> bool:
    return records.read(folder) is not None and _is_whole(folder / WEIGHTS)


def _is_whole(weights: Path) -> bool:
    """Returns True if the weights can be read; damaged ones are set aside."""
    if not weights.is_file():
        return False
    try:
        checkpoints.read(weights)
    except DamagedError as error:
        files.set_aside(weights, error.why)
        return False
    return True


def _train_into(
    folder: Path, dataset: Dataset, recipe: TargetRecipe, config: Mapping[str, Any]
) -> None:
    checkpoint = folder / _CHECKPOINT
    network = for_images(dataset.image_shape, dataset.num_classes)
    done = train(dataset, network, recipe, checkpoint=checkpoint)
    record = {
        "kind": "target",
        "experiment": EXPERIMENT,
        "code": config["code"],
        "cuts": list(network.cuts),
        "dataset": dataset.name,
        "data_source": dataset.source,
        "data_fingerprint": dataset.fingerprint,
        "seed": recipe.seed,
        "flags": _flags(dataset, recipe),
        "num_images": len(dataset.target),
        "test_accuracy": accuracy(network, done.params, dataset.test),
        "num_test_images": len(dataset.test),
        "fingerprint": checkpoints.fingerprint(done.params),
        "compile_s": done.compile_seconds,
        "fit_s": done.seconds,
        "history": done.history,
        **environment.facts(),
        "config": config,
        "config_hash": records.config_hash(config),
    }
    metadata = {"dataset": dataset.name, "training": json.dumps(record)}
    checkpoints.save(folder / WEIGHTS, done.params, metadata=metadata)
    names = {"loss": "train_loss", "accuracy": "train_accuracy", "test_accuracy": "test_accuracy"}
    curves = {new: [row[old] for row in done.history] for old, new in names.items()}
    title = f"{dataset.name}: {record['test_accuracy']:.2%} of {len(dataset.test):,} test images"
    style.save(folder / "learning_curve.png", learning.figure(curves, title=title))
    records.write(folder, record, images=None)
    checkpoint.unlink(missing_ok=True)


def _flags(dataset: Dataset, recipe: TargetRecipe) -> dict[str, str]:
    """Returns the flags of the command that trains by a recipe; none where flags cannot tell it."""
    default = dataclasses.asdict(default_recipe(dataset))
    given = dataclasses.asdict(recipe).items()
    told = {name: str(value) for name, value in given if value != default[name]}
    return {"dataset": dataset.name, **told} if told.keys() <= _FLAGS else {}


def find(
    dataset: Dataset,
    workdir: str | os.PathLike[str],
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    announce: Callable[[str], None] = print_to_stderr,
) -> Target:
    """Returns the target of a dataset: given, shipped, trained earlier in the work folder, or now.

    A target of another recipe than `default_recipe` is used only if it is given.

    Args:
      dataset: the data of the target's training.
      workdir: folder of runs; training a target makes a run there.
      checkpoint: file of the target, if given.
      announce: receives one line if a target is trained now.

    Raises:
      UserError: the checkpoint is missing, truncated, or of another model or dataset; or no
        built-in network takes the dataset's images.
    """
    if checkpoint is not None:
        return load(checkpoint, dataset)
    shipped = SHIPPED / f"{dataset.name}.safetensors"
    if shipped.is_file():
        return load(shipped, dataset, source="shipped")
    if trained := hosts.first(lambda: _newest(dataset, workdir)):
        return load(trained, dataset)
    announce(f"No trained target for {dataset.name} yet: training one on {dataset.source}.")
    path = train_run(dataset, default_recipe(dataset), workdir)
    return load(path.with_name(WEIGHTS), dataset)


def _newest(dataset: Dataset, workdir: str | os.PathLike[str]) -> str | None:
    """Returns the weights trained last by the default recipe."""
    recipe = dataclasses.asdict(default_recipe(dataset))
    found = [
        Path(record.path).with_name(WEIGHTS)
        for record in records.find(workdir, EXPERIMENT)
        if record.data_fingerprint == dataset.fingerprint
        and {**record.config["recipe"], "seed": 0} == recipe
    ]
    trained = [path for path in found if _is_whole(path)]
    return str(max(trained, key=lambda path: path.stat().st_mtime)) if trained else None


def test_accuracy(target: Target, dataset: Dataset) -> float:
    """Returns the accuracy on the test split, as recorded at training or else measured."""
    known = target.training.get("test_accuracy")
    if known is not None and target.training.get("data_fingerprint") == dataset.fingerprint:
        return float(known)
    return accuracy(target.network, target.params, dataset.test)


def load(path: str | os.PathLike[str], dataset: Dataset, *, source: str | None = None) -> Target:
    """Reads a target for a dataset.

    Raises:
      UserError: the file is missing, truncated, of another model, or of another dataset.
    """
    network = for_images(dataset.image_shape, dataset.num_classes)
    like = jax.eval_shape(network.init, jax.random.key(0))
    params, metadata = checkpoints.load(path, like)
    if metadata.get("dataset") != dataset.name:
        trained_on = metadata.get("dataset", "an unknown dataset")
        raise UserError(f"{path}: trained on {trained_on}, not on {dataset.name}.")
    try:
        info = dict(json.loads(metadata.get("training", "{}")))
    except ValueError as error:
        raise UserError(f"{path}: its record of training is not readable.") from error
    params = jax.tree.map(jnp.asarray, params)
    return Target(network, params, source or str(path), fingerprint(network, params), info)


def fingerprint(network: Network, params: Params) -> str:
    """Returns 12 hex digits that identify a network and its parameters."""
    digits = np.frombuffer(bytes.fromhex(network.fingerprint), np.uint8)
    return checkpoints.fingerprint({"network": digits, "params": params})
