"""Parts that residuals of several mechanisms share."""

import jax.numpy as jnp
from jax import Array

LEAST_NOISE = 0.01
"""Noise that an attacker assumes at least, so that a level of 0 divides by no zero."""


def unchanged(before: Array, clean: Array, observed: Array, level: Array) -> Array:
    """Returns the residual of features that cross the wire unchanged.

    Where the observed value is zero, a final rectifier was closed: its input was at most zero.
    """
    del clean, level
    return jnp.where(observed != 0, before - observed, jnp.maximum(before, 0))
