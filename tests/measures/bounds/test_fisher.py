"""Fisher information: calculated and sampled spectra."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_edge import EDGE, IMAGES, PARAMS, SHAPE, SIZE, jacobian

from jaxinv.measures import bounds
from jaxinv.measures.bounds import fisher, spectra
from jaxinv.networks import sequence


@pytest.mark.slow
def test_spectra_are_those_of_the_jacobian(known):
    for values, image in zip(known.at.values, IMAGES, strict=False):
        expected = np.linalg.svd(jacobian(EDGE, image), compute_uv=False) ** 2
        found = np.sort(values)[::-1][: len(expected)]
        np.testing.assert_allclose(found, expected[: len(found)], atol=1e-4 * expected[0])
    np.testing.assert_allclose(known.at.weights.sum(axis=1), 1)


def test_products_are_not_rounded_more_than_they_must_be():
    asked = []

    def spy(x):
        asked.append(jax.config.jax_default_matmul_precision)
        return x

    network = sequence([("conv", nn.Conv(1, (3, 3))), ("spy", spy)], (4, 4, 1))
    params = network.init(jax.random.key(0))
    asked.clear()
    bounds.information(network, params, np.zeros((1, 4, 4, 1), "f"), jax.random.key(1), draws=1)
    # Shapes are found out by what multiplies nothing.
    assert "highest" in asked


def test_a_spectrum_is_the_same_by_rows_and_by_directions(monkeypatch):
    mixed = np.random.default_rng(0).normal(size=(SIZE, 5)).astype("f")
    few = sequence([("mix", lambda x: jnp.tanh(x.reshape(len(x), -1) @ mixed / SIZE))], SHAPE)
    params, copies = few.init(jax.random.key(0)), np.stack([IMAGES[:3], IMAGES[3:6]])
    by_rows = spectra.eigenvalues(few, params, copies)
    monkeypatch.setattr(spectra, "_from_rows", spectra._from_directions)
    by_directions = spectra.eigenvalues(few, params, copies)
    most = by_rows.values.max()
    np.testing.assert_allclose(by_rows.values, by_directions.values, atol=1e-5 * most)
    assert (by_rows.values > 1e-4 * most).sum(axis=1).max() <= 3 * 5


def test_sampled_spectra_give_nearly_the_bound_of_calculated_ones(monkeypatch, known):
    monkeypatch.setattr(fisher, "_DENSE", 10)
    sampled = bounds.information(EDGE, PARAMS, IMAGES[:3], jax.random.key(1), draws=2)
    assert sampled.at.values.shape != known.at.values.shape
    for sigma in (0.05, 0.5, 2.0):
        through = bounds.Channel(EDGE, "gaussian", sigma)
        exact = bounds.van_trees(through, known.at, 0.1)
        np.testing.assert_allclose(bounds.van_trees(through, sampled.at, 0.1), exact, rtol=0.1)


def test_an_edge_that_forgets_is_known_from_a_sampled_spectrum(monkeypatch):
    """Half of the directions are lost, of which Lanczos' steps see some alone."""
    halved = sequence(
        [("halves", lambda x: jnp.sin(x * (jnp.arange(12) < 6)[None, None, :, None]))], SHAPE
    )
    monkeypatch.setattr(fisher, "_DENSE", 10)
    sampled = bounds.information(halved, {}, IMAGES[:2], jax.random.key(0))
    assert sampled.at.values.shape[-1] < SIZE
    assert np.isinf(bounds.cramer_rao(bounds.Channel(halved, "gaussian", 1.0), sampled)).all()
    fewer = sequence([("conv", nn.Conv(1, (3, 3), (2, 2))), ("relu", nn.relu)], SHAPE)
    known = bounds.information(fewer, fewer.init(jax.random.key(0)), IMAGES[:2], jax.random.key(0))
    # Steps that see nothing of what is lost: the shape alone tells.
    seen = bounds.Spectrum(np.ones_like(known.at.values), known.at.weights)
    known = dataclasses.replace(known, at=seen)
    assert np.isinf(bounds.cramer_rao(bounds.Channel(fewer, "gaussian", 1.0), known)).all()
