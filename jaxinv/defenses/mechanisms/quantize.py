"""Uniform quantisation between an example's least and greatest value."""

import jax
import jax.numpy as jnp
from jax import Array

from jaxinv.defenses.mechanism import LEAST_NOISE, Coding, Mechanism

_RANGE_BITS = 64  # least and greatest value beside the symbols of an example


def _cells(x: Array, level: Array) -> tuple[Array, Array]:
    """Returns the least value and the width of the `2^level` cells that span the range of `x`."""
    low, high = x.min(), x.max()
    return low, (high - low) / jnp.maximum(2.0**level - 1, 1)


def _nearest(x: Array, low: Array, width: Array) -> Array:
    """Returns the number of the cell nearest to each value, from 0."""
    return jnp.round((x - low) / jnp.where(width > 0, width, 1))


def _apply(key: Array, x: Array, level: Array) -> Array:
    del key
    low, width = _cells(x, level)
    rounded = low + _nearest(x, low, width) * width
    # Exactly these values, with the straight-through gradient: networks are trained through it.
    rounded = jax.lax.stop_gradient(rounded) + (x - jax.lax.stop_gradient(x))
    return jnp.where(level > 0, rounded, x)


def _symbols(y: Array, level: Array) -> Array:
    return _nearest(y, *_cells(y, level)).astype(jnp.int32)


def _residual(before: Array, clean: Array, observed: Array, level: Array) -> Array:
    """Returns the difference in standard deviations of a value spread evenly over its cell."""
    del clean
    low, width = _cells(observed, level)
    residual = jnp.where(observed > low, before - observed, jnp.maximum(before - low, 0))
    noise = jnp.where(level > 0, width / 12**0.5, 0)
    return residual / jnp.maximum(noise, LEAST_NOISE)


QUANTIZE = Mechanism(
    "quantize",
    _apply,
    unit="bits of a value, between an example's least and greatest; 0 for all",
    source="uniform quantisation",
    sweep=(0.0, 8.0, 4.0, 2.0, 1.0),
    random=False,
    below=17.0,
    whole=True,
    residual=_residual,
    noisy=True,
    coding=Coding(
        lambda count, level: count * level + _RANGE_BITS,
        lambda x, level: _cells(x, jnp.float32(level))[1],
        _symbols,
    ),
)
