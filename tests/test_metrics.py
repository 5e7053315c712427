import numpy as np
import pytest
import scipy.stats
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from jaxinv import metrics
from jaxinv.errors import UserError


def pairs(shape, *, noise=0.2, seed=0):
    """Smooth originals in unit space, and noisy reconstructions that leave it."""
    rng = np.random.default_rng(seed)
    coarse = rng.random(shape)
    originals = (coarse + np.roll(coarse, 1, axis=1) + np.roll(coarse, 1, axis=2)) / 3
    return originals.astype(np.float32), (originals + noise * rng.standard_normal(shape)).astype(
        np.float32
    )


@pytest.mark.parametrize("noise", [0.003, 0.05, 0.5])
@pytest.mark.parametrize("shape", [(3, 28, 28, 1), (3, 32, 32, 3), (2, 11, 19, 1)])
def test_agrees_with_scikit_image(shape, noise):
    originals, reconstructions = pairs(shape, noise=noise)
    quality = metrics.evaluate(originals, reconstructions)
    clipped = np.clip(reconstructions, 0, 1)
    psnr = [
        peak_signal_noise_ratio(x, y, data_range=1.0)
        for x, y in zip(originals, clipped, strict=True)
    ]
    ssim = [
        structural_similarity(
            x,
            y,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1.0,
            channel_axis=-1,
        )
        for x, y in zip(originals, clipped, strict=True)
    ]
    np.testing.assert_allclose(quality.psnr, psnr, atol=1e-3)
    np.testing.assert_allclose(quality.ssim, ssim, atol=1e-5)


def test_black_against_white_is_zero_db():
    black = np.zeros((1, 28, 28, 1), np.float32)
    assert metrics.evaluate(black, black + 1).psnr == pytest.approx(0.0, abs=1e-5)


def test_an_exact_match_is_capped():
    originals, _ = pairs((2, 28, 28, 1))
    quality = metrics.evaluate(originals, originals)
    assert (quality.psnr == metrics.PSNR_CAP).all()
    np.testing.assert_allclose(quality.ssim, 1.0, atol=1e-6)


def test_exact_means_equal_after_rounding_to_8_bits():
    originals = np.full((3, 12, 12, 1), 100 / 255, np.float32)
    reconstructions = originals.copy()
    reconstructions[1, 5, 5] += 0.4 / 255
    reconstructions[2, 5, 5] += 0.6 / 255
    assert metrics.evaluate(originals, reconstructions).exact.tolist() == [True, True, False]


def test_exact_is_judged_after_clipping():
    originals = np.ones((1, 12, 12, 1), np.float32)
    assert metrics.evaluate(originals, originals + 3).exact.all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_non_finite_pixel_marks_its_image_alone(bad):
    originals, reconstructions = pairs((3, 28, 28, 1))
    clean = metrics.evaluate(originals, reconstructions)
    reconstructions[1, 3, 4, 0] = bad
    quality = metrics.evaluate(originals, reconstructions)
    assert quality.diverged.tolist() == [False, True, False]
    assert np.isnan(quality.psnr).tolist() == [False, True, False]
    assert np.isnan(quality.ssim).tolist() == [False, True, False]
    assert not quality.exact[1]
    np.testing.assert_array_equal(quality.psnr[[0, 2]], clean.psnr[[0, 2]])


def test_values_do_not_depend_on_the_chunk_size():
    originals, reconstructions = pairs((7, 16, 16, 3))
    whole = metrics.evaluate(originals, reconstructions, chunk_size=7)
    for chunk_size in (1, 3, 250):
        parts = metrics.evaluate(originals, reconstructions, chunk_size=chunk_size)
        for expected, got in zip(whole, parts, strict=True):
            assert got.shape == (7,)
            np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_one_program_serves_every_number_of_images():
    metrics._compare.clear_cache()
    for count in (0, 1, 4, 9):
        quality = metrics.evaluate(*pairs((count, 16, 16, 1)), chunk_size=4)
        assert [len(values) for values in quality] == [count] * 4
    assert metrics._compare._cache_size() == 1


def test_images_below_the_window_are_a_users_mistake():
    with pytest.raises(UserError, match="at least 11x11 pixels, got 10x28"):
        metrics.evaluate(*pairs((2, 10, 28, 1)))


@pytest.mark.parametrize("shapes", [((2, 28, 28, 1), (3, 28, 28, 1)), ((28, 28), (28, 28))])
def test_shapes_must_match(shapes):
    with pytest.raises(ValueError, match="one shape"):
        metrics.evaluate(*(np.zeros(shape, np.float32) for shape in shapes))


@pytest.mark.parametrize("wrong", [lambda x: 255 * x, lambda x: 2 * x - 1, lambda x: x * np.nan])
def test_originals_out_of_unit_space_are_refused(wrong):
    originals, reconstructions = pairs((2, 28, 28, 1))
    with pytest.raises(ValueError, match="unit space"):
        metrics.evaluate(wrong(originals), reconstructions)


def test_summary_of_known_values():
    summary = metrics.summarise([1.0, 2.0, 3.0, 10.0])
    assert summary.mean == 4.0
    assert summary.median == 2.5
    assert summary.std == pytest.approx(np.sqrt(12.5))
    assert summary.low < summary.mean < summary.high


def test_summary_skips_what_is_not_finite():
    values = [1.0, 2.0, 3.0, 10.0]
    assert metrics.summarise([np.nan, *values, np.inf]) == metrics.summarise(values)


@pytest.mark.parametrize("values", [[], [np.nan, np.nan]])
def test_summary_of_nothing_is_nan(values):
    assert np.isnan(metrics.summarise(values)).all()


def test_summary_of_one_value():
    assert metrics.summarise([7.25]) == (7.25, 0.0, 7.25, 7.25, 7.25)


def test_interval_agrees_with_scipys_bootstrap_and_is_reproducible():
    values = np.random.default_rng(1).exponential(10.0, size=300)
    summary = metrics.summarise(values)
    expected = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=2000, method="percentile", rng=np.random.default_rng(5)
    ).confidence_interval
    tolerance = 0.05 * (expected.high - expected.low)
    assert summary.low == pytest.approx(expected.low, abs=tolerance)
    assert summary.high == pytest.approx(expected.high, abs=tolerance)
    assert metrics.summarise(values) == summary
