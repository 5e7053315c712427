"""Ranges of columns: unit space and back, and networks that take values in their units."""

import numpy as np
import pytest

from jaxinv.constants.kinds import SERIES, TABLE
from jaxinv.errors import UsageError
from jaxinv.inputs import columns

VALUES = np.array([[1.0, -20.0, 7.0], [3.0, 20.0, 7.0], [2.0, 0.0, 7.0]])


def test_the_range_of_what_is_measured_is_unit_space():
    found = columns.measured(VALUES, TABLE, names=["a", "b", "c"], units=["m", "", ""])
    unit = found.to_unit(VALUES)
    assert unit.shape == (3, 1, 1, 3) and found.grid == (1, 1, 3)
    np.testing.assert_allclose(unit[:, 0, 0], [[0, 0, 0], [1, 1, 0], [0.5, 0.5, 0]])
    np.testing.assert_allclose(found.to_values(unit)[:, 0, 0], VALUES)
    assert columns.from_facts(found.facts) == found
    assert found.fields["columns"][0] == {"name": "a", "unit": "m", "low": 1.0, "high": 3.0}


def test_channels_of_series_share_a_range_over_time():
    series = np.arange(24.0).reshape(2, 4, 3)
    found = columns.measured(series, SERIES)
    assert found.low == (0, 1, 2) and found.high == (21, 22, 23) and found.grid == (4, 1, 3)
    assert found.to_unit(series).shape == (2, 4, 1, 3)


def test_a_network_of_values_is_one_of_unit_space():
    found = columns.measured(VALUES, TABLE)
    mean, std = found.normalization([2, 0, 7], [0.5, 10, 1])
    expected = (VALUES - [2, 0, 7]) / [0.5, 10, 1]
    np.testing.assert_allclose((found.to_unit(VALUES)[:, 0, 0] - mean) / std, expected)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"names": ["a"]}, "columns=1 words: expected one for each of 3 columns"),
        ({"low": [0, 0]}, "low=[0, 0]: expected a number for each of 3 columns"),
        ({"low": 0, "high": [1, 1, 0]}, "high=0: expected more than low, 0, in column 2"),
    ],
)
def test_what_is_given_fits_the_columns(given, words):
    with pytest.raises(UsageError) as caught:
        columns.measured(VALUES, TABLE, **given)
    assert words in str(caught.value)
