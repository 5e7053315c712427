"""Predicted leakage: closed forms of affine edges, brute force, and what it must not depend on."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import blobs

from jaxinv.defenses import DROPOUT, GAUSSIAN, LAPLACE, MECHANISMS, NONE, PROJECT, Mechanism
from jaxinv.measures import leakage
from jaxinv.measures.leakage import Channel, Own, Prior, channel, statistics
from jaxinv.networks import sequence

SHAPE, SIZE = (4, 4, 1), 16
MATRIX = np.random.default_rng(0).normal(size=(SIZE, 6)).astype(np.float32)
IMAGES = blobs(60, (4, 4, 1))
LABELS = np.arange(60) % 3


def affine(matrix, **options):
    layer = ("mix", lambda x: x.reshape(len(x), -1) @ jnp.asarray(matrix))
    return sequence([layer], SHAPE, **options)


AFFINE = affine(MATRIX)
CURVED = sequence(
    [("conv", nn.Conv(3, (2, 2))), ("relu", nn.relu), ("out", nn.DenseGeneral(20, axis=(-3, -2)))],
    SHAPE,
    mean=(0.5,),
    std=(0.25,),
)
PARAMS = CURVED.init(jax.random.key(1))
OWN = Own.of(IMAGES, LABELS, jacobians=2)
COVARIANCE = np.cov(IMAGES.reshape(60, -1).T.astype(np.float64))


def measured(network, defense, params=None, own=OWN):
    return leakage.measure(network, params or {}, defense, own, jax.random.key(0))


def information(network, defense, params=None, reference=1e-3):
    """In pixels, `[D, D]`."""
    found = Channel(network, params or {}, defense, IMAGES, reference)
    u = OWN.prior.directions.astype(np.float64)
    return u @ found.information(0, jax.random.key(0), OWN.prior) @ u.T, found


# --- Closed forms -------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.3, 3.0])
def test_an_affine_edge_behind_noise_is_the_linear_gaussian_model(sigma):
    found = measured(AFFINE, GAUSSIAN.at("feature", sigma))
    features = IMAGES.reshape(60, -1) @ MATRIX
    noise = sigma**2 + leakage.REFERENCE**2 * features.var(axis=0).mean()
    fisher = MATRIX.astype(np.float64) @ MATRIX.T / noise
    gain = COVARIANCE @ MATRIX @ np.linalg.inv(MATRIX.T @ COVARIANCE @ MATRIX + noise * np.eye(6))
    left = COVARIANCE - gain @ MATRIX.T @ COVARIANCE  # of the best linear estimate
    assert found.posterior_psnr == pytest.approx(-10 * math.log10(left.trace() / SIZE), abs=1e-3)
    _, log_determinant = np.linalg.slogdet(np.eye(SIZE) + COVARIANCE @ fisher)
    bits = log_determinant / math.log(4)
    assert found.information_bits == pytest.approx(bits, rel=1e-4)
    assert found.directions == pytest.approx((gain @ MATRIX.T).trace(), rel=1e-4)
    assert found.fisher_trace == pytest.approx(math.log10(fisher.trace() / SIZE), abs=1e-5)
    centres = np.stack([features[label::3].mean(axis=0) for label in range(3)])
    radius = ((features - centres[LABELS]) ** 2).sum()
    assert found.class_radius == pytest.approx(math.sqrt(radius / 60 / noise), rel=1e-4)
    assert found.sent_bits == 8 * 4 * 6


def test_noise_at_the_input_hides_what_it_hides():
    network = affine(np.eye(SIZE, dtype=np.float32), mean=(0.5,), std=(0.25,))
    found, _ = information(network, GAUSSIAN.at("input", 0.8), reference=1e-4)
    np.testing.assert_allclose(found, np.eye(SIZE) / (0.8 * 0.25) ** 2, atol=1e-2)


def test_a_wide_output_tells_of_images_all_that_the_reference_noise_leaves():
    wide = affine(np.random.default_rng(1).normal(size=(SIZE, 40)).astype(np.float32))
    varied = np.random.default_rng(2).random((60, *SHAPE), np.float32)
    own = Own.of(varied, None, jacobians=1)
    found, few = (measured(network, NONE, own=own) for network in (wide, AFFINE))
    assert found.directions > 15.9 and few.directions == pytest.approx(6, abs=0.1)
    assert found.posterior_psnr > few.posterior_psnr + 10


@pytest.mark.parametrize(("values", "rank"), [([0, 0], 0), ([2, 2, 2, 0], 3), ([5], 1)])
def test_the_effective_rank_counts_equal_singular_values(values, rank):
    assert statistics.effective_rank(np.array(values, float)) == pytest.approx(rank)


def test_a_prior_of_few_images_spans_these():
    prior = Prior.of(IMAGES[:5])
    centred = IMAGES[:5].reshape(5, -1) - IMAGES[:5].reshape(5, -1).mean(axis=0)
    spanned = prior.directions * prior.deviations
    np.testing.assert_allclose(spanned @ spanned.T, centred.T @ centred / 4, atol=1e-6)
    identity = prior.directions.T @ prior.directions
    np.testing.assert_allclose(identity, np.eye(5), atol=1e-5)
    few = Prior.of(IMAGES, most=3)
    np.testing.assert_allclose(few.deviations, OWN.prior.deviations[:3], rtol=1e-6)
    assert OWN.prior.variance == pytest.approx(COVARIANCE.trace() / SIZE)


# --- Brute force --------------------------------------------------------------------------------


def slopes(network, params, image=IMAGES[0]):
    """The Jacobian `[M, D]`, by forward mode, apart from what is tested."""

    def run(pixels):
        return network.apply(params, pixels.reshape(1, *SHAPE)).ravel()

    return np.asarray(jax.jacfwd(run)(jnp.asarray(image.ravel())), np.float64)


@pytest.mark.parametrize("at_once", [7, 128])
def test_the_information_is_that_of_the_jacobian(at_once, monkeypatch):
    """By rows and by directions, however many are calculated at once."""
    monkeypatch.setattr(channel, "_AT_ONCE", at_once)
    for network, params in ((CURVED, PARAMS), (AFFINE, {})):
        jacobian = slopes(network, params)
        found, known = information(network, GAUSSIAN.at("feature", 0.5), params)
        expected = jacobian.T @ (jacobian / known.variance(0, jax.random.key(0))[:, None])
        np.testing.assert_allclose(found, expected, atol=1e-4 * expected.max())


def test_dropped_and_projected_values_tell_nothing():
    jacobian = slopes(AFFINE, {})
    found, known = information(AFFINE, DROPOUT.at("feature", 0.5))
    kept = known.released(jax.random.key(0))[0] != 0
    assert 0 < kept.sum() < 6
    expected = jacobian[kept].T @ jacobian[kept] / known.variance(0, jax.random.key(0))[0]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * expected.max())
    found, known = information(AFFINE, PROJECT.at("feature", 0.5))
    assert np.linalg.matrix_rank(found, tol=1e-3 * found.max(), hermitian=True) == 3


def test_noises_are_those_of_their_mechanisms():
    nothing = Channel(AFFINE, {}, NONE, IMAGES).variance(0, jax.random.key(0))

    def added(defense):
        return Channel(AFFINE, {}, defense, IMAGES).variance(0, jax.random.key(0)) - nothing

    features = IMAGES[0].ravel() @ MATRIX
    width = (features.max() - features.min()) / 3
    quantize = MECHANISMS["quantize"].at("feature", 2)
    np.testing.assert_allclose(added(quantize), width**2 / 12, rtol=1e-4)
    np.testing.assert_allclose(added(LAPLACE.at("feature", 2.0)), 4, rtol=1e-4)
    own = Mechanism(
        "own", lambda key, x, level: x + level * x * jax.random.normal(key, x.shape), random=True
    )
    assert added(own.at("feature", 0.5)).sum() == pytest.approx((features**2).sum() / 4, rel=0.5)
    both = added(GAUSSIAN.at("feature", 1.0) + LAPLACE.at("feature", 2.0))
    np.testing.assert_allclose(both, 5, rtol=1e-4)


# --- Invariances --------------------------------------------------------------------------------


def test_units_and_rotations_of_features_do_not_matter():
    rotation, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(6, 6)))
    plain = measured(AFFINE, GAUSSIAN.at("feature", 0.5))
    for other, sigma in ((8 * MATRIX, 4.0), (MATRIX @ rotation.astype(np.float32), 0.5)):
        found = measured(affine(other), GAUSSIAN.at("feature", sigma))
        np.testing.assert_allclose(found, plain, rtol=2e-3)


def test_statistics_are_means_over_images():
    defense = GAUSSIAN.at("feature", 0.5)
    both = measured(CURVED, defense, PARAMS)
    alone = [
        measured(CURVED, defense, PARAMS, OWN._replace(jacobians=1)),
        measured(
            CURVED,
            defense,
            PARAMS,
            OWN._replace(images=np.roll(IMAGES, -1, axis=0), labels=None, jacobians=1),
        ),
    ]
    np.testing.assert_allclose(both[:5], np.mean([each[:5] for each in alone], axis=0), rtol=1e-4)
    assert alone[1].class_radius is None


def test_more_noise_is_less_of_everything_but_of_the_rank():
    found = [measured(CURVED, GAUSSIAN.at("feature", s), PARAMS) for s in (0.0, 0.1, 1.0)]
    for name in ("posterior_psnr", "information_bits", "directions", "fisher_trace"):
        values = [getattr(each, name) for each in found]
        assert values == sorted(values, reverse=True) and values[0] > values[-1]
    assert found[0].effective_rank == pytest.approx(found[-1].effective_rank, rel=1e-4)
