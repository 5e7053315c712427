"""Intervals of shares and of means, against SciPy's own and against the truth."""

import itertools

import numpy as np
import pytest
import scipy.stats

from jaxinv.measures import intervals
from jaxinv.measures.intervals import Score, Share


def test_summary_of_known_values():
    summary = intervals.summarise([1.0, 2.0, 3.0, 10.0])
    assert summary.mean == 4.0
    assert summary.median == 2.5
    assert summary.std == pytest.approx(np.sqrt(12.5))
    assert summary.low < summary.mean < summary.high


def test_summary_skips_what_is_not_finite():
    values = [1.0, 2.0, 3.0, 10.0]
    assert intervals.summarise([np.nan, *values, np.inf]) == intervals.summarise(values)


@pytest.mark.parametrize("values", [[], [np.nan, np.nan]])
def test_summary_of_nothing_is_nan(values):
    assert np.isnan(intervals.summarise(values)).all()
    assert np.isnan(intervals.summarise_share(values)).all()


def test_one_value_has_no_interval_and_one_score_or_trial_has():
    assert intervals.summarise([7.25])[:3] == (7.25, 0.0, 7.25)
    assert intervals.summarise_scores([0.5], least=0, most=1)[3:] == pytest.approx((0.0125, 0.9875))
    assert np.isnan(intervals.summarise([7.25])[3:]).all()
    assert intervals.summarise_share([True])[3:] == pytest.approx((0.025, 1.0))


def test_a_mean_has_students_interval_within_its_bounds():
    values = np.random.default_rng(1).exponential(10.0, size=7)
    expected = scipy.stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert intervals.summarise(values)[3:] == pytest.approx(tuple(expected))
    assert intervals.summarise([0.9, 0.99, 1.0], most=1).high == 1.0


@pytest.mark.parametrize("number", [2, 5, 20])
def test_intervals_of_normal_values_hold_the_mean_as_often_as_they_say(number):
    rng = np.random.default_rng(0)
    tries = [intervals.student(row).interval() for row in rng.normal(size=(2000, number))]
    assert np.mean([low <= 0 <= high for low, high in tries]) > 0.935


@pytest.mark.parametrize(
    "hits, number", [(0, 64), (1, 64), (5, 12), (64, 64), (0, 1), (9917, 10000)]
)
@pytest.mark.parametrize("confidence", [0.95, 0.9875])
def test_a_share_has_exact_limits(hits, number, confidence):
    expected = scipy.stats.binomtest(hits, number).proportion_ci(confidence, "exact")
    assert Share(hits / number, number).interval(confidence) == pytest.approx(tuple(expected))


def test_none_of_64_is_not_nothing():
    assert Share(0.0, 64).interval() == pytest.approx((0.0, 0.0560), abs=1e-4)


def test_a_count_between_two_has_the_wider_limits():
    """As of means over draws."""
    low, high = Share(2.5 / 20, 20).interval()
    assert low == Share(2 / 20, 20).interval().low
    assert high == Share(3 / 20, 20).interval().high


@pytest.mark.parametrize("number", [12, 64])
def test_limits_of_means_are_missed_no_more_often_than_they_say(number):
    """Images that are each identified in no draw, in half or in all: laws with exact sums."""
    for never, half in itertools.product(np.linspace(0, 1, 11), repeat=2):
        if never + half > 1:
            continue
        law = np.array([never, half, 1 - never - half])
        sums = np.ones(1)
        for _ in range(number):
            sums = np.convolve(sums, law)
        truth = half / 2 + law[2]
        ends = [Share(k / 2 / number, number, means=True).interval() for k in range(2 * number + 1)]
        above = sum(p for p, end in zip(sums, ends, strict=True) if end.low > truth)
        below = sum(p for p, end in zip(sums, ends, strict=True) if end.high < truth)
        assert max(above, below) <= 0.025


def test_limits_of_means_are_of_half_the_tail():
    expected = scipy.stats.binomtest(3, 40).proportion_ci(0.975, "exact")
    assert Share(3 / 40, 40, means=True).interval() == pytest.approx(tuple(expected))


@pytest.mark.parametrize("values, means", [([0, 1, 1, 0], False), ([0, 1, 0.5, 0.5], True)])
def test_a_mean_over_draws_is_told_by_its_values(values, means):
    found = intervals.summarise_share(values)
    assert (found.low, found.high) == Share(0.5, 4, means=means).interval()


@pytest.mark.parametrize("limit", [0.1, 0.05, 0.01])
def test_as_many_images_as_are_needed_settle_a_share_and_one_less_does_not(limit):
    number = Share(0.0, 8).needed(limit)
    assert Share(0.0, number).interval().high < limit <= Share(0.0, number - 1).interval().high


def test_images_that_settle_a_share_on_either_side():
    below, above = Share(0.05, 20).needed(0.1), Share(0.2, 20).needed(0.1)
    assert Share(np.ceil(0.05 * below) / below, below).interval().high < 0.1
    assert Share(np.floor(0.2 * above) / above, above).interval().low > 0.1
    assert Share(0.1, 20).needed(0.1) is None


@pytest.mark.parametrize("mean, limit", [(0.9769, 0.9765), (0.005, 0.01)])
def test_a_share_far_off_its_mean_settles_nothing(mean, limit):
    """One image is none or all of it, on the other side of the limit."""
    number = Share(mean, 10_000).needed(limit)
    low, high = Share(mean, number).interval()
    assert number > 1000 and (low > limit or high < limit)


def test_images_that_settle_a_mean():
    """As many as the spread asks for, and not many more."""
    number = Score((0.148, 0.348) * 25).needed(0.25)
    assert 1 < number / (1.96 * 0.1 / 0.002) ** 2 < 4
    assert Score((0.15, 0.35)).needed(0.25) is None
    assert Score((0.2,)).needed(0.25) is None  # one image tells no distribution
    assert Score((0.15, 0.35 - 1e-12)).needed(0.25) is None


@pytest.mark.parametrize(
    "mean, ends, told",
    [
        (0.0, (0.0, 0.056), "0.000 [0.000, 0.056]"),
        (0.5, (None, None), "0.500"),
        (1.0, (1.0, 1.0), "1.000"),
        (None, (None, None), "-"),
    ],
)
def test_an_interval_in_words(mean, ends, told):
    assert intervals.told(mean, ends, ".3f") == told
