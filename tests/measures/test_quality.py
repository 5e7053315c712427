"""PSNR, SSIM and exactness, against scikit-image."""

import numpy as np
import pytest
from pairs import pairs
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from jaxinv.errors import UsageError, UserError
from jaxinv.machine import devices
from jaxinv.measures import quality


@pytest.mark.parametrize("noise", [0.003, 0.05, 0.5])
@pytest.mark.parametrize("shape", [(3, 28, 28, 1), (3, 32, 32, 3), (2, 11, 19, 1)])
def test_agrees_with_scikit_image(shape, noise):
    originals, reconstructions = pairs(shape, noise=noise)
    found = quality.evaluate(originals, reconstructions)
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
    np.testing.assert_allclose(found.psnr, psnr, atol=1e-3)
    np.testing.assert_allclose(found.ssim, ssim, atol=1e-5)


def test_black_against_white_is_zero_db():
    black = np.zeros((1, 28, 28, 1), np.float32)
    assert quality.evaluate(black, black + 1).psnr == pytest.approx(0.0, abs=1e-5)


def test_an_exact_match_is_capped():
    originals, _ = pairs((2, 28, 28, 1))
    found = quality.evaluate(originals, originals)
    assert (found.psnr == quality.PSNR_CAP).all()
    np.testing.assert_allclose(found.ssim, 1.0, atol=1e-6)


def test_exact_means_equal_after_rounding_to_8_bits():
    originals = np.full((3, 12, 12, 1), 100 / 255, np.float32)
    reconstructions = originals.copy()
    reconstructions[1, 5, 5] += 0.4 / 255
    reconstructions[2, 5, 5] += 0.6 / 255
    assert quality.evaluate(originals, reconstructions).exact.tolist() == [True, True, False]


def test_exact_is_judged_after_clipping():
    originals = np.ones((1, 12, 12, 1), np.float32)
    assert quality.evaluate(originals, originals + 3.5).exact.all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_non_finite_pixel_marks_its_image_alone(bad):
    originals, reconstructions = pairs((3, 28, 28, 1))
    clean = quality.evaluate(originals, reconstructions)
    reconstructions[1, 3, 4, 0] = bad
    found = quality.evaluate(originals, reconstructions)
    assert found.diverged.tolist() == [False, True, False]
    assert np.isnan(found.psnr).tolist() == [False, True, False]
    assert np.isnan(found.ssim).tolist() == [False, True, False]
    assert not found.exact[1]
    np.testing.assert_array_equal(found.psnr[[0, 2]], clean.psnr[[0, 2]])


def test_values_do_not_depend_on_the_chunk_size():
    originals, reconstructions = pairs((7, 16, 16, 3))
    whole = quality.evaluate(originals, reconstructions, chunk_size=7)
    for chunk_size in (1, 3, 250):
        parts = quality.evaluate(originals, reconstructions, chunk_size=chunk_size)
        for expected, got in zip(whole, parts, strict=True):
            assert got.shape == (7,)
            np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_one_program_serves_every_number_of_images():
    devices._apply.clear_cache()
    for count in (0, 1, 4, 9):
        found = quality.evaluate(*pairs((count, 16, 16, 1)), chunk_size=4)
        assert [len(values) for values in found] == [count] * 4
    assert devices._apply._cache_size() == 1


def test_images_below_the_window_are_a_users_mistake():
    with pytest.raises(UserError, match="at least 11x11 pixels, got 10x28"):
        quality.evaluate(*pairs((2, 10, 28, 1)))


@pytest.mark.parametrize("shapes", [((2, 28, 28, 1), (3, 28, 28, 1)), ((28, 28), (28, 28))])
def test_shapes_must_match(shapes):
    with pytest.raises(UsageError, match=r"expected images \[N, H, W, C\]|shape of the originals"):
        quality.evaluate(*(np.zeros(shape, np.float32) for shape in shapes))


@pytest.mark.parametrize("wrong", [lambda x: 255 * x, lambda x: 2 * x - 1, lambda x: x * np.nan])
def test_originals_out_of_unit_space_are_refused(wrong):
    originals, reconstructions = pairs((2, 28, 28, 1))
    with pytest.raises(UsageError, match="^originals=float32 .*expected unit space"):
        quality.evaluate(wrong(originals), reconstructions)


def test_tries_are_scored_by_their_mean_and_divergence_is_worthless():
    originals = np.full((2, 12, 12, 1), 0.5, np.float32)
    near = originals + 0.1
    broken = near.copy()
    broken[0] = np.nan
    tries = np.stack([originals, near, broken])
    np.testing.assert_allclose(quality.scores(originals, tries), [100, 20, 10], rtol=1e-5)
    assert quality.scores(originals, np.stack([tries, tries])).shape == (6,)


@pytest.mark.parametrize("shape", [(3, 4, 12, 12, 1), (5, 12, 12, 1), (2, 5, 12, 1)])
def test_tries_at_other_images_are_refused(shape):
    originals = np.zeros((5, 12, 12, 1), np.float32)
    with pytest.raises(UsageError, match=r"tries=\(.*\): expected \(T, 5, 12, 12, 1\)"):
        quality.scores(originals, np.zeros(shape, np.float32))
