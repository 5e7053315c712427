"""Mechanisms, each by itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from behind import CLIP, IMAGES, PIXELS, apply, every_mechanism, normal

from jaxinv.defenses import (
    DROPOUT,
    GAUSSIAN,
    LAPLACE,
    PROJECT,
    PRUNE,
    QUANTIZE,
    SITES,
    clipped_gaussian,
    median_norm,
)
from jaxinv.networks import sequence


@every_mechanism
def test_level_zero_changes_nothing(mechanism):
    x = 3 * normal(6, 5, 2)
    np.testing.assert_array_equal(apply(mechanism, x, 0.0), x)
    np.testing.assert_array_equal(apply(mechanism, np.zeros(7, "f"), 0.0), np.zeros(7))


def test_gaussian_noise_has_its_level_as_deviation():
    x = normal(100, 100)
    noise = apply(GAUSSIAN, x, 0.7) - x
    assert np.std(noise) == pytest.approx(0.7, rel=0.03)
    assert np.mean(noise) == pytest.approx(0, abs=0.03)
    assert scipy.stats.kurtosis(noise.ravel()) == pytest.approx(0, abs=0.3)


def test_laplace_noise_has_its_level_as_scale():
    x = normal(100, 100)
    noise = apply(LAPLACE, x, 0.7) - x
    assert np.mean(np.abs(noise)) == pytest.approx(0.7, rel=0.04)
    assert np.std(noise) == pytest.approx(2**0.5 * 0.7, rel=0.04)
    assert np.median(noise) == pytest.approx(0, abs=0.03)


def test_dropout_drops_its_share_and_scales_nothing():
    x = 1 + np.abs(normal(100, 100))
    made = apply(DROPOUT, x, 0.3)
    assert (made == 0).mean() == pytest.approx(0.3, abs=0.02)
    np.testing.assert_array_equal(made[made != 0], x[made != 0])


@pytest.mark.parametrize("bits", [1, 2, 3, 8])
@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_quantised_values_are_few_and_near(bits, offset):
    x = 2 * normal(40, 50) + np.float32(offset)
    made = apply(QUANTIZE, x, bits)
    assert len(np.unique(made)) <= 2**bits
    assert len(np.unique(made)) > 0.4 * 2**bits
    width = (x.max() - x.min()) / (2**bits - 1)
    assert np.abs(made - x).max() <= width / 2 * (1 + 1e-4) + 1e-5
    assert made.min() == pytest.approx(x.min(), abs=1e-5)
    assert made.max() == pytest.approx(x.max(), abs=1e-5)


def test_quantising_lets_a_gradient_through_and_a_constant_alone():
    x = jnp.asarray(normal(9))
    gradient = jax.grad(lambda x: QUANTIZE.apply(jax.random.key(0), x, 2.0) @ jnp.arange(9.0))(x)
    np.testing.assert_allclose(gradient, np.arange(9.0), atol=1e-6)
    np.testing.assert_array_equal(apply(QUANTIZE, np.full(5, 0.3, "f"), 2), np.full(5, 0.3, "f"))


@pytest.mark.parametrize(
    ("share", "size", "kept"),
    [
        (0.5, 7, 4),
        (0.9, 1000, 100),
        (0.95, 100, 5),
        (0.98, 1024, 21),
        (0.2, 5, 4),
        (0.99, 30, 1),
        (0.001, 30, 30),
    ],
)
def test_pruning_keeps_the_largest(share, size, kept):
    x = normal(size)
    made = apply(PRUNE, x, share)
    largest = np.sort(np.argsort(-np.abs(x))[:kept])
    np.testing.assert_array_equal(np.flatnonzero(made), largest)
    np.testing.assert_array_equal(made[largest], x[largest])


@pytest.mark.parametrize(("share", "size", "kept"), [(0.5, 60, 30), (0.9, 100, 10), (0.75, 7, 2)])
def test_a_projection_is_orthogonal_and_of_its_rank(share, size, kept):
    matrix = np.stack([apply(PROJECT, row, share) for row in np.eye(size, dtype="f")])
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-5)
    np.testing.assert_allclose(matrix @ matrix, matrix, atol=1e-5)
    assert np.trace(matrix) == pytest.approx(kept, abs=1e-3)
    x = normal(size)
    np.testing.assert_allclose(apply(PROJECT, x, share), matrix @ x, atol=1e-5)
    assert np.linalg.norm(matrix @ x) < np.linalg.norm(x)
    assert np.abs(matrix - np.diag(np.diag(matrix))).max() > 0.1  # not a mask


def test_clipping_bounds_the_length_before_the_noise():
    x = normal(5000)
    short = 0.01 * x
    mild = apply(CLIP, x, 1e-6)
    np.testing.assert_allclose(mild, 2 * x / np.linalg.norm(x), atol=2e-5)
    np.testing.assert_allclose(apply(CLIP, short, 1e-6), short, atol=2e-5)
    noise = apply(CLIP, x, 0.1) - mild
    assert np.std(noise) == pytest.approx(0.1 * 2.0, rel=0.05)
    assert clipped_gaussian(2.0) is CLIP
    assert clipped_gaussian(3.0) != CLIP


@pytest.mark.parametrize("site", SITES)
def test_the_norm_to_clip_to_is_that_of_a_typical_example(site):
    edge = sequence([("double", lambda x: 2 * x)], (28, 28, 1), mean=(0.5,), std=(0.25,))
    x = PIXELS if site == "input" else 2 * PIXELS
    expected = np.median(np.linalg.norm(x.reshape(8, -1), axis=1))
    assert median_norm(edge, {}, IMAGES, site) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize("value", [300.0, 1e-5])
def test_half_precision_is_clipped_by_its_length_in_float32(dtype, value):
    x = jnp.full(1000, value, dtype)
    length = float(x[0]) * 1000**0.5
    clipped = apply(clipped_gaussian(length / 2), x, 1e-20)
    np.testing.assert_allclose(clipped, float(x[0]) / 2, rtol=0.01)
    edge = sequence([("same", lambda x: x.astype(dtype))], (10, 10, 1))
    norm = median_norm(edge, {}, np.full((3, 10, 10, 1), value, "f"), "feature")
    assert norm == pytest.approx(float(x[0]) * 10, rel=1e-3)


@every_mechanism
def test_zeros_stay_finite(mechanism):
    x = jnp.zeros((6, 5))
    level = 1.0 if mechanism.whole else 0.5
    assert np.isfinite(apply(mechanism, x, level)).all()
    if mechanism.residual is not None:
        residual = jax.jit(mechanism.residual)
        assert np.isfinite(residual(x, x, x, jnp.float32(level))).all()
        slope = jax.jit(jax.grad(lambda x: residual(x, x, x, jnp.float32(level)).sum()))
        assert np.isfinite(slope(x)).all()
