"""Gaussian noise shaped between what features tell of the input and what the cloud needs of them.

A is the covariance of the features, B the mean square of the slopes of the cloud's logits. Noise of
covariance S changes logits by `tr(B S)`, squared. A release of Gaussian features tells of the input
at most `log det(1 + A / S) / 2` nats. The noise minimises half the first plus the second times the
level. Where T diagonalises both, `T' B T = 1` and `inv(T) A inv(T)' = diag(c)`, the minimum is
`S = T diag(s) T'` with `s = (sqrt(c^2 + 4 level c) - c) / 2`: water-filling, by directions.

The edge ends in `diag(s)^(-1/2) inv(T)`, unit noise is added, and the cloud, which is trained on
behind it, undoes the map. The noise that whitens is exact, so that its likelihood and bounds are
those of `gaussian`.
"""

import dataclasses

import jax.numpy as jnp
from jax import Array

from jaxinv.defenses.trained.scaled import UNIT_GAUSSIAN
from jaxinv.defenses.training import FIXED, Beginning, EdgeLayer, Training
from jaxinv.machine.numbers import widened
from jaxinv.networks import Params

_LEAST = 1e-3  # eigenvalue of B beside the mean one: what 2,000 slopes do not tell is not infinite
_TOLD = 1e-5  # eigenvalue of what is told beside the largest: float32 does not tell it from none


def water_filled(features: Array, slopes: Array, level: Array) -> tuple[Array, Array]:
    """Returns the map that whitens the noise, and its inverse: `[F, F]` each, of rows.

    Args:
      features: `[N, F]`.
      slopes: `[N, F]`, of logits by the features.
      level: half of the squared change of logits that a nat of what a release tells is worth.
    """
    apart = features - features.mean(axis=0, keepdims=True)
    known = _mean_square(apart)
    needed, directions = jnp.linalg.eigh(_mean_square(slopes))
    needed = needed + _LEAST * jnp.maximum(needed.mean(), 1e-20)
    root = jnp.sqrt(needed)[None]
    inner = jnp.matmul(directions.T, jnp.matmul(known, directions, precision="highest"))
    values, turned = jnp.linalg.eigh(root.T * inner * root)
    # More noise than is needed, rather than none, where it is not told how much.
    values = jnp.maximum(values, jnp.maximum(_TOLD * values[-1], 1e-20))
    # As the formula above, without the difference of nearly equal numbers.
    noise = 2 * level * values / (jnp.sqrt(values**2 + 4 * level * values) + values)
    scale = jnp.where(level > 0, jnp.sqrt(noise), 1)[None]
    forth = jnp.matmul(directions * root, turned, precision="highest") / scale
    back = jnp.matmul(scale.T * turned.T, (directions / root).T, precision="highest")
    return forth, back


def _mean_square(rows: Array) -> Array:
    return jnp.matmul(rows.T, rows, precision="highest") / len(rows)


def _init(key: Array, beginning: Beginning) -> Params:
    del key
    features, slopes = (
        widened(each).reshape(len(each), -1) for each in (beginning.features, beginning.slopes)
    )
    forth, back = water_filled(features, slopes, beginning.level)
    return {FIXED: {"forth": forth, "back": back}}


def _encode(params: Params, features: Array) -> Array:
    flat = features.reshape(len(features), -1)
    crossing = jnp.matmul(flat, params[FIXED]["forth"], precision="highest")
    return crossing.reshape(features.shape)


def _decode(params: Params, crossing: Array) -> Array:
    flat = crossing.reshape(len(crossing), -1)
    return jnp.matmul(flat, params[FIXED]["back"], precision="highest").reshape(crossing.shape)


SHAPED = dataclasses.replace(
    UNIT_GAUSSIAN,
    name="shaped",
    training=Training(layer=EdgeLayer(_init, _encode, _decode, mixes="values"), part="cloud"),
    unit="half the squared change of logits that a nat of what the release tells is worth",
    source="water-filling; see jaxinv/defenses/trained/shaped.py",
    sweep=(0.0, 0.1, 1.0, 10.0, 100.0),
)
