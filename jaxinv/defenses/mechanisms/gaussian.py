"""Gaussian noise (He, Zhang & Lee 2021, section IV-A)."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxinv.defenses.mechanism import Mechanism
from jaxinv.defenses.mechanisms.residuals import LEAST_NOISE


def _apply(key: Array, x: Array, level: Array) -> Array:
    return x + level * jax.random.normal(key, x.shape)


def _residual(before: Array, clean: Array, observed: Array, level: Array) -> Array:
    del before
    return (clean - observed) / jnp.maximum(level, LEAST_NOISE)


def of_mean(level: Any, count: int) -> Any:
    """Returns the level of the mean of several releases."""
    return level / count**0.5


GAUSSIAN = Mechanism(
    "gaussian",
    _apply,
    unit="sigma, standard deviation of the noise",
    source="He, Zhang & Lee 2021, section IV-A",
    sweep=(0.0, 0.3, 0.5, 0.8, 1.0, 2.0),
    residual=_residual,
    noisy=True,
    combined=of_mean,
    noise="gaussian",
)
