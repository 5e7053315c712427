"""Bounds on re-identification."""

import math

import numpy as np
import pytest
from small_edge import EDGE

from jaxinv.measures import bounds, linkage


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
    drawn = bounds.total_variation(bounds.Channel(EDGE, "gaussian", 1.0), 3)
    assert found == pytest.approx(min(1.0, 1 / count + drawn), abs=1e-6)


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


@pytest.mark.parametrize("copies", [2, 10, 90])
@pytest.mark.parametrize("noise", ["gaussian", "laplace"])
def test_copies_are_found_as_often_as_they_occur(noise, copies):
    """Draws what the best attacker finds of 100 images, some of them copies: Bayes' rule."""
    rng = np.random.default_rng(4)
    features = rng.normal(size=(100, 6))
    features[:copies] = features[0]
    number = np.maximum(np.arange(100), copies - 1)
    for scale in (0.3, 2.0, 30.0):
        through = bounds.Channel(EDGE, noise, scale)
        draw = rng.normal if noise == "gaussian" else rng.laplace
        seen = features[:, None] + scale * draw(size=(100, 30, 6))
        apart = np.abs(seen[:, :, None] - features) / scale
        logs = -(apart**2 / 2 if noise == "gaussian" else apart).sum(axis=-1)
        logs[..., copies - 1] += np.log(copies)
        logs[..., : copies - 1] = -np.inf
        found = (logs.argmax(axis=-1) == number[:, None]).mean()
        bound = bounds.fano(through, features, copies / 100)
        assert max(found, copies / 100) <= bound + 0.01 * (bound < 1)  # of 3,000 draws
    assert bound < copies / 100 + 0.1  # behind much noise little more than a constant answer finds


def test_a_constant_answer_that_finds_nine_of_ten_is_not_certified_away():
    images = np.random.default_rng(0).random((100, 4, 4, 1)).astype("f")
    images[:90] = images[0]
    assert linkage.commonest(images) == 0.9
    constant = np.broadcast_to(images[:1], images.shape)
    assert linkage.reidentified(constant, images).mean() == 0.9
    through = bounds.Channel(EDGE, "gaussian", 1e3)
    assert 0.9 <= bounds.fano(through, images, linkage.commonest(images)) < 0.95
    assert bounds.reid_sigma(images, 0.5, 0.9) == math.inf


def test_copies_in_brightness_are_one_for_the_metric_and_for_the_bound():
    base = 0.5 * np.random.default_rng(1).random((20, 4, 4, 1)).astype("f")
    base[1:10] = base[0] * np.linspace(0.5, 1.5, 9, dtype="f")[:, None, None, None] + 0.1
    share = linkage.commonest(base)
    assert share == 0.5
    constant = np.broadcast_to(base[:1], base.shape)
    assert linkage.reidentified(constant, base).mean() == share


def test_one_answer_finds_one_image_even_if_all_tie():
    """Solves for an answer that correlates with every image equally."""
    images = np.random.default_rng(2).random((10, 8, 8, 1)).astype("f")
    rows = images.reshape(10, -1).astype(float)
    rows -= rows.mean(axis=1, keepdims=True)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    mixed = rows.T @ np.linalg.solve(rows @ rows.T, np.ones(10))
    mixed = (0.5 + 0.4 * mixed / np.abs(mixed).max()).astype("f")
    answers = np.broadcast_to(mixed.reshape(1, 8, 8, 1), images.shape)
    assert np.ptp(rows @ (mixed - mixed.mean())) < 1e-6
    assert linkage.reidentified(answers, images).mean() <= linkage.commonest(images) == 0.1


def test_black_images_are_copies_too():
    images = np.zeros((10, 4, 4, 1), "f")
    images[7:] = np.random.default_rng(3).random((3, 4, 4, 1))
    assert linkage.commonest(images) == 0.7
