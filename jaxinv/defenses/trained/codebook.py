"""A codebook: the release is one of `2^level` codes, whatever the image, and training knows it.

The edge ends in a linear map of all features to a few values and a sigmoid, of which the first
`level` are rounded to 0 or 1, with the straight-through gradient (Bengio et al. 2013), and the
others are dropped. The cloud begins with a linear map back. So it receives `level` bits. Whoever
looks for one of M different images that are equally likely, with any attack and any knowledge,
finds at most a share `2^level / M` of them (`measures.bounds.counting`): no noise is needed for
that, and no number format undoes it.

The map begins with random hyperplanes (Charikar 2002), drawn with the covariance of the slopes of
the logits, and the map back with the least squares from the codes. Source: lookup-free quantization
(Yu et al. 2024), a codebook (van den Oord et al. 2017) without vectors.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import logit

from jaxinv.defenses.mechanism import Coding, Mechanism
from jaxinv.defenses.trained.bottleneck import EXACT, slope_of, within
from jaxinv.defenses.training import Beginning, EdgeLayer, Training
from jaxinv.machine.numbers import widened
from jaxinv.networks import Params

MOST_BITS = 16
"""Bits of a release, at most."""

_WIDE = 2.0  # standard deviation of what the sigmoid takes
_SOFT = 0.25  # how far on the other side the logit of a bit may be, one standard deviation
_LEAST = 1e-6  # share of a bit that its logit is taken of, from either end
_RIDGE = 1e-3  # of the variance of a value


def _init(key: Array, beginning: Beginning) -> Params:
    shape = beginning.features.shape
    rows = widened(beginning.features).reshape(len(beginning.features), -1)
    slopes = widened(beginning.slopes).reshape(rows.shape)
    mean = rows.mean(axis=0)
    drawn = jax.random.normal(key, (len(rows), MOST_BITS))
    planes = jnp.matmul(slopes.T, drawn, precision="highest")
    planes = planes / jnp.maximum(jnp.linalg.norm(planes, axis=0, keepdims=True), 1e-12)
    spread = jnp.matmul(rows - mean[None], planes, precision="highest").std(axis=0)
    planes = _WIDE * planes / jnp.maximum(spread, 1e-6)[None]
    inward = {"kernel": planes, "bias": -jnp.matmul(mean, planes, precision="highest")}
    level = jnp.broadcast_to(beginning.level, len(rows))
    codes = jax.vmap(partial(_apply, key))(_values(inward, rows), level)
    apart = codes - codes.mean(axis=0)[None]
    covariance = jnp.matmul(apart.T, apart, precision="highest") / len(rows)
    shared = jnp.matmul(apart.T, rows - mean[None], precision="highest") / len(rows)
    kernel = jnp.linalg.solve(covariance + _RIDGE * jnp.eye(MOST_BITS), shared)
    bias = mean - jnp.matmul(codes.mean(axis=0), kernel, precision="highest")
    return {
        "inward": inward,
        "outward": {
            "kernel": kernel.reshape(MOST_BITS, *shape[1:]),
            "bias": bias.reshape(shape[1:]),
        },
    }


def _values(params: Params, rows: Array) -> Array:
    logits = jnp.matmul(rows, params["kernel"], precision="highest") + params["bias"][None]
    return jax.nn.sigmoid(logits)


def _encode(params: Params, features: Array) -> Array:
    return _values(params["inward"], features.reshape(len(features), -1))


def _decode(params: Params, crossing: Array) -> Array:
    kernel, bias = params["outward"]["kernel"], params["outward"]["bias"]
    return jnp.tensordot(crossing, kernel, axes=1, precision="highest") + bias[None]


def _are_sent(x: Array, level: Array) -> Array:
    return jnp.arange(x.size).reshape(x.shape) < level


def _apply(key: Array, x: Array, level: Array) -> Array:
    del key
    bits = jnp.where(within(x) > 0.5, 1.0, 0.0)
    rounded = jax.lax.stop_gradient(bits) + slope_of(x)
    sent = jnp.where(_are_sent(x, level), rounded, 0.5)
    return jnp.where(level > 0, sent, x)


def _residual(before: Array, clean: Array, observed: Array, level: Array) -> Array:
    """Returns how far the logit of each bit lies on the side that was not observed, else 0."""
    del before
    logits = logit(jnp.clip(clean, _LEAST, 1 - _LEAST))
    beyond = jnp.maximum((1 - 2 * observed) * logits, 0)
    coded = jnp.where(_are_sent(clean, level), beyond / _SOFT, 0)
    return jnp.where(level > 0, coded, (clean - observed) / EXACT)


CODEBOOK = Mechanism(
    "codebook",
    _apply,
    unit="bits of a release; 0 for unrounded values",
    source="Yu et al. 2024, lookup-free quantization",
    sweep=(0.0, 16.0, 12.0, 8.0, 6.0, 4.0),
    random=False,
    below=MOST_BITS + 1.0,
    whole=True,
    residual=_residual,
    noisy=True,
    coding=Coding(min, lambda x, level: 1.0),
    training=Training(layer=EdgeLayer(_init, _encode, _decode)),
)
