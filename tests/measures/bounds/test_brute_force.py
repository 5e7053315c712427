"""Certified bounds against attackers who compute the best that there is."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxinv.defenses import GAUSSIAN, LAPLACE, Mechanism, Release, sampler
from jaxinv.measures import bounds
from jaxinv.measures.bounds import divergences, imperfection
from jaxinv.networks import sequence

DITHER = 0.1
PIXEL = (1, 1, 1)


class RectifiedDense(nn.Dense):
    """A layer that is a subclass of an affine one, and is not affine."""

    @nn.compact
    def __call__(self, inputs):
        return nn.relu(nn.Dense(self.features, name="inner")(inputs))


LAYERS = {
    "affine": nn.Dense(1),
    "rectifier": RectifiedDense(1),
    "dense and rectifier": nn.Sequential([nn.Dense(1), nn.relu]),
}


def certified(edge, params, image, defense):
    """Returns the certified bounds on the error at one image, by name."""
    through = bounds.channel(edge, defense)
    known = bounds.information(edge, params, image[None], jax.random.key(0), dither=DITHER)
    gallery = np.stack([image, image + np.float32(0.2)])
    features = np.asarray(edge.apply(params, gallery))
    found = bounds.evaluate(through, known, gallery, features, bits=1e6)
    return {
        bound.name: 10 ** (-bound.value / 10)
        for bound in found
        if bound.kind == "certified" and bound.dithered and math.isfinite(bound.value)
    }


def least_error(edge, params, image, law):
    """Computes the error of the posterior mean of one pixel, by quadrature in two dimensions."""
    moved = np.linspace(-6, 6, 601) * DITHER
    weight = stats.norm.pdf(moved / DITHER)
    weight /= weight.sum()
    pixels = (image.item() + moved).astype("f").reshape(-1, *PIXEL)
    features = np.asarray(edge.apply(params, pixels), float).ravel()
    reach = 30 * law.std()
    seen = np.linspace(features.min() - reach, features.max() + reach, 2001)
    joint = law.pdf(seen[:, None] - features) * weight
    mean = (joint @ moved) / np.maximum(joint.sum(axis=1), 1e-300)
    squares = (joint @ moved**2) - mean**2 * joint.sum(axis=1)
    return squares.sum() * (seen[1] - seen[0])


@pytest.mark.slow
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("scale", [0.02, 0.1, 0.5])
@pytest.mark.parametrize("mechanism", [GAUSSIAN, LAPLACE], ids=lambda each: each.name)
def test_the_best_attacker_of_one_pixel_errs_no_less(layer, scale, mechanism):
    edge = sequence([("layer", LAYERS[layer])], PIXEL)
    params = jax.tree.map(jnp.abs, edge.init(jax.random.key(2)))
    law = (stats.norm if mechanism is GAUSSIAN else stats.laplace)(scale=scale)
    image = np.full(PIXEL, 0.03, np.float32)
    error = least_error(edge, params, image, law)
    found = certified(edge, params, image, mechanism.at("feature", scale))
    assert "van Trees" in found
    assert all(bound <= error * (1 + 1e-6) for bound in found.values())
    if layer == "affine" and mechanism is GAUSSIAN:
        assert found["van Trees"] == pytest.approx(error, rel=0.03)  # and it is nearly reached


def test_a_subclass_that_rectifies_is_not_taken_for_affine():
    edge = sequence([("layer", RectifiedDense(1))], PIXEL)
    params = edge.init(jax.random.key(2))
    known = bounds.information(edge, params, np.zeros((1, *PIXEL), "f"), jax.random.key(0))
    assert not known.exact


def test_a_pixel_behind_many_outputs_is_not_told_by_their_grid():
    """Looks for the pixel whose features lie on the grid of `jax.random.normal`, and averages."""
    edge = sequence([("dense", nn.Dense(64))], PIXEL)
    params = edge.init(jax.random.key(3))
    rng = np.random.default_rng(0)
    images = (0.5 + DITHER * rng.normal(size=(300, *PIXEL))).astype("f")
    defense = GAUSSIAN.at("feature", 1.0)
    seen = Release(edge, params, images, defense, jax.random.key(1))[np.arange(300)]
    slope = np.asarray(edge.apply(params, np.ones((1, *PIXEL), "f")), float).ravel()
    start = np.asarray(edge.apply(params, np.zeros((1, *PIXEL), "f")), float).ravel()
    slope -= start
    left = seen.reshape(300, -1) - start - 0.5 * slope
    answers = 0.5 + left @ slope / (slope @ slope + DITHER**-2)
    error = ((answers - images.ravel()) ** 2).mean()
    bound = certified(edge, params, np.full(PIXEL, 0.5, "f"), defense)["van Trees"]
    assert bound <= error * 1.25  # 300 draws vary by some 8%
    assert bound > 0.5 * error


def test_noise_that_is_not_rounded_certifies_nothing():
    def add(key, x, level):
        return x + level * jax.random.normal(key, x.shape, x.dtype)

    edge = sequence([("dense", nn.Dense(4))], PIXEL)
    mine = Mechanism("mine", add, noise="gaussian").at("feature", 1.0)
    assert bounds.channel(edge, mine) is None
    assert bounds.channel(edge, GAUSSIAN.at("feature", 1.0)) is not None


@pytest.mark.parametrize("width", [1 / 96, 1 / 48])
def test_the_divergence_of_drawn_noise_is_no_more_than_is_allowed_for(width):
    """Takes the worst case in each cell, and the moments of the order that is used."""
    error = sampler.ERROR
    for law, size, reach in (
        (stats.norm, lambda a: np.sqrt(a**2 + 1), 9.4),
        (stats.laplace, lambda a: np.abs(a) + error, 45),
    ):
        ends = -width * np.arange(1, reach / width)  # one half, and the other is the same
        mass = law.cdf(ends + width) - law.cdf(ends)
        strips = error * (size(ends) * law.pdf(ends) + size(ends + width) * law.pdf(ends + width))
        share = strips / mass
        pair = 2 * 2 * (mass * share**2 * np.exp(imperfection._ORDERS * 2 * share)).sum()
        assert pair <= imperfection.chi_squared(1)
    # The cells of the sampler's grid are no narrower than is assumed.
    scales = np.random.default_rng(0).uniform(1, 4, 10_000).astype("f")
    assert (np.asarray(sampler.grid(scales)) / scales).min() >= imperfection._WIDTH


def test_drawn_noise_costs_little_and_never_gains():
    edge = sequence([("dense", nn.Dense(100))], PIXEL)
    for releases in (1, 10, 10_000):
        through = bounds.Channel(edge, "gaussian", 1.0, releases)
        for error in (1e-9, 1e-4, 0.0099):
            assert bounds.least_error(error, DITHER, through) < error
        assert 0 < bounds.total_variation(through, 100) <= 1
    little = bounds.Channel(edge, "gaussian", 1.0)
    assert bounds.least_error(0.005, DITHER, little) > 0.98 * 0.005
    assert bounds.total_variation(little, 100) < 0.002


def test_sums_are_rounded_outward():
    """Against double precision, for features that are near each other and far from zero."""
    rng = np.random.default_rng(0)
    edge = sequence([("dense", nn.Dense(4))], PIXEL)
    for spread in (1e-6, 1e-3, 1.0):
        features = (100 + spread * rng.normal(size=(6, 500))).astype("f")
        flat = features.astype(float)
        steps = np.abs(flat[:, None] - flat[None])
        through = bounds.Channel(edge, "laplace", 1.0)
        told = (steps + np.expm1(-steps)).sum(axis=-1)
        assert (divergences.divergence(through, features) >= told).all()
        affinity = (np.log1p(steps / 2) - steps / 2).sum(axis=-1)
        assert (divergences.overlap(through, features) <= np.exp(2 * affinity) / 2).all()
        squared = ((flat[:, None] - flat[None]) ** 2).sum(axis=-1)
        assert (divergences.farthest(features) >= squared * (1 - 1e-15)).all()


@pytest.mark.parametrize(
    "layer",
    [nn.Conv(8, (5, 5)), nn.Dense(300), nn.Dense(50)],
    ids=["conv", "dense", "to few values"],
)
def test_eigenvalues_that_bound_are_rounded_up(layer):
    edge = sequence([("layer", layer)], (9, 9, 1) if isinstance(layer, nn.Conv) else (1, 1, 200))
    params = edge.init(jax.random.key(0))
    size = math.prod(edge.input_shape)
    zero, unit = np.zeros((1, *edge.input_shape), "f"), np.eye(size, dtype="f")
    rows = np.asarray(edge.apply(params, unit.reshape(-1, *edge.input_shape)), float)
    rows = (rows - np.asarray(edge.apply(params, zero), float)).reshape(size, -1)
    exact = np.linalg.eigvalsh(rows @ rows.T)
    known = bounds.information(edge, params, zero, jax.random.key(0))
    assert (np.sort(known.most.values[0]) >= exact).all()
