"""Intervals over networks and images, against a simulated truth and against Student's."""

import numpy as np
import pytest

from jaxinv.measures import crossed, intervals


@pytest.mark.parametrize(("networks", "images"), [(2, 30), (3, 100), (10, 32)])
@pytest.mark.parametrize(("spread", "own"), [(2.0, 1.0), (0.1, 2.0), (1.0, 0.1)])
def test_an_interval_holds_the_mean_as_often_as_it_says(networks, images, spread, own):
    """Images alone, or every try as if it were another image, hold it far more seldom."""
    rng = np.random.default_rng(0)
    hits, naive = 0, 0
    for _ in range(400):
        values = spread * rng.normal(size=(networks, 1)) + own * rng.normal(size=images)
        values += 0.5 * rng.normal(size=(networks, images))
        low, high = crossed.interval(values.mean(axis=1), values.mean(axis=0))
        hits += low <= 0 <= high
        low, high = intervals.student(values.ravel()).interval()
        naive += low <= 0 <= high
    assert hits > 0.93 * 400 and naive < hits


def test_one_network_or_one_image_has_the_others_interval():
    values = np.random.default_rng(0).normal(size=8)
    student = intervals.student(values).interval()
    for ends in (crossed.interval([values.mean()], values), crossed.interval(values, [1.0])):
        assert list(ends) == pytest.approx(list(student))
    assert crossed.interval([1.0], [1.0]) == intervals.Ends()


def test_an_interval_is_within_its_bounds():
    assert crossed.interval([0.5, 1.0], [0.9, 1.0, 1.0], least=-1, most=1).high == 1.0
    assert crossed.interval([1.0, 1.0], [1.0, 1.0]) == (1.0, 1.0)


def test_a_widened_interval_allows_for_rare_leaks_and_for_other_networks():
    """Three shadows that differ, on 64 images of which one in a hundred leaks."""
    rng = np.random.default_rng(0)
    missed = []
    for _ in range(100):
        images = np.where(rng.random(64) < 0.01, 0.8, 0.1)
        values = images + 0.02 * rng.normal(size=(3, 1)) + 0.01 * rng.normal(size=(3, 64))
        sample = intervals.score(values.mean(axis=0), least=-1, most=1)
        low, high = crossed.widened(sample, values.mean(axis=1), least=-1, most=1)
        missed.append(not low <= 0.107 <= high)
    assert np.mean(missed) <= 0.05
    alone = intervals.score([0.1] * 64, least=-1, most=1)
    assert crossed.widened(alone, [0.1], least=-1, most=1) == alone.interval()
    assert crossed.widened(None, [0.1, 0.2], least=-1, most=1) == intervals.Ends()
