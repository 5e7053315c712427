"""Dropout of values, without rescaling (He, Zhang & Lee 2021, Eq. 6)."""

import jax
import jax.numpy as jnp
from jax import Array

from jaxinv.defenses.mechanism import Mechanism, unchanged_residual


def _apply(key: Array, x: Array, level: Array) -> Array:
    return x * jax.random.bernoulli(key, 1 - level, x.shape)


def _residual(before: Array, clean: Array, observed: Array, level: Array) -> Array:
    """Ignores zeros: each may have been dropped."""
    told = jnp.where(level > 0, observed != 0, True)
    return jnp.where(told, unchanged_residual(before, clean, observed, level), 0)


def _survivors(releases: Array, level: Array) -> Array:
    """Returns each value from a release that did not drop it."""
    del level
    largest = jnp.abs(releases).argmax(axis=0)
    return jnp.take_along_axis(releases, largest[None], axis=0)[0]


DROPOUT = Mechanism(
    "dropout",
    _apply,
    unit="r, share of values set to zero",
    source="He, Zhang & Lee 2021, Eq. 6: no rescaling",
    sweep=(0.0, 0.2, 0.4, 0.6, 0.8, 0.9),
    below=1.0,
    residual=_residual,
    combine=_survivors,
    combined=lambda level, count: level**count,
    noise="dropout",
)
