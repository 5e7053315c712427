"""Summaries over images, against SciPy's bootstrap."""

import numpy as np
import pytest
import scipy.stats

from jaxinv.measures import intervals


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


def test_summary_of_one_value():
    assert intervals.summarise([7.25]) == (7.25, 0.0, 7.25, 7.25, 7.25)


def test_interval_agrees_with_scipys_bootstrap_and_is_reproducible():
    values = np.random.default_rng(1).exponential(10.0, size=300)
    summary = intervals.summarise(values)
    expected = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=2000, method="percentile", rng=np.random.default_rng(5)
    ).confidence_interval
    tolerance = 0.05 * (expected.high - expected.low)
    assert summary.low == pytest.approx(expected.low, abs=tolerance)
    assert summary.high == pytest.approx(expected.high, abs=tolerance)
    assert intervals.summarise(values) == summary
