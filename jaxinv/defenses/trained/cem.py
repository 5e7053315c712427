"""Conditional entropy maximisation (Xia et al. 2025): features of a class that lie close together.

Behind Gaussian noise of variance r the features tell of the input at most
`sum_d log(1 + v_d / r) / 2` nats beyond the class, where v_d is the variance of feature d within
its class: a Gaussian mixture with one component a class bounds the entropy of the release. Training
minimises the mean of the terms. Noise is that of the defense, as `cem+gaussian`; where there is
less of it, r is a hundredth of the features' variance, so that smaller features are no gain.
"""

import jax
import jax.numpy as jnp
from jax import Array

from jaxinv.defenses.mechanism import Mechanism, unchanged, unchanged_residual
from jaxinv.defenses.training import Lesson, Training
from jaxinv.machine.numbers import widened
from jaxinv.networks import Params

_LEAST = 0.01  # noise, in the mean variance of the features


def information(clean: Array, released: Array, labels: Array) -> Array:
    """Bounds what a release tells of the input beyond its class, in nats a feature.

    Variances of classes are pooled: by the concavity of the logarithm the bound is no smaller.

    Args:
      clean: features `[B, ...]`.
      released: of the same, `[B, ...]`.
      labels: `[B]`.
    """
    flat = widened(clean).reshape(len(clean), -1)
    noise = jnp.mean((widened(released).reshape(flat.shape) - flat) ** 2)
    total = jnp.mean((flat - flat.mean(axis=0, keepdims=True)) ** 2)
    same = (labels[:, None] == labels[None]).astype(jnp.float32)
    counts = same.sum(axis=1, keepdims=True)
    means = jnp.matmul(same / counts, flat, precision="highest")
    free = len(flat) - jnp.sum(1 / counts)  # images less the classes that are there
    within = jnp.sum((flat - means) ** 2, axis=0) / jnp.maximum(free, 1)
    least = jnp.maximum(jax.lax.stop_gradient(noise), _LEAST * total)
    return jnp.mean(jnp.log1p(within / jnp.maximum(least, 1e-12))) / 2


def _loss(lesson: Lesson, helpers: Params, level: Array) -> Array:
    del helpers
    return level * information(lesson.clean, lesson.released, lesson.labels)


CEM = Mechanism(
    "cem",
    unchanged,
    unit="weight of what features tell beyond the class, in nats a feature",
    source="Xia et al. 2025, conditional entropy maximisation",
    sweep=(0.0, 0.1, 0.3, 1.0, 3.0),
    random=False,
    residual=unchanged_residual,
    training=Training(_loss),
)
