"""A fixed random projection (subsampled randomised cosine transform)."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxinv.defenses.mechanism import Mechanism
from jaxinv.defenses.mechanisms.prune import kept


def _project(x: Array, level: Array) -> Array:
    """Flips signs, keeps some frequencies, and transforms back: the same for every example."""
    rng = np.random.default_rng(x.size)
    signs = rng.choice([-1.0, 1.0], x.size).astype(np.float32)
    rank = rng.permutation(x.size)
    spectrum = jax.scipy.fft.dct(x.ravel() * signs, norm="ortho")
    spectrum = jnp.where(rank < kept(level, x.size), spectrum, 0)
    projected = (jax.scipy.fft.idct(spectrum, norm="ortho") * signs).reshape(x.shape)
    return jnp.where(level > 0, projected, x)


def _apply(key: Array, x: Array, level: Array) -> Array:
    del key
    return _project(x, level)


def _residual(before: Array, clean: Array, observed: Array, level: Array) -> Array:
    del before
    return _project(clean, level) - observed


PROJECT = Mechanism(
    "project",
    _apply,
    unit="share of dimensions removed by a fixed random projection",
    source="subsampled randomised cosine transform",
    sweep=(0.0, 0.5, 0.75, 0.9, 0.95),
    random=False,
    below=1.0,
    residual=_residual,
)
