"""Distances, affinities and divergences between the releases of each two images, `[N, N]`."""

import functools
import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxinv.measures.bounds.channels import Channel

_APART = 0.01  # standard deviations, from one place of a table to the next


def squared_distances(features: np.ndarray) -> np.ndarray:
    """Computes squared distances between rows `[N, ...]`."""
    flat = np.asarray(features, np.float64).reshape(len(features), -1)
    squares = (flat**2).sum(axis=1)
    apart = np.maximum(squares[:, None] + squares - 2 * (flat @ flat.T), 0)
    np.fill_diagonal(apart, 0)
    return apart


def divergence(through: Channel, features: np.ndarray) -> np.ndarray:
    """Computes the Kullback-Leibler divergence of each two releases, in nats.

    Args:
      through: the noise, "gaussian" or "laplace".
      features: `[N, ...]`, of the map, without noise.
    """
    if through.noise == "gaussian":
        return squared_distances(features) * through.information / 2
    return through.releases * _each_two(_laplace_divergence, features, through.scale)


def overlap(through: Channel, features: np.ndarray) -> np.ndarray:
    """Computes `E[p q / (p + q)]`, or less, of each two releases: 1/2 where they are the same.

    Exact for Gaussian noise; for others a bound from the affinity of p and q.

    Args:
      through: the noise.
      features: `[N, ...]`, of the map, without noise.
    """
    if through.noise == "gaussian":
        apart = np.sqrt(squared_distances(features) * through.information)
        table = _gaussian_overlaps()
        # It falls: the next place further on is less.
        return table[np.minimum(np.ceil(apart / _APART), len(table) - 1).astype(int)]
    if through.noise == "laplace":
        affinity = _each_two(_laplace_affinity, features, through.scale)
    else:
        affinity = _each_two(_dropout_affinity, features, 1.0, math.log(through.scale))
    return np.exp(2 * through.releases * affinity) / 2


@functools.cache
def _gaussian_overlaps() -> np.ndarray:
    """Returns a table by the distance of two normal distributions; its last entry is zero."""
    apart = np.arange(0, 40, _APART)
    places = np.arange(-10, 10, 0.02)
    density = np.exp(-(places**2) / 2) / math.sqrt(2 * math.pi)
    mean = 0.02 * (density / np.cosh(np.outer(apart, places) / 2)).sum(axis=1)
    return np.append(np.exp(-(apart**2) / 8) * mean / 2, 0.0)


def _laplace_affinity(flat: Array, row: Array) -> Array:
    """Returns the logarithm of the Bhattacharyya coefficient of one release with each, `[N]`."""
    steps = jnp.abs(flat - row[None]) / 2
    return (jnp.log1p(steps) - steps).sum(axis=1)


def _laplace_divergence(flat: Array, row: Array) -> Array:
    """Returns the divergence of one release and each, `[N]`, at scale 1."""
    steps = jnp.abs(flat - row[None])
    return (steps + jnp.expm1(-steps)).sum(axis=1)


def _dropout_affinity(flat: Array, row: Array, dropped: Array) -> Array:
    """Returns the log affinity: of two values that differ only zeros agree; half if one is zero."""
    told = jnp.where((flat == 0) | (row[None] == 0), dropped / 2, dropped)
    return jnp.where(flat != row[None], told, 0).sum(axis=1)


def _each_two(
    function: Callable[..., Array], features: np.ndarray, scale: float, *rest: float
) -> np.ndarray:
    """Applies a function of all rows `[N, D]` and one of them, in units of the scale."""
    flat = np.asarray(features, np.float64).reshape(len(features), -1) / scale
    return np.asarray(_map_rows(function, jnp.asarray(flat, jnp.float32), *rest), np.float64)


@partial(jax.jit, static_argnums=0)
def _map_rows(function: Callable[..., Array], flat: Array, *rest: Array) -> Array:
    return jax.lax.map(lambda row: function(flat, row, *rest), flat)
