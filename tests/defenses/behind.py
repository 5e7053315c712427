"""Mechanisms by themselves, and small edges behind them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.defenses import MECHANISMS, Release, clipped_gaussian
from jaxinv.networks import lenet5, sequence

LEVEL = 0.5
NETWORK = lenet5()
EDGE = NETWORK.split("pool1")[0]
PARAMS = jax.jit(NETWORK.init)(jax.random.key(0))
IMAGES = np.random.default_rng(0).random((8, 28, 28, 1)).astype("f")
CLIP = clipped_gaussian(2.0)
EVERY = [*MECHANISMS.values(), CLIP]

# An edge whose features are the pixels, normalised: a mean pixel is zero.
PLAIN = sequence([("same", lambda x: x)], (28, 28, 1), mean=(0.5,), std=(0.25,))
PIXELS = (IMAGES - 0.5) / 0.25

every_mechanism = pytest.mark.parametrize("mechanism", EVERY, ids=[each.name for each in EVERY])


def release(defense, *, edge=EDGE, images=IMAGES, seed=1, releases=1):
    return Release(edge, PARAMS, images, defense, jax.random.key(seed), releases=releases)


def released(defense, **options):
    """All of a release."""
    made = release(defense, **options)
    return made[np.arange(len(made))]


def apply(mechanism, x, level, seed=0):
    """A mechanism by itself, on one example."""
    made = jax.jit(mechanism.apply)(jax.random.key(seed), jnp.asarray(x), jnp.float32(level))
    assert made.shape == x.shape
    return np.asarray(made)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("f")
