"""The release, queries and several releases."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from behind import EDGE, IMAGES, LEVEL, NETWORK, PARAMS, PIXELS, PLAIN, release, released

from jaxinv.defenses import (
    DROPOUT,
    GAUSSIAN,
    LAPLACE,
    NONE,
    PROJECT,
    PRUNE,
    QUANTIZE,
    SITES,
    Mechanism,
    defended_inputs,
    query_function,
)
from jaxinv.networks import sequence


@pytest.fixture(params=SITES)
def noise(request):
    return GAUSSIAN.at(request.param, LEVEL)


def test_none_releases_the_features():
    features = release(NONE)
    assert len(features) == 8
    result = features[np.arange(8)]
    assert isinstance(result, np.ndarray)
    expected = jax.jit(EDGE.apply)(PARAMS, IMAGES)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(features[np.array([5, 2])], expected[jnp.array([5, 2])], atol=1e-5)


@pytest.mark.parametrize("indices", [[3], [7, 3, 3, 0, 2, 1, 5, 5]])
def test_a_draw_does_not_depend_on_the_batch(noise, indices):
    features = release(noise)
    whole = features[np.arange(8)]
    np.testing.assert_allclose(features[np.array(indices)], whole[indices], rtol=1e-5, atol=1e-5)


def test_draws_differ_between_images_and_between_keys(noise):
    same = np.repeat(IMAGES[:1], 3, axis=0)
    first = released(noise, images=same)
    draws = [*first, *released(noise, images=same, seed=2)]
    for i, a in enumerate(draws):
        assert all(np.abs(a - b).mean() > 0.1 * LEVEL for b in draws[:i])
    np.testing.assert_array_equal(released(noise, images=same), first)


def test_noise_stands_where_the_site_says():
    """Behind a rectifier, noise on the features alone can be negative."""
    edge = sequence([("relu", jax.nn.relu)], (28, 28, 1))
    clean = np.asarray(edge.apply({}, IMAGES))
    results = {site: released(GAUSSIAN.at(site, LEVEL), edge=edge) for site in SITES}
    assert results["input"].min() == 0
    assert results["feature"].min() < 0
    # Both sites have the same draws here, as the edge keeps the shape.
    np.testing.assert_allclose(np.maximum(results["feature"], 0), results["input"], atol=1e-6)
    assert np.std(results["feature"] - clean) == pytest.approx(LEVEL, rel=0.05)
    assert np.mean(results["feature"] - clean) == pytest.approx(0, abs=0.03)


def test_at_the_input_a_defense_sees_normalised_pixels():
    """A dropped value becomes the mean pixel; noise is in units of the deviation."""
    dropped = released(DROPOUT.at("input", LEVEL), edge=PLAIN)
    assert (dropped == 0).mean() == pytest.approx(LEVEL, abs=0.02)
    np.testing.assert_allclose(dropped, np.where(dropped == 0, 0, PIXELS), atol=1e-6)
    noisy = released(GAUSSIAN.at("input", LEVEL), edge=PLAIN)
    assert np.std(noisy - PIXELS) == pytest.approx(LEVEL, rel=0.03)


def test_an_input_defense_comes_before_the_edge():
    halve = Mechanism("halve", lambda key, x, level: x / 2).at("input", 1.0)
    expected = jax.jit(EDGE.apply)(PARAMS, (IMAGES - 0.5) / 2 + 0.5)
    np.testing.assert_allclose(released(halve), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("site", SITES)
def test_the_inputs_of_a_release_are_what_went_into_the_edge(site):
    both = DROPOUT.at(site, LEVEL) + GAUSSIAN.at(site, 0.1)
    inputs = defended_inputs(PLAIN, IMAGES, both, jax.random.key(1))
    if site == "feature":
        np.testing.assert_array_equal(inputs, IMAGES)
    else:
        features = PLAIN.apply({}, inputs)
        np.testing.assert_allclose(features, released(both, edge=PLAIN), rtol=1e-4, atol=1e-5)
        assert np.abs(inputs - IMAGES).max() > 0.1


@pytest.mark.parametrize(
    ("defense", "releases"),
    [(GAUSSIAN.at("feature", LEVEL), 1), (DROPOUT.at("input", LEVEL), 2)],
    ids=["one", "two"],
)
def test_a_query_is_a_release_of_ones_own_images(defense, releases):
    """With the key that the release has for an image, a query draws the same."""
    query = jax.jit(query_function(EDGE, PARAMS, defense, releases=releases))
    places = np.arange(8)

    def ask(chosen, images):
        keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(1)))(jnp.asarray(chosen))
        return query(keys, images)

    whole = released(defense, releases=releases)
    np.testing.assert_allclose(ask(places, IMAGES), whole, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ask(places[::-1], IMAGES[::-1]), whole[::-1], rtol=1e-5, atol=1e-5)
    assert np.abs(ask(places[::-1], IMAGES)[0] - whole[0]).max() > 0.1 * LEVEL


def test_without_a_defense_a_query_does_not_depend_on_the_key():
    query = jax.jit(query_function(EDGE, PARAMS))
    keys = jax.random.split(jax.random.key(2), 16)
    np.testing.assert_array_equal(query(keys[:8], IMAGES), query(keys[8:], IMAGES))


@pytest.mark.parametrize(
    ("made", "releases"),
    [
        (lambda level: DROPOUT.at("feature", level), 2),
        (lambda level: LAPLACE.at("input", level) + QUANTIZE.at("feature", 1 + (level > 0)), 1),
    ],
    ids=["one", "both"],
)
def test_a_family_answers_as_each_of_its_members(made, releases):
    family = [made(level) for level in (0.0, 0.3, 0.7)]
    which = jnp.arange(8) % 3

    def keys():
        return jax.random.split(jax.random.key(2), 8)

    found = jax.jit(query_function(PLAIN, {}, family, releases=releases))(keys(), IMAGES, which)
    for number, defense in enumerate(family):
        own = jax.jit(query_function(PLAIN, {}, defense, releases=releases))(keys(), IMAGES)
        # Programs may round the last place otherwise, and so a value to the next cell.
        assert np.isclose(found[number::3], own[number::3], rtol=1e-5, atol=1e-5).mean() > 0.998
        whole = released(defense, edge=PLAIN, releases=releases)
        assert np.std(own) == pytest.approx(np.std(whole), rel=0.05)


def test_queries_that_differ_in_levels_and_parameters_are_one_program():
    traced = []

    @jax.jit
    def ask(query):
        traced.append(query)
        return query(jax.random.split(jax.random.key(0), 8), IMAGES)

    for level in (0.1, 0.2):
        edge = NETWORK.split("conv1")[0]
        params = jax.tree.map(lambda leaf, level=level: level * leaf, PARAMS)
        ask(query_function(edge, params, GAUSSIAN.at("feature", level)))
    assert len(traced) == 1
    ask(query_function(edge, PARAMS, GAUSSIAN.at("input", 0.1)))
    assert len(traced) == 2


def test_a_family_differs_in_its_levels_alone():
    with pytest.raises(ValueError, match="levels alone"):
        query_function(EDGE, PARAMS, [GAUSSIAN.at("feature", 1.0), GAUSSIAN.at("input", 1.0)])


def test_of_dropouts_every_survivor_is_seen():
    clean = released(NONE, edge=PLAIN)
    found = released(DROPOUT.at("feature", LEVEL), edge=PLAIN, releases=3)
    assert (found == 0).mean() == pytest.approx(LEVEL**3, abs=0.01)
    np.testing.assert_allclose(found, np.where(found == 0, 0, clean), atol=1e-6)


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("mechanism", [GAUSSIAN, LAPLACE], ids=lambda each: each.name)
def test_noise_is_averaged_away(mechanism, site):
    errors = [
        np.std(released(mechanism.at(site, LEVEL), edge=PLAIN, releases=count) - PIXELS)
        for count in (1, 4)
    ]
    if mechanism is LAPLACE and site == "feature":
        # The median varies less than the mean.
        assert errors[1] < 0.97 * errors[0] / 2
    else:
        assert errors[1] == pytest.approx(errors[0] / 2, rel=0.04)


def test_at_the_input_the_features_are_averaged():
    """Not the inputs, which the attacker does not see."""
    edge = sequence([("relu", jax.nn.relu)], (28, 28, 1), mean=(0.5,), std=(0.25,))
    dropped = released(DROPOUT.at("input", LEVEL), edge=edge, releases=2)
    clean = np.maximum(PIXELS, 0)
    shares = dropped[clean > 0] / clean[clean > 0]
    for share, probability in ((0, 0.25), (0.5, 0.5), (1, 0.25)):
        assert np.isclose(shares, share, atol=1e-5).mean() == pytest.approx(probability, abs=0.03)


@pytest.mark.parametrize("site", SITES)
def test_the_first_of_several_is_what_one_would_be(site):
    first = Mechanism("noise", GAUSSIAN.apply, combine=lambda releases, level: releases[0])
    if site == "feature":
        one, three = (released(first.at(site, LEVEL), releases=count) for count in (1, 3))
        np.testing.assert_allclose(one, three, rtol=1e-5, atol=1e-5)
    one, two = (released(GAUSSIAN.at(site, LEVEL), edge=PLAIN, releases=count) for count in (1, 2))
    other = 2 * two - one
    assert np.corrcoef((one - PIXELS).ravel(), (other - PIXELS).ravel())[0, 1] == pytest.approx(
        0, abs=0.05
    )


def test_a_defense_without_randomness_releases_the_same_again():
    for mechanism in (PROJECT, PRUNE):
        one, three = (released(mechanism.at("feature", LEVEL), releases=count) for count in (1, 3))
        np.testing.assert_allclose(one, three, rtol=1e-5, atol=1e-5)
