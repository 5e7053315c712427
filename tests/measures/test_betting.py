"""Limits of the mean of scores in [0, 1], for whatever distribution, against the truth."""

import math

import numpy as np
import pytest
import scipy.optimize

from jaxinv.measures import betting
from jaxinv.measures.intervals import Score, student

DISTRIBUTIONS = {
    "one of a hundred leaks": (lambda rng, n: 0.55 + 0.45 * (rng.random(n) < 0.01), 0.5545),
    "one of a hundred is": (lambda rng, n: 1.0 * (rng.random(n) < 0.01), 0.01),
    "a coin": (lambda rng, n: 1.0 * (rng.random(n) < 0.5), 0.5),
    "beta": (lambda rng, n: rng.beta(0.3, 0.7, n), 0.3),
    "about normal": (lambda rng, n: np.clip(0.55 + 0.03 * rng.normal(size=n), 0, 1), 0.55),
    "constant": (lambda rng, n: np.full(n, 0.3), 0.3),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("number", [8, 64, 500])
def test_limits_hold_the_mean_at_least_as_often_as_they_say(name, number):
    draw, mean = DISTRIBUTIONS[name]
    rng = np.random.default_rng(0)
    tries = 1500 if number < 100 else 500
    missed = [
        betting.rules_out(tuple(draw(rng, number).tolist()), mean, number, 0.025)
        for _ in range(tries)
    ]
    assert np.mean(missed) <= 0.05


def test_a_rare_leak_is_allowed_for():
    """SSIM 1 in 1% of images and .1 in others: without one among 64, Student's interval is none."""
    rng = np.random.default_rng(0)
    studies = np.where(rng.random((100, 64)) < 0.01, 1.0, 0.1 + 0.01 * rng.normal(size=(100, 64)))
    by_student = [student(each).interval().high < 0.108 for each in studies]
    by_betting = [Score(tuple(each)).interval().high < 0.108 for each in studies]
    assert np.mean(by_student) > 0.4 and not any(by_betting)


def slow(scores, tail):
    """The limit by one stake after the other."""
    least = min(1.0, 2 / math.sqrt(len(scores)))
    count = 1 + round(2 * math.log2(1 / least))
    bets = [1.0 if count == 1 else least ** (1 - k / (count - 1)) for k in range(count)]

    def left(mean):
        stakes = []
        for bet in bets:
            stake = 1.0
            for score in scores:
                stake *= 1 - bet + bet * score / mean
            stakes.append(stake)
        return sum(stakes) / len(stakes) - 1 / tail

    return scipy.optimize.brentq(left, 1e-3, np.mean(scores), xtol=1e-13)


@pytest.mark.parametrize("number, tail", [(3, 0.025), (16, 0.025), (17, 0.01), (40, 0.0005)])
def test_limits_are_those_of_a_plain_implementation(number, tail):
    scores = np.random.default_rng(number).beta(2, 3, number)
    assert betting.lower(tuple(scores), tail) == pytest.approx(slow(scores, tail), abs=1e-9)
    assert betting.upper(tuple(scores), tail) == pytest.approx(1 - slow(1 - scores, tail), abs=1e-9)


def test_limits_as_they_have_always_been():
    scores = (0.55, 0.6, 0.5, 0.62, 0.71, 0.55, 0.58, 0.49)
    found = (betting.lower(scores, 0.025), betting.upper(scores, 0.025))
    assert found == pytest.approx((0.34374576, 0.74760938), abs=1e-7)
    assert betting.lower((0.0,) * 8, 0.025) == 0 and betting.upper((1.0,) * 8, 0.025) == 1


def test_the_order_of_scores_does_not_matter():
    scores = np.random.default_rng(0).random(50)
    other = np.random.default_rng(1).permutation(scores)
    for limit in (betting.lower, betting.upper):
        assert limit(tuple(scores), 0.025) == pytest.approx(limit(tuple(other), 0.025), abs=1e-9)


@pytest.mark.parametrize("number", [1, 2, 8, 100])
def test_who_wants_to_be_surer_has_a_wider_interval(number):
    scores = Score(tuple(np.random.default_rng(0).random(number) * 2 - 1))
    ends = [scores.interval(confidence) for confidence in (0.5, 0.9, 0.95, 0.99, 0.9999)]
    lows, highs = zip(*ends, strict=True)
    assert list(lows) == sorted(lows, reverse=True) and list(highs) == sorted(highs)
    assert all(-1 <= low < scores.mean < high <= 1 for low, high in ends)


def test_limits_of_many_images_are_not_much_wider_than_students():
    scores = np.clip(0.2 + 0.15 * np.random.default_rng(0).normal(size=1000), -1, 1)
    low, high = Score(tuple(scores)).interval()
    narrow = student(scores).interval()
    assert high - low < 1.8 * (narrow.high - narrow.low)


@pytest.mark.parametrize("limit", [0.25, -0.1])
def test_as_many_images_as_are_needed_settle_a_mean_and_one_less_does_not(limit):
    """The same scores again and again."""
    few = Score(tuple(0.1 + 0.2 * np.random.default_rng(0).normal(size=20)))
    unit = tuple((each + 1) / 2 for each in few.values)
    number = few.needed(limit)
    again = [
        betting.rules_out(unit, (limit + 1) / 2, count, 0.025) for count in (number - 1, number)
    ]
    assert again == [False, True]
    copies = Score(few.values * math.ceil(number / 20)).interval()
    assert copies.high < 0.25 if limit == 0.25 else copies.low > -0.1
