"""Dynamic channel pruning (Singh et al. 2021, DISCO): which channels cross is chosen by the image.

A small network scores the channels by their means, and those of the lowest scores are set to zero.
It is trained, with straight-through gradients, for a cloud that classifies and against a decoder
that reconstructs: `CE - R`, where R is the decoder's error as `adversarial` has it. The level is
the share of pruned channels.
"""

import jax
import jax.numpy as jnp
from jax import Array

from jaxinv.defenses.mechanism import Mechanism, unchanged
from jaxinv.defenses.trained.decoder import DECODER, gain
from jaxinv.defenses.training import FIXED, Beginning, EdgeLayer, Lesson, Training
from jaxinv.machine.numbers import widened
from jaxinv.networks import Params


def _init(key: Array, beginning: Beginning) -> Params:
    features, level = beginning.features, beginning.level
    channels = features.shape[-1]
    rows = widened(features).reshape(-1, channels)
    spread = jnp.maximum(rows.std(), 1e-6) if len(features) > 1 else jnp.float32(1)
    weights = jax.random.normal(key, (channels, channels)) / channels**0.5
    fixed = {"share": level, "spread": spread}
    return {"weights": weights, "bias": jnp.zeros(channels), FIXED: fixed}


def mask(params: Params, features: Array) -> Array:
    """Returns which channels cross, 1 or 0: `[N, 1, ..., channels]`, differentiable."""
    own = params[FIXED]
    channels = features.shape[-1]
    means = features.reshape(len(features), -1, channels).mean(axis=1) / own["spread"]
    scores = jnp.matmul(means, params["weights"], precision="highest") + params["bias"][None]
    pruned = jnp.floor(own["share"] * channels + 1e-4)
    ranks = scores.argsort(axis=1).argsort(axis=1)
    hard = (ranks >= pruned).astype(jnp.float32)
    soft = jax.nn.sigmoid(scores)
    kept = jax.lax.stop_gradient(hard - soft) + soft
    return kept.reshape(len(features), *(1,) * (features.ndim - 2), channels)


def _encode(params: Params, features: Array) -> Array:
    return features * mask(params, features)


def _decode(params: Params, crossing: Array) -> Array:
    del params
    return crossing


def _residual(before: Array, clean: Array, observed: Array, level: Array) -> Array:
    """Returns the difference: the mask, not a rectifier, makes zeros."""
    del before, level
    return clean - observed


def _loss(lesson: Lesson, helpers: Params, level: Array) -> Array:
    return jnp.where(level > 0, gain(lesson, helpers), 0)


DISCO = Mechanism(
    "disco",
    unchanged,
    unit="share of the channels that are pruned",
    source="Singh et al. 2021, DISCO",
    sweep=(0.0, 0.25, 0.5, 0.75),
    random=False,
    below=1.0,
    residual=_residual,
    training=Training(_loss, DECODER, EdgeLayer(_init, _encode, _decode, mixes="channels")),
)
