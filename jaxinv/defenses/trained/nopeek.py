"""NoPeek (Vepakomma et al. 2020): training that lowers the distance correlation of features."""

import jax
import jax.numpy as jnp
from jax import Array

from jaxinv.defenses.mechanism import Mechanism, unchanged, unchanged_residual
from jaxinv.defenses.training import Lesson, Training
from jaxinv.machine.numbers import widened
from jaxinv.networks import Params


def distance_correlation(images: Array, features: Array) -> Array:
    """Computes the distance correlation of images and features, in [0, 1] (Szekely et al. 2007).

    Args:
      images: `[B, ...]`.
      features: `[B, ...]`.
    """
    a, b = _centred_distances(images), _centred_distances(features)
    covariance = jnp.maximum(jnp.mean(a * b), 0)
    variances = jnp.mean(a * a) * jnp.mean(b * b)
    return jnp.sqrt(covariance / jnp.sqrt(variances + 1e-12) + 1e-12)


def _centred_distances(x: Array) -> Array:
    """Computes the distances between rows, `[B, B]`, with means of rows and columns removed."""
    flat = widened(x).reshape(len(x), -1)
    flat -= flat.mean(axis=0, keepdims=True)
    # Of one size, whatever that of the features: the correlation does not depend on it.
    largest = jax.lax.stop_gradient(jnp.abs(flat).max())
    flat /= jnp.where(largest > 0, largest, 1)
    squares = jnp.sum(flat**2, axis=1)
    products = jnp.matmul(flat, flat.T, precision="highest")
    squared = squares[:, None] + squares[None] - 2 * products
    distance = jnp.sqrt(jnp.maximum(squared, 0) + 1e-8)
    rows, columns = distance.mean(axis=0, keepdims=True), distance.mean(axis=1, keepdims=True)
    return distance - rows - columns + distance.mean()


def _loss(lesson: Lesson, helpers: Params, level: Array) -> Array:
    del helpers
    return level * distance_correlation(lesson.images, lesson.released)


NOPEEK = Mechanism(
    "nopeek",
    unchanged,
    unit="weight of the distance correlation in the loss of training",
    source="Vepakomma et al. 2020, NoPeek",
    sweep=(0.0, 0.5, 1.0, 2.0, 5.0),
    random=False,
    residual=unchanged_residual,
    training=Training(_loss),
)
