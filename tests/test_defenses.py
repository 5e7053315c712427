"""The release: what crosses the wire, whatever is asked for with it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.defenses import NONE, Defense, Release, query_function
from jaxinv.networks import lenet5, sequence

SITES = ["input", "feature"]
LEVEL = 0.5
NETWORK = lenet5()
EDGE = NETWORK.split("pool1")[0]
PARAMS = jax.jit(NETWORK.init)(jax.random.key(0))
IMAGES = np.random.default_rng(0).random((8, 28, 28, 1)).astype("f")


def add_noise(key, x):
    return x + LEVEL * jax.random.normal(key, x.shape)


@pytest.fixture(params=SITES)
def noise(request):
    return Defense("gaussian", request.param, LEVEL, add_noise)


def release(defense, *, edge=EDGE, images=IMAGES, seed=1):
    return Release(edge, PARAMS, images, defense, jax.random.key(seed))


def test_none_releases_the_features():
    features = release(NONE)
    assert len(features) == 8
    result = features[np.arange(8)]
    assert isinstance(result, np.ndarray)
    expected = jax.jit(EDGE.apply)(PARAMS, IMAGES)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(features[np.array([5, 2])], expected[jnp.array([5, 2])], atol=1e-5)


def test_describe(noise):
    assert noise.describe() == {"kind": "gaussian", "site": noise.site, "level": LEVEL}
    assert NONE.describe() == {"kind": "none", "site": "feature", "level": 0.0}


@pytest.mark.parametrize("indices", [[3], [3, 0], [7, 3, 3]])
def test_a_draw_does_not_depend_on_the_batch(noise, indices):
    features = release(noise)
    whole = features[np.arange(8)]
    np.testing.assert_allclose(features[np.array(indices)], whole[indices], rtol=1e-5, atol=1e-5)


def test_draws_differ_between_images_and_between_keys(noise):
    same = np.repeat(IMAGES[:1], 3, axis=0)
    first = release(noise, images=same)[np.arange(3)]
    other = release(noise, images=same, seed=2)[np.arange(3)]
    draws = [*first, *other]
    for i, a in enumerate(draws):
        assert all(np.abs(a - b).mean() > 0.1 * LEVEL for b in draws[:i])
    np.testing.assert_array_equal(release(noise, images=same)[np.arange(3)], first)


def test_noise_stands_where_the_site_says():
    """Behind a rectifier, noise on the features alone can be negative."""
    edge = sequence([("relu", jax.nn.relu)], (28, 28, 1))
    clean = np.asarray(edge.apply({}, IMAGES))
    everything = np.arange(8)
    results = {
        site: release(Defense("gaussian", site, LEVEL, add_noise), edge=edge)[everything]
        for site in SITES
    }
    assert results["input"].min() == 0
    assert results["feature"].min() < 0
    # Both sites have the same draws here, as the edge keeps the shape.
    np.testing.assert_allclose(np.maximum(results["feature"], 0), results["input"], atol=1e-6)
    assert np.std(results["feature"] - clean) == pytest.approx(LEVEL, rel=0.05)
    assert np.mean(results["feature"] - clean) == pytest.approx(0, abs=0.03)


def test_an_input_defence_comes_before_the_edge():
    halve = Defense("halve", "input", 1.0, lambda key, x: x / 2)
    expected = jax.jit(EDGE.apply)(PARAMS, IMAGES / 2)
    np.testing.assert_allclose(release(halve)[np.arange(8)], expected, rtol=1e-5, atol=1e-6)


def test_a_query_is_a_release_of_ones_own_images(noise):
    """With the key that the release has for an image, a query draws the same."""
    query = jax.jit(query_function(EDGE, PARAMS, noise))
    places = np.arange(8)

    def ask(chosen, images):
        keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(1)))(jnp.asarray(chosen))
        return query(keys, images)

    whole = release(noise)[places]
    np.testing.assert_allclose(ask(places, IMAGES), whole, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ask(places[5:], IMAGES[5:]), whole[5:], rtol=1e-5, atol=1e-5)
    assert np.abs(ask(places[1:2], IMAGES[:1])[0] - whole[0]).max() > 0.1 * LEVEL


def test_without_a_defence_a_query_does_not_depend_on_the_key():
    query = jax.jit(query_function(EDGE, PARAMS))
    keys = jax.random.split(jax.random.key(2), 16)
    np.testing.assert_array_equal(query(keys[:8], IMAGES), query(keys[8:], IMAGES))
