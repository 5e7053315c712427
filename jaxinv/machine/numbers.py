"""Floating-point numbers that neither overflow nor vanish where they are squared. JAX."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array


def widened(x: Array) -> Array:
    """Returns an array as float32, in which sums are taken; float64 and complex stay.

    A half-precision sum of squares overflows at features of 300, and is zero at 1e-5.
    """
    wide = x.dtype == jnp.float64 or jnp.issubdtype(x.dtype, jnp.complexfloating)
    return x if wide else x.astype(jnp.float32)


def length(x: Array, axis: int | Sequence[int] | None = None, *, keepdims: bool = False) -> Array:
    """Computes Euclidean lengths, of any size that the type of `x` has; at least float32.

    The gradient at zero is zero.
    """
    x = widened(x)
    largest = jnp.abs(x).max(axis, keepdims=True, initial=0)
    # A power of two: to divide by it is exact.
    _, exponent = jnp.frexp(jax.lax.stop_gradient(largest))
    unit = jnp.ldexp(jnp.ones_like(largest), exponent)
    squares = jnp.sum((x / unit) ** 2, axis, keepdims=True)
    zero = squares == 0
    found = jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, squares))) * unit
    return found if keepdims else jnp.squeeze(found, axis)
