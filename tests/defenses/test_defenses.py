"""Mechanisms, defences and the release: what crosses the wire, and what it tells."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxinv import defenses
from jaxinv.defenses import (
    DROPOUT,
    GAUSSIAN,
    LAPLACE,
    MECHANISMS,
    NONE,
    NOPEEK,
    PROJECT,
    PRUNE,
    QUANTIZE,
    SITES,
    Defense,
    Joined,
    Mechanism,
    Release,
    clipped_gaussian,
    defended_inputs,
    distance_correlation,
    median_norm,
    query_family,
    query_function,
)
from jaxinv.errors import UsageError
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


@pytest.fixture(params=SITES)
def noise(request):
    return GAUSSIAN.at(request.param, LEVEL)


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


# --- The release --------------------------------------------------------------------------------


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


def test_at_the_input_a_defence_sees_normalised_pixels():
    """What is dropped there becomes the mean pixel, and noise is in units of the deviation."""
    dropped = released(DROPOUT.at("input", LEVEL), edge=PLAIN)
    assert (dropped == 0).mean() == pytest.approx(LEVEL, abs=0.02)
    np.testing.assert_allclose(dropped, np.where(dropped == 0, 0, PIXELS), atol=1e-6)
    noisy = released(GAUSSIAN.at("input", LEVEL), edge=PLAIN)
    assert np.std(noisy - PIXELS) == pytest.approx(LEVEL, rel=0.03)


def test_an_input_defence_comes_before_the_edge():
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


def test_without_a_defence_a_query_does_not_depend_on_the_key():
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

    found = jax.jit(query_family(PLAIN, {}, family, releases=releases))(keys(), IMAGES, which)
    for number, defense in enumerate(family):
        own = jax.jit(query_function(PLAIN, {}, defense, releases=releases))(keys(), IMAGES)
        np.testing.assert_allclose(found[number::3], own[number::3], rtol=1e-5, atol=1e-5)
        whole = released(defense, edge=PLAIN, releases=releases)
        assert np.std(own) == pytest.approx(np.std(whole), rel=0.05)


def test_a_family_differs_in_its_levels_alone():
    with pytest.raises(ValueError, match="levels alone"):
        query_family(EDGE, PARAMS, [GAUSSIAN.at("feature", 1.0), GAUSSIAN.at("input", 1.0)])


def test_parts_are_joined_by_index():
    parts = [np.arange(6.0).reshape(3, 2), release(NONE, edge=PLAIN)[:0].reshape(0, 2)]
    parts += [10 + np.arange(4.0).reshape(2, 2)]
    joined = Joined(parts)
    whole = np.concatenate(parts)
    assert len(joined) == 5
    for indices in ([4, 0, 3, 3], [2], slice(None), slice(1, 4)):
        np.testing.assert_array_equal(joined[indices], whole[indices])
    several = Joined([release(NONE), release(GAUSSIAN.at("feature", LEVEL))])
    found = several[np.array([9, 3])]
    np.testing.assert_allclose(found[1], released(NONE)[3], atol=1e-5)
    np.testing.assert_allclose(
        found[0], released(GAUSSIAN.at("feature", LEVEL))[1], rtol=1e-5, atol=1e-5
    )


# --- Several releases ---------------------------------------------------------------------------


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


def test_a_defence_without_randomness_releases_the_same_again():
    for mechanism in (PROJECT, PRUNE):
        one, three = (released(mechanism.at("feature", LEVEL), releases=count) for count in (1, 3))
        np.testing.assert_allclose(one, three, rtol=1e-5, atol=1e-5)


def test_to_which_level_several_releases_come():
    assert GAUSSIAN.at("feature", 0.6).combined(4) == pytest.approx([0.3])
    assert LAPLACE.at("feature", 0.6).combined(1) == pytest.approx([0.6])
    assert LAPLACE.at("feature", 0.6).combined(8) == pytest.approx([0.15])
    assert DROPOUT.at("feature", 0.5).combined(3) == pytest.approx([0.125])
    assert QUANTIZE.at("feature", 3).combined(3) == pytest.approx([3])
    assert DROPOUT.at("feature", 0.0).combined(3) == pytest.approx([0])
    both = DROPOUT.at("feature", 0.5) + GAUSSIAN.at("feature", 0.6)
    assert both.combined(4) == pytest.approx([0.5, 0.6])
    assert NONE.combined(2).shape == (0,)


# --- Defences as values -------------------------------------------------------------------------


def test_describe():
    assert NONE.describe() == {"kind": "none", "site": "feature", "level": 0.0}
    one = DROPOUT.at("input", LEVEL)
    assert one.describe() == {"kind": "dropout", "site": "input", "level": LEVEL}
    both = one + GAUSSIAN.at("feature", 2)
    expected = {"kind": "dropout+gaussian", "site": "input+feature", "level": [LEVEL, 2.0]}
    assert both.describe() == expected
    assert (GAUSSIAN.at("input", 1) + LAPLACE.at("input", 1)).describe()["site"] == "input"
    assert NONE + one == one == one + NONE


def test_several_are_done_in_turn():
    double = Mechanism("double", lambda key, x, level: 2 * x)
    more = Mechanism("more", lambda key, x, level: x + level)
    a, b = double.at("feature", 1.0), more.at("feature", 3.0)
    np.testing.assert_allclose(released(a + b, edge=PLAIN), 2 * PIXELS + 3, atol=1e-5)
    np.testing.assert_allclose(released(b + a, edge=PLAIN), 2 * (PIXELS + 3), atol=1e-5)
    # The input comes first, wherever it stands in the sum.
    edge = sequence([("square", jnp.square)], (28, 28, 1))
    last = more.at("input", 3.0)
    np.testing.assert_allclose(released(a + last, edge=edge), 2 * (IMAGES + 3) ** 2, rtol=1e-5)


def test_steps_of_one_kind_draw_by_themselves():
    once, twice = (
        released(defense, edge=PLAIN) - PIXELS
        for defense in (
            GAUSSIAN.at("feature", LEVEL),
            GAUSSIAN.at("feature", LEVEL) + GAUSSIAN.at("feature", LEVEL),
        )
    )
    assert np.std(twice) == pytest.approx(2**0.5 * np.std(once), rel=0.03)


def test_what_is_random():
    assert not NONE.is_random
    assert not DROPOUT.at("feature", 0.0).is_random
    assert not QUANTIZE.at("feature", 2).is_random
    assert (QUANTIZE.at("feature", 2) + DROPOUT.at("feature", 0.1)).is_random
    assert CLIP.at("feature", 0.1).is_random


@pytest.mark.parametrize(
    ("mechanism", "level"),
    [
        (GAUSSIAN, -0.1),
        (LAPLACE, float("nan")),
        (GAUSSIAN, float("inf")),
        (DROPOUT, 1.0),
        (PRUNE, 1.0),
        (PROJECT, 1.5),
        (QUANTIZE, 2.5),
        (QUANTIZE, 17),
        (NOPEEK, -1.0),
        (CLIP, -1.0),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_a_level_out_of_range_is_a_mistake(mechanism, level):
    with pytest.raises(UsageError, match=f"level={level}: {mechanism.name} takes a .*at least 0"):
        mechanism.at("feature", level)


def test_a_site_that_is_none_is_a_mistake():
    with pytest.raises(UsageError, match="site=wire: expected input or feature"):
        GAUSSIAN.at("wire", 1.0)
    with pytest.raises(UsageError, match="site=input: nopeek"):
        NOPEEK.at("input", 1.0)


@every_mechanism
def test_every_level_of_a_sweep_may_be_used(mechanism):
    assert mechanism.sweep[0] == 0
    assert len({mechanism.at("feature", level) for level in mechanism.sweep}) > 3
    assert mechanism.unit and mechanism.source


# --- Mechanisms ---------------------------------------------------------------------------------


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


def test_of_equal_values_the_first_are_kept_and_no_more_than_there_may_be():
    x = np.array([2.0, -1.0, 3.0, 1.0, 1.0, 0.5, -1.0, 0.0], "f")
    np.testing.assert_array_equal(apply(PRUNE, x, 0.5), [2, -1, 3, 1, 0, 0, 0, 0])
    background = np.full((6, 6, 2), 0.3, "f")
    made = apply(PRUNE, background, 0.75)
    np.testing.assert_array_equal(np.flatnonzero(made), np.arange(18))
    np.testing.assert_array_equal(apply(PRUNE, background, 0), background)
    # The attacker's likelihood finds no fault with what is true.
    defense = PRUNE.at("feature", 0.75)
    for each in (background, normal(6, 6, 2).round(1)):
        released = apply(PRUNE, each, 0.75)
        np.testing.assert_array_equal(residual(defense, each[None], released[None]), 0)


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


def test_nopeek_is_trained_in():
    x = normal(50)
    np.testing.assert_array_equal(apply(NOPEEK, x, 5.0), x)
    assert NOPEEK.penalty is distance_correlation
    assert [each.name for each in EVERY if each.penalty] == ["nopeek"]


# --- What an attacker makes of it ---------------------------------------------------------------


def residual(defense, before, observed, clean=None, releases=1):
    clean = before if clean is None else clean
    levels = np.broadcast_to(defense.combined(releases), (len(before), len(defense.steps)))
    return np.asarray(
        defenses.residual(
            defense.structure, *map(jnp.asarray, (before, clean, observed)), jnp.asarray(levels)
        )
    )


def half_squares(*args, **options):
    left = residual(*args, **options)
    return 0.5 * (left.reshape(len(left), -1) ** 2).sum(axis=1)


def test_the_residual_of_gaussian_noise_is_its_likelihood():
    clean, observed = normal(6, 40), normal(6, 40, seed=1)
    for releases in (1, 4):
        log_density = scipy.stats.norm(clean, LEVEL / releases**0.5).logpdf(observed).sum(axis=1)
        found = half_squares(GAUSSIAN.at("feature", LEVEL), clean, observed, releases=releases)
        constant = found + log_density
        np.testing.assert_allclose(constant, constant[0], rtol=1e-4, atol=1e-3)


def test_the_residual_of_laplace_noise_is_its_likelihood():
    rng = np.random.default_rng(0)
    clean = normal(6, 40)
    distance = LEVEL * rng.uniform(1, 8, (6, 40)) * rng.choice([-1, 1], (6, 40))
    observed = (clean + distance).astype("f")
    log_density = scipy.stats.laplace(clean, LEVEL).logpdf(observed).sum(axis=1)
    constant = half_squares(LAPLACE.at("feature", LEVEL), clean, observed) + log_density
    # Near the truth the corner is rounded off.
    np.testing.assert_allclose(constant, constant[0], atol=40 * 0.01)
    assert np.ptp(log_density) > 10


def test_the_residual_of_a_clipped_release_is_its_likelihood():
    clean, observed = normal(6, 40), 0.3 * normal(6, 40, seed=1)
    seen = 2 * clean / np.linalg.norm(clean, axis=1, keepdims=True)
    log_density = scipy.stats.norm(seen, 2 * 0.1).logpdf(observed).sum(axis=1)
    constant = half_squares(CLIP.at("feature", 0.1), clean, observed) + log_density
    np.testing.assert_allclose(constant, constant[0], rtol=1e-4, atol=0.01)


def rectified(count=5, size=60):
    before = normal(count, size)
    return before, np.maximum(before, 0)


@pytest.mark.parametrize("mechanism", [DROPOUT, PRUNE, PROJECT, NOPEEK], ids=lambda each: each.name)
@pytest.mark.parametrize("level", [0.0, 0.6])
@pytest.mark.parametrize("rectify", [False, True])
def test_without_noise_nothing_is_left_at_the_truth(mechanism, level, rectify):
    before, clean = rectified()
    before = before if rectify else clean + 0.1
    clean = clean if rectify else before
    observed = np.stack([apply(mechanism, x, level, seed) for seed, x in enumerate(clean)])
    defense = mechanism.at("feature", level)
    left = residual(defense, before, observed, clean)
    np.testing.assert_allclose(left, 0, atol=1e-5)
    assert not defenses.is_noisy(defense.structure)
    # Of another image there is something.
    other, clean_other = before[::-1], clean[::-1]
    assert np.abs(residual(defense, other, observed, clean_other)).max() > 0.1


def test_what_was_dropped_tells_nothing_and_what_was_not_tells_all():
    clean = np.array([[1.0, 2.0, 3.0]], "f")
    observed = np.array([[0.0, 1.5, 0.0]], "f")
    dropped = residual(DROPOUT.at("feature", 0.5), clean, observed)
    np.testing.assert_allclose(dropped, [[0, 0.5, 0]], atol=1e-6)
    np.testing.assert_allclose(
        residual(DROPOUT.at("feature", 0.0), clean, observed), [[1, 0.5, 3]], atol=1e-6
    )


def test_what_was_pruned_is_smaller_than_what_was_kept():
    clean = np.array([[1.0, -4.0, 3.5, 0.5]], "f")
    observed = np.array([[0.0, 0.0, 3.0, 0.0]], "f")
    left = residual(PRUNE.at("feature", 0.7), clean, observed)
    np.testing.assert_allclose(left, [[0, -1, 0.5, 0]], atol=1e-6)


@pytest.mark.parametrize("rectify", [False, True])
def test_a_quantised_value_lies_in_its_cell(rectify):
    before, clean = rectified(size=400)
    before = before if rectify else clean
    defense = QUANTIZE.at("feature", 3)
    observed = np.stack([apply(QUANTIZE, x, 3) for x in clean])
    assert defenses.is_noisy(defense.structure)
    left = residual(defense, before, observed, clean)
    assert np.abs(left).max() <= 3**0.5 * (1 + 1e-3)
    inside = observed > 0
    assert np.std(left[inside]) == pytest.approx(1, abs=0.1)
    assert np.abs(residual(defense, before[::-1], observed, clean[::-1])).max() > 3


def test_of_several_an_attacker_expects_the_mean_of_draws():
    clean = 1 + np.abs(normal(3, 2000))
    both = DROPOUT.at("feature", LEVEL) + GAUSSIAN.at("feature", 0.1)
    left = residual(both, clean, np.zeros_like(clean))
    np.testing.assert_allclose(left.mean(axis=1), LEVEL * clean.mean(axis=1), rtol=0.05)
    np.testing.assert_array_equal(left, residual(both, clean, np.zeros_like(clean)))
    np.testing.assert_allclose(residual(both, clean, clean), left - clean, atol=1e-5)
    assert not defenses.is_noisy(both.structure)


def test_a_step_at_the_input_is_not_looked_at():
    clean, observed = normal(6, 40), normal(6, 40, seed=1)
    both = DROPOUT.at("input", 0.9) + GAUSSIAN.at("feature", LEVEL)
    alone = residual(GAUSSIAN.at("feature", LEVEL), clean, observed)
    np.testing.assert_allclose(residual(both, clean, observed), alone, rtol=1e-6)
    assert defenses.is_noisy(both.structure)
    assert not defenses.is_noisy(GAUSSIAN.at("input", 1.0).structure)
    assert not defenses.is_noisy(())


def test_a_mechanism_of_ones_own_takes_a_few_lines():
    def blur(key, x, level):
        return (1 - level) * x + level * x.mean()

    mine = Mechanism("blur", blur, below=1.0)
    defense = mine.at("feature", LEVEL)
    expected = 0.5 * PIXELS + 0.5 * PIXELS.mean(axis=(1, 2, 3), keepdims=True)
    np.testing.assert_allclose(released(defense, edge=PLAIN), expected, rtol=1e-4, atol=1e-5)
    keys = jax.random.split(jax.random.key(0), 8)
    asked = query_function(PLAIN, {}, defense, releases=2)(keys, IMAGES)
    np.testing.assert_allclose(asked, expected, rtol=1e-4, atol=1e-5)
    left = residual(defense, PIXELS, expected)
    np.testing.assert_allclose(left, 0, atol=1e-4)
    with pytest.raises(UsageError, match="level=1.0: blur"):
        mine.at("feature", 1.0)
    assert isinstance(defense + NONE, Defense)


# --- Distance correlation -----------------------------------------------------------------------


def by_numpy(x, y):
    """Szekely, Rizzo & Bakirov 2007, float64."""

    def centred(values):
        flat = np.asarray(values, np.float64).reshape(len(values), -1)
        distance = np.linalg.norm(flat[:, None] - flat[None], axis=-1)
        return distance - distance.mean(0) - distance.mean(1)[:, None] + distance.mean()

    a, b = centred(x), centred(y)
    return np.sqrt((a * b).mean() / np.sqrt((a * a).mean() * (b * b).mean()))


def test_distance_correlation_is_numpys():
    x = normal(40, 4, 4, 1)
    y = np.tanh(x.reshape(40, -1)[:, :5]) + 0.3 * normal(40, 5, seed=1)
    assert float(distance_correlation(x, y)) == pytest.approx(by_numpy(x, y), abs=1e-3)


def test_distance_correlation_of_the_same_and_of_independent_ones():
    x, other = normal(400, 3), normal(400, 3, seed=1)
    assert float(distance_correlation(x, x)) == pytest.approx(1, abs=1e-3)
    assert float(distance_correlation(x, 5 - 3 * x[:, ::-1])) == pytest.approx(1, abs=1e-3)
    assert float(distance_correlation(x, other)) < 0.2
    assert float(distance_correlation(x, x**2)) > 1.5 * float(distance_correlation(x, other))


def test_distance_correlation_has_a_gradient_everywhere():
    x = jnp.asarray(normal(6, 3))
    for y in (x, jnp.zeros((6, 2)), jnp.ones((6, 2))):
        assert np.isfinite(jax.grad(lambda y: distance_correlation(x, y))(y)).all()
