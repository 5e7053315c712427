"""Pruning to the largest values (top-k sparsification)."""

import jax.numpy as jnp
from jax import Array

from jaxinv.defenses.mechanism import Mechanism


def kept(level: Array, size: int) -> Array:
    """Returns how many of `size` values are left, rounded up.

    float32 has 1 - 0.9 a little above 0.1: the product is shrunk a little before rounding.
    """
    return jnp.ceil((1 - level) * size * (1 - 1e-6))


def _apply(key: Array, x: Array, level: Array) -> Array:
    del key
    sizes = jnp.abs(x).ravel()
    count = jnp.maximum(kept(level, sizes.size), 1).astype(jnp.int32)
    least = jnp.sort(sizes)[sizes.size - count]
    above, equal = sizes > least, sizes == least
    # Among equal values, such as a background, keep the first ones: no more are left than are sent.
    first = equal & (jnp.cumsum(equal) <= count - above.sum())
    return jnp.where((above | first).reshape(x.shape), x, 0)


def _residual(before: Array, clean: Array, observed: Array, level: Array) -> Array:
    """Bounds a pruned feature by the smallest feature that was kept."""
    del level
    least = jnp.min(jnp.where(observed != 0, jnp.abs(observed), jnp.inf))
    least = jnp.where(jnp.isfinite(least), least, 0)
    above = jnp.sign(clean) * jnp.maximum(jnp.abs(clean) - least, 0)
    return jnp.where(observed != 0, before - observed, above)


PRUNE = Mechanism(
    "prune",
    _apply,
    unit="share of an example's values set to zero, the smallest; of equal ones the last",
    source="top-k sparsification",
    sweep=(0.0, 0.9, 0.95, 0.98, 0.99),
    random=False,
    below=1.0,
    residual=_residual,
)
