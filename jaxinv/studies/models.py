"""Data, and the network that takes them, as settings ask for them. NumPy."""

import dataclasses
import os
from collections.abc import Sequence

from jaxinv.constants import kinds
from jaxinv.errors import UsageError
from jaxinv.inputs import data
from jaxinv.networks import loading
from jaxinv.networks.loading import Model
from jaxinv.networks.placing import on_grid
from jaxinv.studies.config import DataConfig


def data_and_model(
    config: DataConfig,
    dataset: data.Dataset | None = None,
    *,
    announce: data.Announce = print,
) -> tuple[data.Dataset, Model]:
    """Finds the data and the network that takes them.

    Args:
      config: settings.
      dataset: the data, if they are loaded already.
      announce: receives lines for the user.

    Raises:
      UserError: one cannot be had, or they do not fit.
    """
    own = None
    if config.network is not None and not loading.is_in_zoo(config.network):
        own = loading.load(config.network, mean=config.mean, std=config.std)
    if dataset is None:
        dataset = data.load(
            config.dataset,
            data_dir=config.data_dir,
            image_size=config.image_size or _size_for(config, own),
            announce=announce,
        )
    model = _over_columns(own, dataset) if own else _of_zoo(config, dataset)
    wanted, given = model.network.input_shape, dataset.image_shape
    if wanted != given and dataset.kind != kinds.IMAGE:
        raise UsageError(
            f"network={model.name}: takes inputs of {_spelled(wanted)}, and "
            f"dataset={dataset.name} has {dataset.kind.plural} of {_spelled(dataset.own_shape)}."
        )
    if wanted != given:
        raise UsageError(
            f"network={model.name}: takes images of {_spelled(wanted)}, and "
            f"dataset={dataset.name} has {_spelled(given)}{_resized(wanted, given)}."
        )
    return dataset, model


def _size_for(config: DataConfig, own: Model | None) -> tuple[int, int] | None:
    """Returns the size that a user's own images are resized to for a network of one size."""
    if own is None or len(own.network.input_shape) != 3:
        return None
    if not os.path.isdir(config.dataset) and not config.dataset.endswith(".npz"):
        return None
    height, width, _ = own.network.input_shape
    return height, width


def _over_columns(model: Model, dataset: data.Dataset) -> Model:
    """Returns a network of inputs as their file has them, over unit space on their grid."""
    columns, network = dataset.columns, model.network
    places = [side for side in network.input_shape if side != 1]
    if columns is None or places != [side for side in columns.shape if side != 1]:
        return model
    mean, std = columns.normalization(network.mean, network.std)
    placed = on_grid(dataclasses.replace(network, mean=None, std=None), columns.grid)
    return model._replace(network=dataclasses.replace(placed, mean=mean, std=std))


def _of_zoo(config: DataConfig, dataset: data.Dataset) -> Model:
    shape, classes = dataset.image_shape, dataset.num_classes
    name = config.network or loading.default(shape, classes).name
    return loading.load(name, shape, classes, mean=config.mean, std=config.std)


def _resized(wanted: Sequence[int], given: Sequence[int]) -> str:
    """Tells how images can be made to fit, if they have as many channels."""
    if len(wanted) != 3 or wanted[-1] != given[-1]:
        return ""
    return f"; image_size={wanted[0]}x{wanted[1]} would resize them"


def _spelled(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
