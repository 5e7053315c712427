"""BiDO (Peng et al. 2022): features that depend on the input little, and on the class much.

Dependence is the Hilbert-Schmidt independence criterion, normalised to [0, 1]. The loss is
`CE + level * (HSIC(x, z) - 10 * HSIC(y, z))`; the ratio is that of the paper's MNIST settings.
"""

import jax
import jax.numpy as jnp
from jax import Array

from jaxinv.defenses.mechanism import Mechanism, unchanged, unchanged_residual
from jaxinv.defenses.training import Lesson, Training
from jaxinv.machine.numbers import widened
from jaxinv.networks import Params

_OF_CLASS = 10.0


def dependence(x: Array, z: Array) -> Array:
    """Computes the normalised Hilbert-Schmidt independence criterion of two batches, in [0, 1].

    Kernels are Gaussian, as wide as rows are apart on average (Gretton et al. 2005).

    Args:
      x: `[B, ...]`.
      z: `[B, ...]`.
    """
    a, b = _centred_kernel(x), _centred_kernel(z)
    return jnp.sum(a * b) / jnp.sqrt(jnp.sum(a * a) * jnp.sum(b * b) + 1e-12)


def _centred_kernel(x: Array) -> Array:
    flat = widened(x).reshape(len(x), -1)
    flat -= flat.mean(axis=0, keepdims=True)
    squares = jnp.sum(flat**2, axis=1)
    products = jnp.matmul(flat, flat.T, precision="highest")
    squared = jnp.maximum(squares[:, None] + squares[None] - 2 * products, 0)
    width = jax.lax.stop_gradient(squared.mean())
    kernel = jnp.exp(-squared / jnp.where(width > 0, width, 1))
    rows, columns = kernel.mean(axis=0, keepdims=True), kernel.mean(axis=1, keepdims=True)
    return kernel - rows - columns + kernel.mean()


def _loss(lesson: Lesson, helpers: Params, level: Array) -> Array:
    del helpers
    classes = (lesson.labels[:, None] == lesson.labels[None]).astype(jnp.float32)
    told = dependence(lesson.images, lesson.released)
    return level * (told - _OF_CLASS * dependence(classes, lesson.released))


BIDO = Mechanism(
    "bido",
    unchanged,
    unit="weight of the dependence of input and features; ten times that of class and features",
    source="Peng et al. 2022, BiDO",
    sweep=(0.0, 0.1, 0.3, 1.0, 3.0),
    random=False,
    residual=unchanged_residual,
    training=Training(_loss),
)
