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

# What is certified holds for features as they are: sums are rounded outward. In double precision by
# this share of the squares that a distance is the difference of; in single precision by one unit in
# the last place of each term.
_DOUBLE = 1e-14
_SINGLE = 2.0**-23

_APART = 0.01  # standard deviations, from one place of a table to the next


_SMALL = 0.03  # steps of Laplace noise below which a series is more precise, and further outward
_TERM = 1000  # units in the last place that one term of a sum may be off, cancellation included


def squared_distances(features: np.ndarray) -> np.ndarray:
    """Computes squared distances between rows `[N, ...]`."""
    return _distances(features)[0]


def farthest(features: np.ndarray) -> np.ndarray:
    """Computes squared distances between rows `[N, ...]`, rounded up."""
    apart, squares = _distances(features)
    apart += _DOUBLE * (squares[:, None] + squares)
    np.fill_diagonal(apart, 0)
    return apart


def _distances(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns squared distances `[N, N]`, and the squares `[N]` that they are made of."""
    flat = np.asarray(features, np.float64).reshape(len(features), -1)
    flat = flat - flat.mean(axis=0)
    squares = (flat**2).sum(axis=1)
    apart = np.maximum(squares[:, None] + squares - 2 * (flat @ flat.T), 0)
    np.fill_diagonal(apart, 0)
    return apart, squares


def divergence(through: Channel, features: np.ndarray) -> np.ndarray:
    """Computes the Kullback-Leibler divergence of each two releases, in nats, rounded up.

    Args:
      through: the noise, "gaussian" or "laplace".
      features: `[N, ...]`, of the map, without noise.
    """
    if through.noise == "gaussian":
        return farthest(features) * through.information / 2
    return through.releases * _each_two(_laplace_divergence, features, through.scale)


def overlap(through: Channel, features: np.ndarray) -> np.ndarray:
    """Computes `E[p q / (p + q)]`, or less, of each two releases: 1/2 where they are the same.

    Exact for Gaussian noise; for others a bound from the affinity of p and q.

    Args:
      through: the noise.
      features: `[N, ...]`, of the map, without noise.
    """
    if through.noise == "gaussian":
        apart = np.sqrt(farthest(features) * through.information)
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
    steps = _steps(flat, row) / 2
    exact = jnp.log1p(steps) - steps
    return jnp.where(steps < _SMALL, -(steps**2) / 2, exact).sum(axis=1)


def _laplace_divergence(flat: Array, row: Array) -> Array:
    """Returns the divergence of one release and each, `[N]`, at scale 1."""
    steps = _steps(flat, row)
    exact = steps + jnp.expm1(-steps)
    return jnp.where(steps < _SMALL, steps**2 / 2, exact).sum(axis=1)


def _steps(flat: Array, row: Array) -> Array:
    """Returns how far values are apart, rounded up."""
    most = jnp.maximum(jnp.abs(flat), jnp.abs(row[None]))
    return jnp.abs(flat - row[None]) + 4 * _SINGLE * most


def _dropout_affinity(flat: Array, row: Array, dropped: Array) -> Array:
    """Returns the log affinity: of two values that differ only zeros agree; half if one is zero."""
    told = jnp.where((flat == 0) | (row[None] == 0), dropped / 2, dropped)
    return jnp.where(flat != row[None], told, 0).sum(axis=1)


def _each_two(
    function: Callable[..., Array], features: np.ndarray, scale: float, *rest: float
) -> np.ndarray:
    """Applies a function of all rows `[N, D]` and one of them, in units of the scale.

    A sum of D terms of one sign is rounded away from zero, by what rounding each may have cost.
    """
    flat = np.asarray(features, np.float64).reshape(len(features), -1) / scale
    sums = np.asarray(_map_rows(function, jnp.asarray(flat, jnp.float32), *rest), np.float64)
    return sums * (1 + _SINGLE * (flat.shape[1] + _TERM))


@partial(jax.jit, static_argnums=0)
def _map_rows(function: Callable[..., Array], flat: Array, *rest: Array) -> Array:
    return jax.lax.map(lambda row: function(flat, row, *rest), flat)
