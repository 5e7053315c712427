"""Variational information bottleneck (Alemi et al. 2017): noise and features learned together.

The release is `N(f, s^2)` with a scale s of each feature. What it tells of the input is at most its
mean divergence from any fixed distribution `r(z)`, here a Gaussian that is learned with it. The
loss is `CE + level * KL(release || r)`, in nats.
"""

import dataclasses

import jax.numpy as jnp
from jax import Array

from jaxinv.defenses.trained.scaled import GAIN, LAYER, UNIT_GAUSSIAN
from jaxinv.defenses.training import Helpers, Lesson, Shapes, Training
from jaxinv.machine.numbers import widened
from jaxinv.networks import Params


def _init(key: Array, shapes: Shapes) -> Params:
    del key
    zeros = jnp.zeros(shapes.features, jnp.float32)
    return {"mean": zeros, "log_scale": zeros}


def divergence(lesson: Lesson, params: Params) -> Array:
    """Computes the mean divergence of the release from a Gaussian, in nats.

    Args:
      lesson: whose clean features are in scales of the noise.
      params: of the Gaussian: `mean` and `log_scale`, in the same.
    """
    clean = widened(lesson.clean)
    mean, log_scale = GAIN * params["mean"][None], GAIN * params["log_scale"][None]
    each = (1 + (clean - mean) ** 2) * jnp.exp(-2 * log_scale) - 1 + 2 * log_scale
    return each.reshape(len(clean), -1).sum(axis=1).mean() / 2


def _loss(lesson: Lesson, helpers: Params, level: Array) -> Array:
    return level * divergence(lesson, helpers)


VIB = dataclasses.replace(
    UNIT_GAUSSIAN,
    name="vib",
    training=Training(_loss, Helpers(_init, divergence), LAYER),
    unit="weight of what the release tells of the input, in nats",
    source="Alemi et al. 2017, variational information bottleneck",
    sweep=(0.0, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2),
)
