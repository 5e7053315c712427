"""Learned noise (Mireshghallah et al. 2020, Shredder; 2021, Cloak): a scale for each feature.

The edge stays as it is. Scales grow where the cloud does not miss the feature: the loss is
`CE - level * log(mean scale)`, with scales in standard deviations of the features (Cloak). Noise is
drawn anew for each release; a fixed set of tensors, as Shredder stores them, could be subtracted.
"""

import dataclasses

import jax.numpy as jnp
from jax import Array

from jaxinv.defenses.trained.scaled import LAYER, UNIT_GAUSSIAN, scale
from jaxinv.defenses.training import FIXED, Lesson, Training
from jaxinv.networks import Params


def _loss(lesson: Lesson, helpers: Params, level: Array) -> Array:
    del helpers
    return -level * jnp.log(scale(lesson.layer).mean() / lesson.layer[FIXED]["unit"])


CLOAK = dataclasses.replace(
    UNIT_GAUSSIAN,
    name="cloak",
    training=Training(_loss, layer=LAYER, part="cloud"),
    unit="weight of the logarithm of the mean scale of the noise",
    source="Mireshghallah et al. 2021, Cloak",
    sweep=(0.0, 0.03, 0.1, 0.3, 1.0),
)
