"""The Bayes rate of linkage, against posteriors that are summed by brute force."""

import math

import numpy as np
import pytest

from jaxinv import defenses
from jaxinv.attacks.attack import EdgeKnown
from jaxinv.attacks.linkage import bayes
from jaxinv.defenses import DROPOUT, GAUSSIAN, LAPLACE, NONE, QUANTIZE
from jaxinv.networks import sequence

SHAPE = (4, 4, 1)
RNG = np.random.default_rng(0)
IMAGES = RNG.random((12, *SHAPE)).astype(np.float32)
MATRIX = RNG.normal(size=(16, 5)).astype(np.float32)
DENSE = sequence([("dense", lambda x: x.reshape(len(x), -1) @ MATRIX)], SHAPE)
COPIED = np.concatenate([np.repeat(IMAGES[:1], 30, axis=0), IMAGES[1:]])
SCALED = np.concatenate([IMAGES[:6], 0.5 * IMAGES[:3] + 0.2, 0.8 * IMAGES[:3]])


def features(images):
    return images.reshape(len(images), -1) @ MATRIX


def brute_force(images, own, sigma, draws=4000):
    """Share that the largest posterior of an image finds, over all of its copies."""
    flat, rng = features(images).astype(float), np.random.default_rng(7)
    places = rng.integers(len(images), size=draws)
    seen = flat[places] + sigma * rng.normal(size=(draws, flat.shape[1]))
    density = np.exp(-((seen[:, None] - flat) ** 2).sum(axis=-1) / (2 * sigma**2))
    posterior = density @ np.eye(own.max() + 1)[own]
    return (posterior.argmax(axis=1) == own[places]).mean()


def rate(defense, images=IMAGES, releases=1):
    known = EdgeKnown(DENSE, {}, images[:0], (defense,), releases)
    return bayes.rate(known, images, seed=0)


@pytest.mark.parametrize("sigma", [0.3, 1.0, 4.0])
@pytest.mark.parametrize(
    "images, own",
    [
        (IMAGES, np.arange(12)),
        (COPIED, np.concatenate([np.zeros(30, int), np.arange(1, 12)])),
        (SCALED, np.concatenate([np.arange(6), np.arange(3), np.arange(3)])),
    ],
    ids=["different", "copied", "scaled"],
)
def test_the_rate_is_that_of_the_largest_posterior(images, own, sigma):
    wanted = brute_force(images, own, sigma)
    slack = 4 * math.sqrt(0.5 / 4000)
    assert rate(GAUSSIAN.at("feature", sigma), images).mean == pytest.approx(wanted, abs=slack)
    known = bayes.GaussianLinkage(features(images), images, seed=0)
    assert known.rate(sigma).mean == pytest.approx(wanted, abs=slack)


def test_the_least_noise_is_where_the_rate_is_the_share():
    known = bayes.GaussianLinkage(features(IMAGES), IMAGES, seed=0)
    sigma = known.least_sigma(0.3)
    assert known.rate(sigma).mean <= 0.3 < known.rate(0.97 * sigma).mean + 0.01
    assert known.least_sigma(0.3) == sigma  # the same draws
    assert known.least_sigma(0.05) == math.inf  # a guess finds one of twelve


@pytest.mark.parametrize(
    "defense, least, most",
    [
        (LAPLACE.at("feature", 0.5), 0.5, 0.99),
        (LAPLACE.at("feature", 1e3), 0.03, 0.15),
        (DROPOUT.at("feature", 0.9), 0.35, 0.55),  # what is dropped altogether leaves a guess
        (QUANTIZE.at("feature", 1), 0.4, 1.0),
        (NONE, 1.0, 1.0),
    ],
    ids=["laplace", "much laplace", "dropout", "quantize", "none"],
)
def test_every_defense_with_a_likelihood_has_a_rate(defense, least, most):
    assert least <= rate(defense).mean <= most


def test_several_releases_raise_the_rate():
    defense = GAUSSIAN.at("feature", 2.0)
    assert rate(defense).interval().high < rate(defense, releases=4).interval().low


@pytest.mark.parametrize(
    "defense",
    [
        GAUSSIAN.at("input", 1.0),
        DROPOUT.at("feature", 0.5) + GAUSSIAN.at("feature", 1.0),
        defenses.Mechanism("own", lambda key, x, level: x).at("feature", 1.0),
    ],
    ids=["input", "composed", "own"],
)
def test_without_a_likelihood_there_is_no_rate(defense):
    assert rate(defense) is None
