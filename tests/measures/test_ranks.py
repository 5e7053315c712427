"""Rank correlations and their intervals."""

import math

import numpy as np
import pytest
from scipy import stats

from jaxinv.measures import ranks


def test_ranks_are_those_of_scipy_ties_and_all():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 6, (2, 40)).astype(float)
    assert ranks.spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    assert ranks.spearman(x, np.exp(x)) == pytest.approx(1)
    assert math.isnan(ranks.spearman(x, np.ones(40)))


def test_an_interval_holds_the_value_and_is_wider_over_groups():
    rng = np.random.default_rng(1)
    group = np.repeat(list("abcdef"), 10)
    shift = np.repeat(rng.normal(size=(2, 6)), 10, axis=1)  # each group is a cloud of its own
    x, y = shift + 0.3 * rng.normal(size=(2, 60))
    alone, grouped = ranks.correlation(x, y, ["a"] * 60), ranks.correlation(x, y, group)
    assert alone.value == grouped.value and alone.number == 60
    assert alone.low < alone.value < alone.high
    assert grouped.high - grouped.low > 1.5 * (alone.high - alone.low)
    assert grouped == ranks.correlation(x, y, group)


def test_order_inside_groups_does_not_see_how_groups_differ():
    x = np.array([1.0, 2, 3, 4, 11, 12, 13, 14, 5])
    y = np.array([4.0, 3, 2, 1, 14, 13, 12, 11, 9])
    groups = [*"aaaabbbb", "alone"]
    assert ranks.spearman(x, y) > 0
    assert ranks.within(x, y, groups) == pytest.approx(-1)
    assert math.isnan(ranks.within(x[:3], y[:3], groups[:3]))
