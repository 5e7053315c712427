"""Gaussian and Laplace noise (He, Zhang & Lee 2021, section IV-A), rounded to a public grid."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxinv.defenses import sampler
from jaxinv.defenses.mechanism import LEAST_NOISE, Mechanism

_ROUNDED = 0.1  # scales of Laplace noise, below which its likelihood is smooth


def _add_gaussian(key: Array, x: Array, level: Array) -> Array:
    return sampler.noisy(x, sampler.normal(key, x.shape), level)


def _gaussian_residual(before: Array, clean: Array, observed: Array, level: Array) -> Array:
    del before
    return (clean - observed) / jnp.maximum(level, LEAST_NOISE)


def gaussian_log_likelihood(clean: Array, observed: Array, level: Array) -> Array:
    """Returns the log-likelihood of Gaussian noise of standard deviation `level`."""
    return -(((observed - clean) / level) ** 2) / 2


def of_mean(level: Any, count: int) -> Any:
    """Returns the level of the mean of several releases."""
    return level / count**0.5


GAUSSIAN = Mechanism(
    "gaussian",
    _add_gaussian,
    unit="sigma, standard deviation of the noise",
    source="He, Zhang & Lee 2021, section IV-A",
    sweep=(0.0, 0.3, 0.5, 0.8, 1.0, 2.0),
    residual=_gaussian_residual,
    noisy=True,
    log_likelihood=gaussian_log_likelihood,
    combined=of_mean,
    noise="gaussian",
    rounded=True,
)


def _add_laplace(key: Array, x: Array, level: Array) -> Array:
    return sampler.noisy(x, sampler.laplace(key, x.shape), level)


def _laplace_residual(before: Array, clean: Array, observed: Array, level: Array) -> Array:
    """Returns r with `r^2 / 2 = |d| / b`, rounded off near d = 0, where it needs a slope."""
    del before
    difference = (clean - observed) / jnp.maximum(level, LEAST_NOISE)
    return difference * jnp.sqrt(2 / (jnp.sqrt(difference**2 + _ROUNDED**2) + _ROUNDED))


def _laplace_log_likelihood(clean: Array, observed: Array, level: Array) -> Array:
    return -jnp.abs(observed - clean) / level


def _median(releases: Array, level: Array) -> Array:
    """Returns the likeliest value; its variance falls to half the variance of the mean."""
    del level
    return jnp.median(releases, axis=0)


def _of_median(level: Any, count: int) -> Any:
    """Returns the scale of Laplace noise that varies as much as the median of many releases."""
    return level if count == 1 else level / (2 * count) ** 0.5


LAPLACE = Mechanism(
    "laplace",
    _add_laplace,
    unit="b, scale of the noise (its standard deviation is 1.41 b)",
    source="He, Zhang & Lee 2021, section IV-A",
    sweep=(0.0, 0.3, 0.5, 0.8, 1.0, 2.0),
    residual=_laplace_residual,
    noisy=True,
    log_likelihood=_laplace_log_likelihood,
    combine=_median,
    combined=_of_median,
    noise="laplace",
    rounded=True,
)
