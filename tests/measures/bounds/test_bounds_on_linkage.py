"""Bounds on re-identification."""

import math

import numpy as np
import pytest
from small_edge import EDGE

from jaxinv.measures import bounds


@pytest.mark.parametrize("noise", ["gaussian", "laplace"])
def test_nobody_finds_more_than_fano_allows(noise):
    rng = np.random.default_rng(2)
    features = rng.normal(size=(50, 20))
    last = 1.1
    for scale in (0.3, 1.0, 3.0, 10.0, 100.0):
        bound = bounds.fano(bounds.Channel(EDGE, noise, scale), features)
        draw = rng.normal if noise == "gaussian" else rng.laplace
        seen = features[:, None] + scale * draw(size=(50, 200, 20))
        apart = np.abs(seen[:, :, None] - features) ** (2 if noise == "gaussian" else 1)
        found = apart.sum(axis=-1).argmin(axis=-1) == np.arange(50)[:, None]
        assert found.mean() <= bound <= last
        last = bound
    assert last < 0.15  # chance is .02; the bound tells something
    assert bounds.fano(bounds.Channel(EDGE, noise, 1e-3), features) == 1


@pytest.mark.parametrize("count", [2, 3, 10, 50, 1000])
def test_where_nothing_is_told_one_can_only_guess_who_it_is(count):
    found = bounds.fano(bounds.Channel(EDGE, "gaussian", 1.0), np.ones((count, 3)))
    assert found == pytest.approx(1 / count, abs=1e-6)


def test_dropout_certifies_nothing_of_retrieval():
    assert bounds.fano(bounds.Channel(EDGE, "dropout", 0.9), np.ones((5, 3))) == 1


def test_the_noise_that_is_wanted_is_the_least():
    features = np.random.default_rng(3).normal(size=(40, 10))
    sigma = bounds.reid_sigma(features, 0.25)
    assert bounds.fano(bounds.Channel(EDGE, "gaussian", sigma), features) <= 0.25
    assert bounds.fano(bounds.Channel(EDGE, "gaussian", 0.99 * sigma), features) > 0.25
    assert bounds.reid_sigma(features, 0.0) == math.inf


def test_bisection_finds_where_a_bound_falls_to():
    assert bounds.least_noise(lambda scale: 1 / scale, 0.25) == pytest.approx(4, rel=2e-3)
    assert bounds.least_noise(lambda scale: math.nan, 0.25) == math.inf
