"""Accuracy of networks on images, and of clouds on features. JAX."""

from typing import Any

import numpy as np
import optax
from jax import Array

from jaxinv import unit_space
from jaxinv.errors import UsageError
from jaxinv.inputs.samples import Samples
from jaxinv.machine import devices
from jaxinv.machine.numbers import widened
from jaxinv.networks import Network, Params


def loss_and_accuracy(logits: Array, labels: Array) -> tuple[Array, dict[str, Array]]:
    """Computes the mean cross-entropy of logits `[B, classes]`, and the accuracy as a metric."""
    losses = optax.softmax_cross_entropy_with_integer_labels(widened(logits), labels)
    return losses.mean(), {"accuracy": (logits.argmax(-1) == labels).mean()}


def check(network: Network, samples: Samples) -> None:
    """Checks that a network classifies samples such as these.

    Raises:
      UsageError: there are no samples, the network takes other images, or it returns no logit for
        the class of one.
    """
    shape = samples.pixels.shape
    if not len(samples) or shape[1:] != network.input_shape:
        wanted = ", ".join(map(str, network.input_shape))
        raise UsageError(
            f"samples={list(shape)}: expected images [N, {wanted}] of the network, at least one."
        )
    if len(network.output_shape) != 1:
        made = ", ".join(map(str, network.output_shape))
        raise UsageError(f"network=[N, {made}]: expected outputs [N, classes], a logit a class.")
    unit_space.labels(samples.labels, len(samples), *network.output_shape)


def accuracy(network: Network, params: Params, samples: Samples) -> float:
    """Computes the share of samples whose class has the largest logit.

    Args:
      network: returns one logit a class.
      params: its parameters.
      samples: images and labels.

    Raises:
      UsageError: as `check` does.
    """
    check(network, samples)
    predicted = devices.in_slices(_predict, samples.pixels, static=(network,), shared=(params,))
    return int((predicted == samples.labels).sum()) / len(samples)


def correct(cloud: Network, params: Params, features: Any, labels: np.ndarray) -> np.ndarray:
    """Tests which features a cloud classifies correctly, `[N]` bool.

    Args:
      cloud: returns one logit a class.
      params: its parameters.
      features: `[N, *cloud.input_shape]`, by index: an array or a `defenses.Release`.
      labels: `[N]`.

    Raises:
      UsageError: the labels are not one class for each.
    """
    labels = unit_space.labels(labels, len(features), cloud.output_shape[-1])
    return classes(cloud, params, features) == labels


def classes(cloud: Network, params: Params, features: Any) -> np.ndarray:
    """Returns the place of the largest output for each of some features, `[N]`.

    Args:
      cloud: returns scores `[N, K]`.
      params: its parameters.
      features: `[N, *cloud.input_shape]`, by index.
    """
    own = cloud.select(params)
    return devices.in_slices(_classify, features, static=(cloud,), shared=(own,))


def _classify(cloud: Network, params: Params, features: Array) -> Array:
    return cloud.apply(params, features).argmax(-1)


def _predict(network: Network, params: Params, pixels: Array) -> Array:
    return network.apply(params, unit_space.from_stored(pixels)).argmax(-1)
