"""Blind cleaning: rectified zeros behind noise that is not rounded, and behind ours."""

import jax
import numpy as np
import pytest

from jaxinv.attacks import support
from jaxinv.attacks.attack import EdgeKnown
from jaxinv.attacks.whitebox import adaptive, cleaning
from jaxinv.attacks.whitebox.adaptive import AdaptiveEdge
from jaxinv.attacks.whitebox.cleaning import find_cleaning
from jaxinv.defenses import DROPOUT, GAUSSIAN, LAPLACE, NONE, QUANTIZE, Mechanism, Release
from jaxinv.networks import sequence

RNG = np.random.default_rng(0)
IMAGES = RNG.random((300, 8, 8, 1)).astype(np.float32)
MATRIX = RNG.normal(size=(64, 200)).astype(np.float32)
EDGE = sequence(
    [("rectified", lambda x: jax.nn.relu((x.reshape(len(x), -1) - 0.5) @ MATRIX))], (8, 8, 1)
)
AFFINE = sequence([("affine", lambda x: x.reshape(len(x), -1) @ MATRIX)], (8, 8, 1))
NAIVE = Mechanism(
    "naive", lambda key, x, level: x + level * jax.random.normal(key, x.shape, x.dtype)
)


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr(cleaning, "_TIMES", 4)  # two numbers in five


def never(*args):
    raise AssertionError("Nothing need be drawn.")


def known(*family, edge=EDGE):
    return EdgeKnown(edge, {}, IMAGES, family)


def test_zeros_behind_noise_that_is_not_rounded_are_found():
    defense = NAIVE.at("feature", 2.0)
    found = find_cleaning(known(NAIVE.at("feature", 0.5), defense), jax.random.key(0))
    clean, seen = (
        Release(EDGE, {}, IMAGES[:50], each, jax.random.key(5))[np.arange(50)]
        for each in (NONE, defense)
    )
    cleaned = found(seen, 1)[np.arange(50)]
    zero = clean == 0
    assert (cleaned[zero] == 0).mean() > 0.35 and (cleaned[~zero] == 0).mean() < 0.1
    kept = cleaned != 0
    np.testing.assert_array_equal(cleaned[kept], seen[kept])
    # What the attacker learns from is cleaned alike.
    learned = Release(EDGE, {}, IMAGES[:50], found.known.family[1], jax.random.key(5))
    np.testing.assert_array_equal(learned[np.arange(50)], cleaned)


@pytest.mark.parametrize(
    "defense",
    [GAUSSIAN.at("feature", 2.0), LAPLACE.at("feature", 2.0), GAUSSIAN.at("feature", 0.7)],
    ids=["gaussian", "laplace", "another grid"],
)
def test_nothing_is_cleaned_behind_noise_that_is_rounded(defense):
    assert find_cleaning(known(defense), jax.random.key(0)) is None


@pytest.mark.parametrize(
    "defense",
    [
        NONE,
        DROPOUT.at("feature", 0.5),
        QUANTIZE.at("feature", 2),
        NAIVE.at("input", 1.0),
        NAIVE.at("feature", 1.0) + QUANTIZE.at("feature", 4),
    ],
    ids=["none", "dropout", "quantize", "input", "quantized"],
)
def test_nothing_is_cleaned_where_no_noise_comes_last(defense, monkeypatch):
    monkeypatch.setattr(support, "numbers", never)
    assert find_cleaning(known(defense), jax.random.key(0)) is None


def test_features_that_are_not_rectified_have_no_zeros(monkeypatch):
    monkeypatch.setattr(support, "numbers", never)
    assert find_cleaning(known(NAIVE.at("feature", 1.0), edge=AFFINE), jax.random.key(0)) is None


class ReachedError(Exception):
    """Images that an attacker was about to learn from."""


def test_the_adaptive_attacker_learns_from_cleaned_releases(monkeypatch):
    def reached(known, *rest):
        raise ReachedError(known)

    monkeypatch.setattr(adaptive, "learn_map", reached)
    shares = []
    for mechanism in (NAIVE, GAUSSIAN):
        with pytest.raises(ReachedError) as caught:
            AdaptiveEdge().learn(known(mechanism.at("feature", 2.0)), jax.random.key(0))
        (given,) = caught.value.args
        keys = jax.random.split(jax.random.key(5), 20)
        shares.append((given.query(keys, IMAGES[:20], np.zeros(20, int)) == 0).mean())
    assert shares[0] > 0.15 and shares[1] < 0.01


def test_the_adaptive_attacker_cleans_what_it_sees():
    defense = NAIVE.at("feature", 2.0)
    seen = Release(EDGE, {}, IMAGES[:4], defense, jax.random.key(5))[np.arange(4)]
    found = find_cleaning(known(defense), jax.random.key(0))
    answered = []

    class Map:
        def of(self, member):
            return lambda part: answered.append(part[np.arange(4)]) or IMAGES[:4]

    own = adaptive.Retrieved.of(known(defense), IMAGES)
    scores = {"inverse map": np.zeros(1)}
    attack = adaptive.AdaptedAttack(Map(), None, None, own, scores, 0.0, (200,), found)
    attack.invert(seen)
    np.testing.assert_array_equal(answered[0], found(seen, 0)[np.arange(4)])
