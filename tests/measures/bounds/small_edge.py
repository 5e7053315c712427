"""A small edge, images for it, and its Jacobian by another way."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxinv.networks import max_pool, sequence

SHAPE = (12, 12, 1)
SIZE = math.prod(SHAPE)
EDGE = sequence(
    [
        ("conv1", nn.Conv(4, (3, 3), padding="VALID")),
        ("relu1", nn.relu),
        ("pool1", max_pool),
        ("conv2", nn.Conv(6, (3, 3), padding="VALID")),
        ("relu2", nn.relu),
    ],
    SHAPE,
    mean=(0.4,),
    std=(0.5,),
)
PARAMS = EDGE.init(jax.random.key(0))
AFFINE = EDGE.split("conv1")[0]


def blobs(count, seed=0):
    """Smooth random images in unit space."""
    small = np.random.default_rng(seed).uniform(size=(count, 4, 4, 1)).astype(np.float32)
    return np.asarray(jax.image.resize(small, (count, *SHAPE), "linear"))


IMAGES = blobs(12)


def features_of(network, images):
    return np.asarray(jax.jit(network.apply)(PARAMS, images))


def jacobian(network, image, params=PARAMS):
    """By forward mode, apart from what is tested."""
    flat = jnp.asarray(image.ravel())

    def run(pixels):
        return network.apply(params, pixels.reshape(1, *network.input_shape)).ravel()

    return np.asarray(jax.jacrev(run)(flat), np.float64)
