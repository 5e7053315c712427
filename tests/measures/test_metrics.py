import numpy as np
import pytest
import scipy.stats
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from jaxinv.errors import UserError
from jaxinv.machine import devices
from jaxinv.measures import metrics


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
    devices._apply.clear_cache()
    for count in (0, 1, 4, 9):
        quality = metrics.evaluate(*pairs((count, 16, 16, 1)), chunk_size=4)
        assert [len(values) for values in quality] == [count] * 4
    assert devices._apply._cache_size() == 1


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


def best_by_scipy(reconstructions, gallery):
    """For each reconstruction, the place in the gallery of the image that correlates most."""
    return [
        int(np.argmax([scipy.stats.pearsonr(x.ravel(), y.ravel()).statistic for y in gallery]))
        for x in np.clip(reconstructions, 0, 1).astype(np.float64)
    ]


@pytest.mark.parametrize("shape", [(12, 9, 7, 1), (12, 6, 6, 3)])
def test_reidentified_is_the_best_correlation(shape):
    gallery, reconstructions = pairs(shape, noise=1.5)
    found = metrics.reidentified(reconstructions[:8], gallery, chunk_size=3)
    best = best_by_scipy(reconstructions[:8], gallery)
    assert found.dtype == bool
    assert found.tolist() == [place == i for i, place in enumerate(best)]
    assert 0 < found.sum() < 8


def test_reidentified_whatever_brightness_and_contrast():
    gallery, _ = pairs((20, 8, 8, 3))
    for changed in (gallery, 0.5 + 0.01 * gallery, 0.3 * gallery, 0.5 + 1e-6 * gallery):
        assert metrics.reidentified(changed, gallery).all()
    assert not metrics.reidentified(1 - gallery, gallery).any()
    assert not metrics.reidentified(np.roll(gallery, 1, axis=0), gallery).any()


def test_reidentified_by_chance_is_one_of_the_gallery():
    rng = np.random.default_rng(0)
    gallery, guesses = rng.random((20, 8, 8, 1)), rng.random((20, 8, 8, 1))
    shares = [metrics.reidentified(guesses, np.roll(gallery, i, axis=0)) for i in range(20)]
    assert np.mean(shares) == pytest.approx(1 / 20)  # each guess has one best image


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_and_constant_reconstructions_are_never_reidentified(bad):
    gallery, _ = pairs((5, 8, 8, 1))
    reconstructions = gallery.copy()
    reconstructions[1, 2, 3, 0] = bad
    reconstructions[2] = 0.1  # its mean in float32 is not quite 0.1
    reconstructions[3] += 2  # constant once it is clipped
    found = metrics.reidentified(reconstructions, gallery)
    assert found.tolist() == [True, False, False, False, True]
    assert not metrics.reidentified(reconstructions[2:3], gallery[2:3]).any()


def test_duplicates_in_the_gallery_are_one_image():
    gallery, reconstructions = pairs((101, 13, 11, 1), noise=0.05)
    gallery[[40, 63, 100]] = gallery[0]
    reconstructions[[40, 63, 100]] = reconstructions[0]
    assert metrics.reidentified(reconstructions, gallery).all()


def test_constant_images_in_the_gallery_are_no_match():
    gallery, reconstructions = pairs((4, 8, 8, 1), noise=0.05)
    gallery[2] = 0.1
    assert metrics.reidentified(reconstructions, gallery).tolist() == [True, True, False, True]
    assert metrics.reidentified(reconstructions[2:3], gallery[2:3]).tolist() == [False]


def test_one_program_reidentifies_every_number_of_images():
    gallery, reconstructions = pairs((9, 8, 8, 1))
    whole = metrics.reidentified(reconstructions, gallery, chunk_size=9)
    devices._apply.clear_cache()
    for count in (0, 1, 4, 9):
        found = metrics.reidentified(reconstructions[:count], gallery, chunk_size=4)
        assert found.tolist() == whole[:count].tolist()
    assert devices._apply._cache_size() == 1


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((2, 8, 8, 1), (2, 8, 9, 1)), "one image shape"),
        (((8, 8), (8, 8)), "one image shape"),
        (((3, 8, 8, 1), (2, 8, 8, 1)), "3 reconstructions and 2 images"),
    ],
)
def test_a_gallery_must_fit(shapes, message):
    with pytest.raises(ValueError, match=message):
        metrics.reidentified(*(np.zeros(shape, np.float32) for shape in shapes))


@pytest.mark.parametrize("wrong", [lambda x: 255 * x, lambda x: x * np.nan])
def test_a_gallery_out_of_unit_space_is_refused(wrong):
    gallery, reconstructions = pairs((2, 8, 8, 1))
    with pytest.raises(ValueError, match="a gallery in unit space"):
        metrics.reidentified(reconstructions, wrong(gallery))


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


def test_tries_are_scored_by_their_mean_and_divergence_is_worthless():
    originals = np.full((2, 12, 12, 1), 0.5, np.float32)
    near = originals + 0.1
    broken = near.copy()
    broken[0] = np.nan
    tries = np.stack([originals, near, broken])
    np.testing.assert_allclose(metrics.scores(originals, tries), [100, 20, 10], rtol=1e-5)
    assert metrics.scores(originals, np.stack([tries, tries])).shape == (6,)
