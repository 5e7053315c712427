"""Trained target networks: shipped with the package, found in a work folder, or trained here. JAX.

A target belongs to the data it was trained on: weights of one dataset never serve another.
"""

import contextlib
import dataclasses
import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxinv.errors import DamagedError, UserError
from jaxinv.inputs.data import Dataset, Samples, print_to_stderr
from jaxinv.look.charts import learning, style
from jaxinv.machine import devices, environment, hosts
from jaxinv.networks import Network, Params, for_images
from jaxinv.store import checkpoints, files, locks, records
from jaxinv.training import fit as training

EXPERIMENT = "train_target"
WEIGHTS = "target.safetensors"
SHIPPED = Path(__file__).parent / "weights"
_CHECKPOINT = "checkpoint.safetensors"
_LEAST_STEPS = 1500


@dataclasses.dataclass(frozen=True)
class Target:
    """A trained network and where it came from.

    Attributes:
      network: the whole network; `split` it to attack it.
      params: its trained parameters.
      source: "shipped", or the file that the parameters came from.
      fingerprint: identifies the network and its parameters, in configuration hashes.
      training: how it was trained, and what that reached (empty if the file does not tell).
    """

    network: Network
    params: Params
    source: str
    fingerprint: str
    training: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a target is trained: AdamW, one cycle of the learning rate, gradients clipped to norm 1.

    Attributes:
      epochs: passes over the target's part of the training split.
      batch_size: images a step.
      learning_rate: at the peak of the cycle.
      weight_decay: of AdamW.
      eps: of AdamW, against the root of the squared gradient.
      augment: whether images are flipped and jittered.
      seed: of the initial parameters, the order of images and the augmentation.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    eps: float
    augment: bool
    seed: int = 0


def default_recipe(dataset: Dataset) -> Recipe:
    """A recipe by kind of image: grey images are not augmented, colour images are.

    Grey images get the eps that the authors trained with: it keeps weights small, and with them the
    reach of attacks whose own eps is absolute. Small datasets get more epochs, so that no target is
    trained for fewer than 1,500 steps.
    """
    if dataset.image_shape[-1] > 1:
        recipe = Recipe(16, 64, 1e-3, 0.05, 1e-8, augment=True)
    else:
        recipe = Recipe(18, 32, 2.3e-3, 0.0, 1e-3, augment=False)
    steps = max(1, len(dataset.target) // recipe.batch_size)
    return dataclasses.replace(recipe, epochs=max(recipe.epochs, math.ceil(_LEAST_STEPS / steps)))


def train(
    dataset: Dataset,
    network: Network,
    recipe: Recipe,
    *,
    checkpoint: str | os.PathLike[str] | None = None,
) -> training.Fit:
    """Trains a network on the target's part of a dataset.

    The history has `loss` and `accuracy` on the (augmented) training images, and `test_accuracy` on
    the first 2,000 test images, which serve the picture alone: nothing is chosen by them.

    Args:
      dataset: its `target` part trains.
      network: takes the dataset's images, returns one logit a class.
      recipe: the settings.
      checkpoint: file to go on from after a kill.
    """
    key_init, key_fit = jax.random.split(jax.random.key(recipe.seed))
    samples, shown = dataset.target, dataset.test[:2000]
    schedule = optax.cosine_onecycle_schedule(
        recipe.epochs * max(1, len(samples) // recipe.batch_size),
        recipe.learning_rate,
        pct_start=0.2,
    )
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(schedule, eps=recipe.eps, weight_decay=recipe.weight_decay),
    )

    def loss(params: Params, batch: dict[str, Array], key: Array):
        images = batch["pixels"].astype(jnp.float32) / 255
        images = augment(key, images) if recipe.augment else images
        logits = network.apply(params, images)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"])
        return losses.mean(), {"accuracy": (logits.argmax(-1) == batch["labels"]).mean()}

    return training.fit(
        loss,
        network.init(key_init),
        {"pixels": np.asarray(samples.pixels), "labels": samples.labels},
        optimizer=optimizer,
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        key=key_fit,
        on_epoch=lambda params: {"test_accuracy": accuracy(network, params, shown)},
        checkpoint=checkpoint,
        description=f"{dataset.name} target",
    )


def augment(key: Array, images: Array, *, mirror: bool = True) -> Array:
    """Mirrors half of the images; zooms (10%, each axis by itself) and shifts (10%) each.

    Args:
      key: of the random draws.
      images: `[N, H, W, C]` in unit space.
      mirror: whether to mirror.

    Returns:
      `[N, H, W, C]`, interpolated linearly; what comes from beyond the border is black.
    """
    n, height, width, _ = images.shape
    key_flip, key_zoom, key_shift = jax.random.split(key, 3)
    if mirror:
        mirrored = jax.random.bernoulli(key_flip, shape=(n, 1, 1, 1))
        images = jnp.where(mirrored, images[:, :, ::-1], images)
    size = jnp.array([[height, width]], jnp.float32)
    zoom = jax.random.uniform(key_zoom, (n, 2), minval=0.9, maxval=1.1)
    shift = jax.random.uniform(key_shift, (n, 2), minval=-0.1, maxval=0.1) * size
    # The transform scales about the corner: move the middle back to where it was.
    shift += (1 - zoom) * size / 2

    def warp(image: Array, zoom: Array, shift: Array) -> Array:
        return jax.image.scale_and_translate(
            image, image.shape, (0, 1), zoom, shift, "linear", antialias=False
        )

    return jax.vmap(warp)(images, zoom, shift)


def accuracy(network: Network, params: Params, samples: Samples) -> float:
    """Share of samples whose class has the largest logit.

    Args:
      network: returns one logit a class.
      params: its parameters.
      samples: images and labels.
    """
    predicted = devices.in_slices(_predict, samples.pixels, static=(network,), shared=(params,))
    return int((predicted == samples.labels).sum()) / len(samples)


def correct(cloud: Network, params: Params, features: Any, labels: np.ndarray) -> np.ndarray:
    """Which features a cloud classifies rightly, `[N]` bool.

    Args:
      cloud: returns one logit a class.
      params: its parameters.
      features: `[N, *cloud.input_shape]`, by index: an array or a `defenses.Release`.
      labels: `[N]`.
    """
    own = cloud.select(params)
    found = devices.in_slices(_classify, features, static=(cloud,), shared=(own,))
    return found == labels


def _classify(cloud: Network, params: Params, features: Array) -> Array:
    return cloud.apply(params, features).argmax(-1)


def _predict(network: Network, params: Params, pixels: Array) -> Array:
    return network.apply(params, pixels.astype(jnp.float32) / 255).argmax(-1)


def train_run(
    dataset: Dataset, recipe: Recipe, workdir: str | os.PathLike[str], *, rerun: bool = False
) -> Path:
    """Trains a target as a run: `<workdir>/train_target/<run_id>/`, with its record last.

    A finished run is not repeated; one that was killed goes on after its last finished epoch.

    Args:
      dataset: what to train on.
      recipe: how.
      workdir: where runs are kept.
      rerun: whether to train anew even if the run is finished.

    Returns:
      The path of the run's record.
    """
    config = {
        "dataset": dataset.name,
        "data_fingerprint": dataset.fingerprint,
        "recipe": dataclasses.asdict(recipe),
    }
    folder = records.run_dir(workdir, EXPERIMENT, config, label=f"{dataset.name}-s{recipe.seed}")
    if rerun or not hosts.first(lambda: _is_trained(folder)):
        # Of several runs that need it, one trains. Processes of one run do that together.
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
    """Whether there are such weights; those that are damaged are set aside."""
    if not weights.is_file():
        return False
    try:
        checkpoints.read(weights)
    except DamagedError as error:
        files.set_aside(weights, error.why)
        return False
    return True


def _train_into(folder: Path, dataset: Dataset, recipe: Recipe, config: Mapping[str, Any]) -> None:
    checkpoint = folder / _CHECKPOINT
    network = for_images(dataset.image_shape, dataset.num_classes)
    done = train(dataset, network, recipe, checkpoint=checkpoint)
    record = {
        "experiment": EXPERIMENT,
        "dataset": dataset.name,
        "data_source": dataset.source,
        "data_fingerprint": dataset.fingerprint,
        "seed": recipe.seed,
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


def find(
    dataset: Dataset,
    workdir: str | os.PathLike[str],
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    announce: Callable[[str], None] = print_to_stderr,
) -> Target:
    """The target of a dataset: given, shipped, trained earlier in the work folder, or trained now.

    One that was trained by another recipe than `default_recipe` is used only if it is given.

    Args:
      dataset: the data that it must have been trained on.
      workdir: where runs are kept; a target that has to be trained becomes a run there.
      checkpoint: a file to take instead of looking for one.
      announce: is told, in one line, that a target is trained now.

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
    """The weights that were trained last, by the default recipe."""
    recipe = dataclasses.asdict(default_recipe(dataset))
    found = [
        Path(record["path"]).with_name(WEIGHTS)
        for record in records.find(workdir, EXPERIMENT)
        if record.get("data_fingerprint") == dataset.fingerprint
        and {**record["config"]["recipe"], "seed": 0} == recipe
    ]
    trained = [path for path in found if _is_whole(path)]
    return str(max(trained, key=lambda path: path.stat().st_mtime)) if trained else None


def test_accuracy(target: Target, dataset: Dataset) -> float:
    """Accuracy on the whole test split: as recorded when the target was trained, else measured."""
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
