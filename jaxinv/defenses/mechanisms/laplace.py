"""Laplace noise (He, Zhang & Lee 2021, section IV-A)."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxinv.defenses.mechanism import Mechanism
from jaxinv.defenses.mechanisms.residuals import LEAST_NOISE

_ROUNDED = 0.1  # scales of the noise, below which the likelihood is smooth


def _apply(key: Array, x: Array, level: Array) -> Array:
    return x + level * jax.random.laplace(key, x.shape)


def _residual(before: Array, clean: Array, observed: Array, level: Array) -> Array:
    """Returns r with `r^2 / 2 = |d| / b`, rounded off near d = 0, where it needs a slope."""
    del before
    difference = (clean - observed) / jnp.maximum(level, LEAST_NOISE)
    return difference * jnp.sqrt(2 / (jnp.sqrt(difference**2 + _ROUNDED**2) + _ROUNDED))


def _median(releases: Array, level: Array) -> Array:
    """Returns the likeliest value; its variance falls to half the variance of the mean."""
    del level
    return jnp.median(releases, axis=0)


def _of_median(level: Any, count: int) -> Any:
    """Returns the scale of Laplace noise that varies as much as the median of many releases."""
    return level if count == 1 else level / (2 * count) ** 0.5


LAPLACE = Mechanism(
    "laplace",
    _apply,
    unit="b, scale of the noise (its standard deviation is 1.41 b)",
    source="He, Zhang & Lee 2021, section IV-A",
    sweep=(0.0, 0.3, 0.5, 0.8, 1.0, 2.0),
    residual=_residual,
    noisy=True,
    combine=_median,
    combined=_of_median,
    noise="laplace",
)
