"""A target: a network and its trained parameters, given or read from a file. JAX."""

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxinv.errors import UserError
from jaxinv.inputs.data import Dataset
from jaxinv.networks import Network, Params, loading, pytorch, zoo
from jaxinv.networks.loading import Model
from jaxinv.store import checkpoints
from jaxinv.training.measured import fingerprint

_GIVEN = "given"


@dataclasses.dataclass(frozen=True)
class Target:
    """A trained network and its origin.

    Attributes:
      name: of the network, as it was asked for.
      network: the whole network; `split` it to attack it.
      params: its trained parameters.
      source: "shipped", "given" with the network, or the file of the parameters.
      fingerprint: of the network and its parameters, for configuration hashes.
      training: what the file says of its training, for people (empty if it says nothing).
      seed: of the training by `default_recipe`; None of a file that was given.
    """

    name: str
    network: Network
    params: Params
    source: str
    fingerprint: str
    training: Mapping[str, Any]
    seed: int | None = None

    def is_papers(self, dataset: Dataset) -> bool:
        """Tells whether the network is the one of the paper for the images of a dataset."""
        return is_default(Model(self.name, self.network), dataset)


def model_for(dataset: Dataset) -> Model:
    """Returns the paper's network for the images of a dataset.

    Raises:
      UserError: there is none.
    """
    return loading.default(dataset.image_shape, dataset.num_classes)


def is_default(model: Model, dataset: Dataset) -> bool:
    """Tells whether a network is the one whose trained parameters ship for such images."""
    try:
        return model.network.fingerprint == model_for(dataset).network.fingerprint
    except UserError:
        return False


def is_of_zoo(model: Model, dataset: Dataset) -> bool:
    """Tells whether a network is what the zoo builds by its name for the images of a dataset."""
    if model.name not in zoo.ENTRIES or model.network.input_shape != dataset.image_shape:
        return False
    usual = zoo.build(model.name, dataset.image_shape, dataset.num_classes)
    return model.network.fingerprint == usual.fingerprint


def check_trains(model: Model, dataset: Dataset) -> None:
    """Checks that a dataset can train a network.

    Raises:
      UserError: it has no labels, or the network returns no logit for each class.
    """
    wanted, made = dataset.num_classes, model.network.output_shape
    if not wanted:
        why = f"dataset={dataset.name} has no labels to train it with"
    elif not len(dataset.target):
        why = f"the part target of dataset={dataset.name} has no images"
    elif made != (wanted,):
        why = f"it returns {list(made)}, no logit for each of the {wanted} classes"
    else:
        return
    raise UserError(
        f"network={model.name}: brings no parameters, and {why}; checkpoint=FILE gives them."
    )


def given(model: Model) -> Target:
    """Returns the target that a network is which comes with its parameters."""
    params = jax.tree.map(jnp.asarray, model.params)
    digits = fingerprint(model.network, params)
    return Target(model.name, model.network, params, _GIVEN, digits, {})


def load(
    path: str | os.PathLike[str],
    dataset: Dataset,
    model: Model | None = None,
    *,
    source: str | None = None,
) -> Target:
    """Reads a target for a dataset, in this package's layout or in PyTorch's.

    A file that names the data of its training serves data of that name or of that content.

    Raises:
      UserError: the file is missing, truncated, of another model or dataset, or holds a parameter
        that is not finite.
    """
    model = model or model_for(dataset)
    arrays, metadata = checkpoints.read(path)
    params = _params_of(arrays, model.network, path)
    told = _training(metadata, path)
    trained_on = metadata.get("dataset", dataset.name)
    if trained_on != dataset.name and told.get("data_fingerprint") != dataset.fingerprint:
        raise UserError(f"{path}: trained on {trained_on}, not on {dataset.name}.")
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params)):
        raise UserError(f"{path}: its parameters are not all finite.")
    digits = fingerprint(model.network, params)
    return Target(model.name, model.network, params, source or str(path), digits, told)


def _training(metadata: Mapping[str, str], path: str | os.PathLike[str]) -> dict[str, Any]:
    """Returns the record of training that a file carries; empty if it carries none."""
    try:
        told = json.loads(metadata.get("training", "{}"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: its record of training is not readable.") from error
    return told if isinstance(told, dict) else {}


def _params_of(
    arrays: Mapping[str, np.ndarray], network: Network, path: str | os.PathLike[str]
) -> Params:
    """Returns the arrays of a file as parameters of a network."""
    if pytorch.is_layout(arrays):
        try:
            return pytorch.params_of(arrays, network)
        except UserError as error:
            raise UserError(f"{path}: a checkpoint of another model ({error}).") from error
    like = jax.eval_shape(network.init, jax.random.key(0))
    return jax.tree.map(jnp.asarray, checkpoints.as_tree(arrays, like, path))
