"""RMSE and correlation of series and rows of tables."""

import numpy as np

from jaxinv.constants.kinds import SERIES, TABLE
from jaxinv.inputs import columns
from jaxinv.measures import closeness, quality

RNG = np.random.default_rng(0)
TAKEN = RNG.normal(10, [1, 20, 300], (50, 3))
KNOWN = columns.measured(TAKEN, TABLE)
ROWS = KNOWN.to_unit(TAKEN).astype(np.float32)


def test_an_error_is_told_in_the_unit_of_its_column():
    moved = ROWS + np.float32([0.1, 0, 0])
    inside = np.clip(moved, 0, 1) - ROWS
    error = closeness.rmse_by_column(ROWS, moved, KNOWN)
    np.testing.assert_allclose(error[1:], 0)
    expected = np.sqrt((inside[..., 0].astype(float) ** 2).mean()) * KNOWN.width[0]
    np.testing.assert_allclose(error[0], expected)


def test_who_answers_the_mean_row_knows_nothing():
    mean = np.broadcast_to(np.float32(KNOWN.center), ROWS.shape)
    np.testing.assert_allclose(closeness.correlation(ROWS, mean, KNOWN), 0, atol=1e-5)
    np.testing.assert_allclose(closeness.correlation(ROWS, ROWS, KNOWN), 1)
    halfway = (ROWS + mean) / 2
    np.testing.assert_allclose(closeness.correlation(ROWS, halfway, KNOWN), 1, atol=1e-5)


def test_series_correlate_over_time_channel_by_channel():
    time = np.linspace(0, 6, 40)
    taken = np.stack([np.sin(time), 100 * np.cos(time)], axis=-1)[None]
    known = columns.measured(taken, SERIES)
    series = known.to_unit(taken)
    turned = np.stack([series[..., 0], 1 - series[..., 1]], axis=-1)
    np.testing.assert_allclose(closeness.correlation(series, turned, known), 0, atol=1e-9)


def test_quality_of_rows_has_the_range_as_its_peak():
    found = ROWS + np.float32(0)
    found[3] = np.nan
    measured = quality.evaluate(ROWS, found, KNOWN)
    assert measured.diverged.tolist() == [n == 3 for n in range(50)]
    assert np.isnan(measured.psnr[3]) and np.isnan(measured.ssim[3])
    assert measured.psnr[0] == quality.PSNR_CAP and measured.ssim[0] == 1
    moved = quality.psnr(ROWS, np.where(ROWS > 0.5, ROWS - 0.1, ROWS + 0.1).astype(np.float32))
    np.testing.assert_allclose(moved, 20, atol=1e-3)
