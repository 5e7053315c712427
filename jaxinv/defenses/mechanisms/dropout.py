"""Dropout of values, without rescaling (He, Zhang & Lee 2021, Eq. 6)."""

import jax
import jax.numpy as jnp
from jax import Array

from jaxinv.defenses.mechanism import Mechanism, unchanged_residual

_CLOSE = 1e-4  # of the largest value: far above the rounding of features, far below their spread
_IMPOSSIBLE = 1e4  # nats against a candidate for each value that it cannot have left


def _apply(key: Array, x: Array, level: Array) -> Array:
    return x * jax.random.bernoulli(key, jnp.asarray(1 - level, jnp.float32), x.shape)


def _residual(before: Array, clean: Array, observed: Array, level: Array) -> Array:
    """Ignores zeros: each may have been dropped."""
    told = jnp.where(level > 0, observed != 0, True)
    return jnp.where(told, unchanged_residual(before, clean, observed, level), 0)


def _log_likelihood(clean: Array, observed: Array, level: Array) -> Array:
    """Counts what was dropped, and punishes each survivor that is not its feature.

    The punishment is finite: features that are computed twice differ in their last digits.
    """
    close = _CLOSE * jnp.maximum(jnp.abs(observed).max(), 1e-30)
    unlike = jnp.minimum(((observed - clean) / close) ** 2, _IMPOSSIBLE)
    dropped = jnp.where(clean == 0, 0, jnp.log(level))
    return jnp.where(observed == 0, dropped, jnp.log1p(-level) - unlike)


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
    log_likelihood=_log_likelihood,
    combine=_survivors,
    combined=lambda level, count: level**count,
    noise="dropout",
)
