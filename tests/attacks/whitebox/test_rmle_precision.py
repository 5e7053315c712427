"""Attacks on edges of half precision, and in 64-bit mode."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import blobs

from jaxinv.attacks.whitebox import rmle
from jaxinv.attacks.whitebox.map import ImagePrior
from jaxinv.attacks.whitebox.settings import map_settings, tv_settings
from jaxinv.defenses import NONE, Release
from jaxinv.measures import quality
from jaxinv.networks import sequence

IMAGES = blobs(2, (12, 12, 1), seed=1)


def network(size=1.0, dtype=None):
    layers = [("conv", nn.Conv(6, (3, 3), dtype=dtype)), ("relu", nn.relu)]
    return sequence([*layers, ("sized", lambda x: size * x)], (12, 12, 1), mean=0.5, std=0.5)


def attacked(made, settings, images=IMAGES):
    """Mean PSNR of an attack."""
    params = made.init(jax.random.key(0))
    seen = Release(made, params, images, NONE, jax.random.key(1))
    found = rmle.invert(made, params, seen, settings, chunk=2)
    assert found.images.dtype == np.float32
    return quality.evaluate(images, found.images).psnr.mean()


def first_order(made):
    return dataclasses.replace(tv_settings(made, "sized"), steps=60)


def second_order(made):
    del made
    return dataclasses.replace(map_settings(), steps=8, tv_weight=1e-3, prior_weight=0.0)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [first_order, second_order])
@pytest.mark.parametrize(
    ("dtype", "size"),
    [(jnp.bfloat16, 1.0), (jnp.float16, 300.0), (jnp.float16, 2e4), (jnp.float16, 1e-3)],
)
def test_half_precision_is_attacked_as_well(settings, dtype, size):
    """Above 60 dB images are the same at 8 bits, and the rounding of features limits an attack."""
    plain, half = network(size), network(size, dtype)
    wanted, found = (attacked(made, settings(made)) for made in (plain, half))
    assert min(found, 60) == pytest.approx(min(wanted, 60), abs=3)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_the_rounding_of_inputs_and_features_alone_limits_an_attack(dtype):
    """An edge of float32 whose inputs and features are rounded tells as little."""

    def rounded(x):
        return np.asarray(jnp.asarray(x, dtype).astype(jnp.float32))

    plain, half = (network(dtype=each).split("conv")[0] for each in (None, dtype))
    params = plain.init(jax.random.key(0))
    inputs = plain.denormalize(rounded(plain.normalize(IMAGES)))
    limit = rounded(jax.jit(plain.apply)(params, inputs))
    settings = dataclasses.replace(second_order(plain), steps=20, tv_weight=1e-8)
    wanted, found = (
        quality.evaluate(IMAGES, rmle.invert(edge, params, seen, settings, chunk=2).images).psnr
        for edge, seen in ((plain, limit), (half, np.asarray(jax.jit(half.apply)(params, IMAGES))))
    )
    assert wanted.mean() > 60
    assert found.mean() > wanted.mean() - 2.5


@pytest.mark.slow
@pytest.mark.parametrize("settings", [first_order, second_order])
def test_64_bits_find_the_same(settings):
    made = network()
    wanted = attacked(made, settings(made))
    with jax.enable_x64(True):
        made = network()
        assert attacked(made, settings(made), IMAGES.astype(np.float64)) == pytest.approx(
            wanted, abs=0.5
        )


def test_images_that_are_all_the_same_have_a_prior():
    size = 144
    prior = ImagePrior(np.zeros((12, 12, 1), "f"), np.zeros((1, size, size)), np.eye(size)[None])
    errors = IMAGES - IMAGES.mean(axis=0)
    for found in (prior.of_images, prior.of_errors(errors)):
        assert all(np.isfinite(part).all() for part in found)


def test_features_that_are_all_zero_leave_finite_images():
    made = sequence([("dead", lambda x: nn.relu(x - 9))], (12, 12, 1))
    for settings in (first_order, second_order):
        assert np.isfinite(attacked(made, settings(network())))
