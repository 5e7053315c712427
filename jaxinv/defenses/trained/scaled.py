"""Gaussian noise whose scale is learned for each feature, as unit noise behind a learned scale.

The edge divides each feature by a scale of its own, unit noise is added, and the cloud multiplies
it back: the same as noise of that scale on the feature. All that is known of Gaussian noise, exact
sampling, likelihood and bounds, holds as it is, for the scales are a public layer of the edge.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxinv.defenses.mechanisms.noise import GAUSSIAN, gaussian_log_likelihood
from jaxinv.defenses.training import FIXED, Beginning, EdgeLayer
from jaxinv.networks import Params

GAIN = 10.0
"""Factor of a learned logarithm: Adam moves a parameter by its rate at most, in each step."""

_BEGIN = 0.1  # scale of the noise where training begins, in standard deviations of the features


def scale(params: Params) -> Array:
    """Returns the scale of the noise on each feature."""
    return params[FIXED]["unit"] * jnp.exp(GAIN * params["log_scale"])


def _init(key: Array, beginning: Beginning) -> Params:
    features = beginning.features
    del key
    spread = jnp.maximum(features.std(), 1e-6) if len(features) > 1 else jnp.float32(1)
    zeros = jnp.zeros(features.shape[1:], jnp.float32)
    return {FIXED: {"unit": _BEGIN * spread}, "log_scale": zeros}


def _encode(params: Params, features: Array) -> Array:
    return features / scale(params)[None]


def _decode(params: Params, crossing: Array) -> Array:
    return crossing * scale(params)[None]


LAYER = EdgeLayer(_init, _encode, _decode)


def _one(level: Array) -> Array:
    """Returns the scale of the noise behind the layer: 1, at level 0 none.

    Combined releases have less, as `_combined` spells it.
    """
    return jnp.where(level > 0, 1.0, -level)


def _combined(level: Any, count: int) -> Any:
    """Returns, for several combined releases, the scale of their noise as a number below 0."""
    return level if count == 1 or level == 0 else -(count**-0.5)


def _apply(key: Array, x: Array, level: Array) -> Array:
    return GAUSSIAN.apply(key, x, _one(level))


def _residual(before: Array, clean: Array, observed: Array, level: Array) -> Array:
    assert GAUSSIAN.residual is not None
    return GAUSSIAN.residual(before, clean, observed, _one(level))


def _log_likelihood(clean: Array, observed: Array, level: Array) -> Array:
    return gaussian_log_likelihood(clean, observed, _one(level))


UNIT_GAUSSIAN = dataclasses.replace(
    GAUSSIAN,
    name="unit_gaussian",
    apply=_apply,
    residual=_residual,
    log_likelihood=_log_likelihood,
    combined=_combined,
    noise_scale=lambda level: (level > 0) * 1.0,
)
"""Gaussian noise of scale 1 at any level above 0, behind a layer that scales; for `replace`."""
