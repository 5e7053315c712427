"""A bottleneck that is quantised: few channels, of few bits, and training knows both.

The edge ends in a linear map to a quarter of the channels and a sigmoid; values are rounded to
`2^level` steps between 0 and 1, with the straight-through gradient (Bengio et al. 2013), and the
cloud begins with a linear map back. Both maps begin with the principal components of the features.
Source: bottlenecks as in Eshratifar et al. 2019, BottleNet, which compresses by rounding, too.
"""

import jax
import jax.numpy as jnp
from jax import Array

from jaxinv.defenses.mechanism import Coding, Mechanism
from jaxinv.defenses.training import Beginning, EdgeLayer, Training
from jaxinv.machine.numbers import widened
from jaxinv.networks import Params

_FEWER = 4  # times fewer channels

EXACT = 2.0**-18
"""Noise that is assumed at least: a quarter of the finest step there is."""

_WIDE = 2.0  # standard deviations between the middle of the sigmoid and a slope of a half or so


def _init(key: Array, beginning: Beginning) -> Params:
    features = beginning.features
    del key
    channels = features.shape[-1]
    kept = max(1, channels // _FEWER)
    rows = widened(features).reshape(-1, channels)
    mean = rows.mean(axis=0)
    apart = rows - mean[None]
    covariance = jnp.matmul(apart.T, apart, precision="highest") / len(rows)
    values, vectors = jnp.linalg.eigh(covariance)
    largest, directions = values[-kept:], vectors[:, -kept:]
    width = _WIDE * jnp.sqrt(jnp.maximum(largest, 1e-6 * jnp.maximum(largest[-1], 1e-6)))
    inward = directions / width[None]
    outward = directions * width[None]
    return {
        "inward": {"kernel": inward, "bias": -jnp.matmul(mean, inward)},
        # The slope of the sigmoid in its middle is a quarter.
        "outward": {
            "kernel": 4 * outward.T,
            "bias": mean - 2 * outward.sum(axis=1),
        },
    }


def _linear(params: Params, x: Array) -> Array:
    y = jnp.matmul(x, params["kernel"], precision="highest")
    return y + params["bias"].reshape(*(1,) * (x.ndim - 1), -1)


def _encode(params: Params, features: Array) -> Array:
    return jax.nn.sigmoid(_linear(params["inward"], features))


def _decode(params: Params, crossing: Array) -> Array:
    return _linear(params["outward"], crossing)


def within(x: Array) -> Array:
    """Returns values between 0 and 1, so that there are as few as a coding says; NaN is a half."""
    return jnp.where(jnp.isnan(x), 0.5, jnp.clip(x, 0, 1))


def slope_of(x: Array) -> Array:
    """Returns zero, with the gradient of `x`; where `x` is not finite, without one."""
    finite = jnp.where(jnp.isfinite(x), x, 0)
    return finite - jax.lax.stop_gradient(finite)


def _steps(level: Array) -> Array:
    return jnp.maximum(2.0**level - 1, 1)


def _apply(key: Array, x: Array, level: Array) -> Array:
    del key
    rounded = jnp.round(within(x) * _steps(level)) / _steps(level)
    rounded = jax.lax.stop_gradient(rounded) + slope_of(x)
    return jnp.where(level > 0, rounded, x)


def _residual(before: Array, clean: Array, observed: Array, level: Array) -> Array:
    """Returns the difference in standard deviations of a value spread evenly over its step."""
    del before
    noise = jnp.where(level > 0, 1 / _steps(level) / 12**0.5, 0)
    return (clean - observed) / jnp.maximum(noise, EXACT)


BOTTLENECK = Mechanism(
    "bottleneck",
    _apply,
    unit="bits of a value, of a quarter of the channels; 0 for all",
    source="Eshratifar et al. 2019, BottleNet",
    sweep=(0.0, 8.0, 4.0, 2.0, 1.0),
    random=False,
    below=17.0,
    whole=True,
    residual=_residual,
    noisy=True,
    coding=Coding(lambda count, level: count * level, lambda x, level: 1 / max(2**level - 1, 1)),
    training=Training(layer=EdgeLayer(_init, _encode, _decode, mixes="channels")),
)
