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
_EXACT = 2.0**-18  # noise that is assumed at least: a quarter of the finest step there is
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


def _steps(level: Array) -> Array:
    return jnp.maximum(2.0**level - 1, 1)


def _apply(key: Array, x: Array, level: Array) -> Array:
    del key
    rounded = jnp.round(x * _steps(level)) / _steps(level)
    rounded = jax.lax.stop_gradient(rounded) + (x - jax.lax.stop_gradient(x))
    return jnp.where(level > 0, rounded, x)


def _residual(before: Array, clean: Array, observed: Array, level: Array) -> Array:
    """Returns the difference in standard deviations of a value spread evenly over its step."""
    del before
    noise = jnp.where(level > 0, 1 / _steps(level) / 12**0.5, 0)
    return (clean - observed) / jnp.maximum(noise, _EXACT)


def _symbols(y: Array, level: Array) -> Array:
    return jnp.round(y * _steps(level)).astype(jnp.int32)


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
    coding=Coding(_symbols, lambda level: level, lambda count, level: count * level),
    training=Training(layer=EdgeLayer(_init, _encode, _decode, mixes="channels")),
)
