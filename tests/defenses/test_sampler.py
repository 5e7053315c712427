"""Noise against double precision, and the grid that releases are rounded to."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from behind import CLIP, apply, normal

from jaxinv.defenses import GAUSSIAN, LAPLACE, sampler

NOISY = pytest.mark.parametrize("mechanism", [GAUSSIAN, LAPLACE, CLIP], ids=lambda each: each.name)
COUNT = 500_001


@partial(jax.jit, static_argnums=(0, 2))
def draw(sample, key, shape):
    return sample(key, shape)


def exponential(high, low):
    """Computes `-log(u)` in double precision."""
    upper = high >> 31 > 0
    high, low = np.where(upper, ~high, high), np.where(upper, ~low, low)
    less = (high.astype(float) * 2**32 + low.astype(float) + 0.5) * 2.0**-64
    return np.where(upper, -np.log1p(-less), -np.log(less))


def test_normal_noise_is_the_exact_function_of_its_bits():
    """Rounding a level, a norm and a product take three of the units that `ERROR` allows."""
    bits = jax.random.bits(jax.random.key(0), (3, (COUNT + 1) // 2), jnp.uint32)
    high, low, turn = np.asarray(bits)
    radius = np.sqrt(2 * exponential(high, low))
    angle = ((turn >> 3) + 0.5) * (math.pi / 4 * 2.0**-29)
    near = np.where(turn & 1, -1, 1) * np.cos(angle)
    far = np.where(turn & 2, -1, 1) * np.sin(angle)
    swapped = turn & 4 > 0
    first, second = np.where(swapped, far, near), np.where(swapped, near, far)
    exact = np.concatenate([radius * first, radius * second])
    found = np.asarray(draw(sampler.normal, jax.random.key(0), (COUNT,)))
    assert found.dtype == np.float32
    missed = np.abs(found - exact[:COUNT]) / np.concatenate([radius, radius])[:COUNT]
    assert missed.max() <= sampler.ERROR - 3 * 2.0**-24


def test_laplace_noise_is_the_exact_function_of_its_bits():
    bits = jax.random.bits(jax.random.key(0), (2, COUNT), jnp.uint32)
    high, low = np.asarray(bits)
    exact = np.where(low & 1, -1, 1) * exponential(high, low)
    found = np.asarray(draw(sampler.laplace, jax.random.key(0), (COUNT,)))
    assert found.dtype == np.float32
    assert (np.abs(found / exact - 1)).max() <= sampler.ERROR - 3 * 2.0**-24


@pytest.mark.parametrize("words", [(0, 0), (0, 1), (2**32 - 1, 2**32 - 1), (2**31, 0)])
def test_the_rarest_bits_are_precise_and_finite(words):
    high, low = (np.array([word], np.uint32) for word in words)
    found = np.asarray(sampler._exponential(jnp.asarray(high), jnp.asarray(low)))
    np.testing.assert_allclose(found, exponential(high, low), rtol=4e-7)
    assert 0 < found[0] < 46


@pytest.mark.parametrize(
    ("sample", "law"), [(sampler.normal, scipy.stats.norm), (sampler.laplace, scipy.stats.laplace)]
)
def test_noise_has_its_law(sample, law):
    found = np.asarray(draw(sample, jax.random.key(3), (300, 301)), float)
    assert scipy.stats.kstest(found.ravel(), law.cdf).pvalue > 1e-3
    assert np.abs(np.corrcoef(found[:, :150].ravel(), found[:, 150:300].ravel())[0, 1]) < 0.02
    assert len(np.unique(found)) > 0.98 * found.size  # jax.random.normal repeats one in 60
    pair = np.asarray(draw(sampler.normal, jax.random.key(4), (2, 20_000)), float)
    assert scipy.stats.kstest(np.arctan2(*pair), "uniform", (-np.pi, 2 * np.pi)).pvalue > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 5, 7), (2, 2)])
@pytest.mark.parametrize("sample", [sampler.normal, sampler.laplace])
def test_noise_takes_any_shape_and_is_single_precision(sample, shape):
    found = draw(sample, jax.random.key(0), shape)
    assert found.shape == shape and found.dtype == jnp.float32
    each = jax.vmap(lambda key: sample(key, shape))(jax.random.split(jax.random.key(1), 3))
    alone = sample(jax.random.split(jax.random.key(1), 3)[1], shape)
    np.testing.assert_allclose(each[1], alone, rtol=1e-6)


def test_noise_is_the_same_where_double_precision_is_on():
    found = draw(sampler.normal, jax.random.key(0), (5,))
    with jax.enable_x64(True):
        wide = sampler.normal(jax.random.key(0), (5,))
        assert wide.dtype == jnp.float32
        np.testing.assert_allclose(wide, found, rtol=1e-6)


def test_the_grid_is_an_exact_power_of_two_near_its_share_of_the_scale():
    rng = np.random.default_rng(0)
    scales = np.exp(rng.uniform(np.log(2e-36), np.log(3e38), 20_000)).astype("f")
    scales = np.concatenate([scales, np.float32([1, 1.5, 2, 0.75, 65.75, 64, 3.4e38])])
    for found in (jax.jit(sampler.grid)(scales), jax.vmap(sampler.grid)(scales)):
        mantissa, _ = np.frexp(np.asarray(found, float))
        np.testing.assert_array_equal(mantissa, 0.5)
        steps = scales.astype(float) / np.asarray(found, float)
        assert steps.min() >= sampler.STEPS * 0.75 and steps.max() <= sampler.STEPS * 1.5
    for tiny in (0.0, 1e-45, 1e-38, 1e-36):
        assert float(sampler.grid(np.float32(tiny))) == 2.0**-126


@NOISY
@pytest.mark.parametrize("level", [1e-30, 0.003, 0.7, 65.75, 1e30])
def test_a_release_is_on_the_grid_that_its_record_tells(mechanism, level):
    x = 5 * normal(7, 9)
    made = apply(mechanism, x, level)
    step = mechanism.at("feature", level).describe()["grid"]
    multiples = made.astype(float) / step
    np.testing.assert_array_equal(multiples, np.round(multiples))
    assert np.isfinite(made).all() and not np.signbit(made[made == 0]).any()


def test_a_record_tells_the_grid_of_each_step():
    assert GAUSSIAN.at("feature", 2.0).describe()["grid"] == 2.0 / 64
    assert "grid" not in GAUSSIAN.at("feature", 0.0).describe()
    both = LAPLACE.at("input", 0.0) + GAUSSIAN.at("feature", 1.0)
    assert both.describe()["grid"] == [None, 1 / 64]


@NOISY
@pytest.mark.parametrize("kind", [jnp.float16, jnp.bfloat16])
def test_features_of_16_bits_share_one_grid(mechanism, kind):
    """Their own numbers are a grid that depends on the feature: the release is float32."""
    x = jnp.asarray(100 * normal(9, 5), kind)
    made = jax.jit(mechanism.apply)(jax.random.key(0), x, jnp.float32(0.1))
    assert made.dtype == jnp.float32
    multiples = np.asarray(made, float) / mechanism.at("feature", 0.1).describe()["grid"]
    np.testing.assert_array_equal(multiples, np.round(multiples))
    kept = jax.jit(mechanism.apply)(jax.random.key(0), x, jnp.float32(0))
    np.testing.assert_array_equal(kept, x.astype(jnp.float32))


def test_rounding_hands_the_gradient_on():
    def released(x):
        return GAUSSIAN.apply(jax.random.key(0), x, jnp.float32(0.5)) @ jnp.arange(9.0)

    np.testing.assert_array_equal(jax.grad(released)(jnp.asarray(normal(9))), np.arange(9.0))


def test_what_is_not_finite_stays_so_and_what_is_large_is_not_changed():
    x = np.array([np.inf, -np.inf, np.nan, 3e38], "f")
    np.testing.assert_array_equal(apply(GAUSSIAN, x, 1e-20), x)
