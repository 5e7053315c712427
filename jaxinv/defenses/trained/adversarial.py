"""Adversarial reconstruction training (Li et al. 2022, ResSFL): a decoder is trained to fail.

The decoder minimises its reconstruction error R; edge and cloud minimise `CE - level * R`. ResSFL
stops at a threshold of quality, so that the edge gains nothing from images that are worse than the
attacker's guess: here at the error of the mean image.
"""

from jax import Array

from jaxinv.defenses.mechanism import Mechanism, unchanged, unchanged_residual
from jaxinv.defenses.trained.decoder import DECODER, gain
from jaxinv.defenses.training import Lesson, Training
from jaxinv.networks import Params


def _loss(lesson: Lesson, helpers: Params, level: Array) -> Array:
    return level * gain(lesson, helpers)


ADVERSARIAL = Mechanism(
    "adversarial",
    unchanged,
    unit="weight of what a decoder gains on the mean image, as a share of the images' variance",
    source="Li et al. 2022, ResSFL",
    sweep=(0.0, 0.3, 1.0, 3.0, 10.0),
    random=False,
    residual=unchanged_residual,
    training=Training(_loss, DECODER),
)
