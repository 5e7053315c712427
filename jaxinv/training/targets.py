"""Trained target networks: given, shipped, found in a work folder, or trained here. JAX.

A target belongs to the data it was trained on: weights of one dataset never serve another. Beyond
that name nothing that a file says of itself counts: parameters are checked, accuracies measured.
"""

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jaxinv.errors import DamagedError, UserError
from jaxinv.inputs.data import Dataset
from jaxinv.inputs.places import print_to_stderr
from jaxinv.look.charts import learning, style
from jaxinv.machine import environment, hosts, source
from jaxinv.networks.loading import Model
from jaxinv.store import checkpoints, files, locks, records
from jaxinv.store.record import TargetRecord, title_of
from jaxinv.training import measured
from jaxinv.training.recipes import TargetRecipe, default_recipe, train
from jaxinv.training.target import (
    Target,
    check_trains,
    given,
    is_default,
    is_of_zoo,
    load,
    model_for,
)

EXPERIMENT = "train_target"
WEIGHTS = "target.safetensors"
SHIPPED = Path(__file__).parent / "weights"
_SHIPPED_SEED = 0
_CHECKPOINT = "checkpoint.safetensors"
_MOST_APART = 0.01  # of a record's accuracy and the measured one: devices round differently
_FLAGS = {"epochs", "batch_size", "learning_rate", "seed"}  # of the command that trains


def train_run(
    dataset: Dataset,
    recipe: TargetRecipe,
    workdir: str | os.PathLike[str],
    *,
    model: Model | None = None,
    flags: Mapping[str, str] | None = None,
    rerun: bool = False,
) -> Path:
    """Trains a target as a run: `<workdir>/train_target/<run_id>/`, with its record last.

    A finished run is not repeated; a killed one continues after its last finished epoch.

    Args:
      dataset: its `target` part trains.
      recipe: the settings.
      workdir: folder of runs.
      model: the network; by default the paper's for the images.
      flags: of the command that asks for these data and this network.
      rerun: True trains anew even if the run is finished.

    Returns:
      The path of the run's record.
    """
    model = model or model_for(dataset)
    check_trains(model, dataset)
    config = {
        "dataset": dataset.name,
        "data_fingerprint": dataset.fingerprint,
        "network": model.network.fingerprint,
        "recipe": dataclasses.asdict(recipe),
        "code": _code(),
        **environment.numeric_mode(),
    }
    own = "" if is_default(model, dataset) else f"-{model.short_name}"
    label = f"{dataset.name}{own}-s{recipe.seed}"
    folder = records.run_dir(workdir, EXPERIMENT, config, label=label)
    told = {"dataset": dataset.name} if flags is None else flags

    def trained() -> bool:
        return not rerun and _is_trained(folder, dataset, model, config)

    if not hosts.first(trained):
        # One of several runs that need the target trains it, with all its processes.
        lock = Path(workdir) / "locks" / f"{EXPERIMENT}-{folder.name}"
        with locks.held(lock) if hosts.is_first() else contextlib.nullcontext():
            if rerun:
                (folder / _CHECKPOINT).unlink(missing_ok=True)
            if not hosts.first(trained):
                _train_into(folder, dataset, model, recipe, config, told)
    return folder / records.RECORD_NAME


def _is_trained(folder: Path, dataset: Dataset, model: Model, config: Mapping[str, Any]) -> bool:
    """Tells whether a run is finished; what is another's, or not of its parameters, makes way."""
    record = records.read(folder, config)
    if not isinstance(record, TargetRecord) or not _holds(folder / WEIGHTS, record):
        return False
    measured = test_accuracy(load(folder / WEIGHTS, dataset, model), dataset)
    if abs((record.test_accuracy or 0.0) - measured) <= _MOST_APART:
        return True
    why = f"accuracy {record.test_accuracy}, of the parameters beside it {measured}"
    files.set_aside(folder / records.RECORD_NAME, why)
    return False


def _holds(weights: Path, record: TargetRecord) -> bool:
    """Tells whether a file holds the parameters that a record names; others are set aside."""
    if not weights.is_file():
        return False
    try:
        arrays, _ = checkpoints.read(weights)
    except DamagedError as error:
        files.set_aside(weights, error.why)
        return False
    if checkpoints.fingerprint(arrays) == record.fingerprint:
        return True
    files.make_way(weights, f"not what {records.RECORD_NAME} beside it was written of")
    return False


def _train_into(
    folder: Path,
    dataset: Dataset,
    model: Model,
    recipe: TargetRecipe,
    config: Mapping[str, Any],
    flags: Mapping[str, str],
) -> None:
    checkpoint, network = folder / _CHECKPOINT, model.network
    done = train(dataset, network, recipe, checkpoint=checkpoint)
    record = {
        "kind": "target",
        "experiment": EXPERIMENT,
        "code": config["code"],
        "cuts": list(network.cuts),
        **dataset.fields,
        "seed": recipe.seed,
        "network": model.facts,
        "flags": _flags(default_recipe(dataset, model.name), recipe, flags),
        "num_images": len(dataset.target),
        "test_accuracy": measured.accuracy(network, done.params, dataset.test),
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
    tested = f"{record['test_accuracy']:.2%} of {len(dataset.test):,} test images"
    title = f"{dataset.name}, {title_of(model.name)}: {tested}"
    curve = learning.figure(curves, title=title)
    style.save(folder / "learning_curve.png", curve._replace(kind=dataset.kind))
    records.write(folder, record, images=None)
    checkpoint.unlink(missing_ok=True)


def _flags(default: TargetRecipe, recipe: TargetRecipe, asked: Mapping[str, str]) -> dict[str, str]:
    """Returns the flags of the command that trains by a recipe; none where flags cannot tell it."""
    usual = dataclasses.asdict(default)
    given = dataclasses.asdict(recipe).items()
    told = {name: str(value) for name, value in given if value != usual[name]}
    return {**asked, **told} if asked and told.keys() <= _FLAGS else {}


def find(
    dataset: Dataset,
    workdir: str | os.PathLike[str],
    *,
    model: Model | None = None,
    seed: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    flags: Mapping[str, str] | None = None,
    announce: Callable[[str], None] = print_to_stderr,
) -> Target:
    """Returns the target of a dataset: given, shipped, trained earlier in the work folder, or now.

    A target of another recipe than `default_recipe`, of another seed, or of another numeric mode,
    is used only if it is given. Those that ship are of seed 0.

    Args:
      dataset: the data of the target's training.
      workdir: folder of runs; training a target makes a run there.
      model: the network; by default the paper's for the images. One that comes with parameters is
        not trained.
      seed: of the target's training.
      checkpoint: file of the target, if given; then no seed counts.
      flags: of a command that asks for these data and this network, for the record of a training.
      announce: receives one line if a target is trained now, or is not what one would expect.

    Raises:
      UserError: the checkpoint is missing, truncated, or of another model or dataset; no built-in
        network takes the dataset's images; or there is nothing to train the network with.
    """
    model = model or model_for(dataset)
    if checkpoint is not None:
        try:
            target = load(checkpoint, dataset, model)
        except UserError as error:
            raise UserError(f"checkpoint={error}") from error
        _tell_of_other_data(f"checkpoint={checkpoint}", target, dataset, announce)
        return target
    if model.params is not None:
        return given(model)
    found = _of_seed(seed, dataset, model, workdir, flags, announce)
    return dataclasses.replace(found, seed=seed)


def _of_seed(
    seed: int,
    dataset: Dataset,
    model: Model,
    workdir: str | os.PathLike[str],
    flags: Mapping[str, str] | None,
    announce: Callable[[str], None],
) -> Target:
    """Returns the target of a seed: shipped, trained earlier in the work folder, or now."""
    weights = shipped(dataset, model) if seed == _SHIPPED_SEED else None
    if weights is not None:
        target = load(weights, dataset, model, source="shipped")
        named = dataset.name if is_default(model, dataset) else f"{dataset.name} and {model.name}"
        what = f"The target that ships for {named}"
        _tell_of_other_data(what, target, dataset, announce)
        return target
    recipe = dataclasses.replace(default_recipe(dataset, model.name), seed=seed)
    if earlier := hosts.first(lambda: _earlier(dataset, model, recipe, workdir)):
        path, code = earlier
        if code != _code():
            announce(f"Target {path} is of another version of the code, and is used as it is.")
        return load(path, dataset, model)
    check_trains(model, dataset)
    own = "" if is_default(model, dataset) else f" and {model.name}"
    announce(
        f"No trained target for {dataset.name}{own} yet (of seed {recipe.seed}): training one on "
        f"{dataset.source}."
    )
    trained = train_run(dataset, recipe, workdir, model=model, flags=flags)
    return load(trained.with_name(WEIGHTS), dataset, model)


def _tell_of_other_data(
    what: str, target: Target, dataset: Dataset, announce: Callable[[str], None]
) -> None:
    """Says that the data are not those of a target's training, where its file tells those."""
    told = target.training.get("data_fingerprint")
    if told != dataset.fingerprint and (told is not None or target.source == "shipped"):
        announce(
            f"{what} was trained on other data of this name than {dataset.source}; its accuracy is "
            "measured on these."
        )


def shipped(dataset: Dataset, model: Model) -> Path | None:
    """Returns the file that ships for a dataset and a network of the zoo, or None.

    Its name is the dataset's; for networks other than the usual one, the network's follows.
    """
    if is_default(model, dataset):
        path = SHIPPED / f"{dataset.name}.safetensors"
    elif is_of_zoo(model, dataset):
        path = SHIPPED / f"{dataset.name}-{model.name}.safetensors"
    else:
        return None
    return path if path.is_file() else None


def _earlier(
    dataset: Dataset, model: Model, recipe: TargetRecipe, workdir: str | os.PathLike[str]
) -> tuple[str, str | None] | None:
    """Returns weights that a recipe gave a network, and their code: this code's, or the last.

    None if there are none.
    """
    wanted = dataclasses.asdict(recipe)
    found = [
        (record.code == _code(), Path(record.path).stat().st_mtime, record)
        for record in records.find(workdir, EXPERIMENT)
        if isinstance(record, TargetRecord)
        and (record.dataset, record.data_fingerprint) == (dataset.name, dataset.fingerprint)
        and record.config.get("network") == model.network.fingerprint
        and record.config.get("recipe") == wanted
        and environment.is_of_this_mode(record.config)
        and records.is_as_written(record)
    ]
    for *_, record in sorted(found, key=lambda row: row[:2], reverse=True):
        weights = Path(record.path).with_name(WEIGHTS)
        if _holds(weights, record):
            return str(weights), record.code
    return None


def _code() -> str:
    """Returns the digest of the code that trains."""
    return source.digest(__name__)


def test_accuracy(target: Target, dataset: Dataset) -> float:
    """Returns the accuracy on the test split, measured."""
    return measured.accuracy(target.network, target.params, dataset.test)
