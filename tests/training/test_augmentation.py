"""Augmentation keeps images in range and moves them both ways."""

import jax
import numpy as np

from jaxinv.training import augmentation

crop = jax.jit(augmentation.crop)
jitter = jax.jit(augmentation.jitter)


def test_jitter_keeps_shape_and_range():
    images = np.random.default_rng(0).random((16, 12, 10, 3)).astype("f")
    result = np.asarray(jitter(jax.random.key(0), images))
    assert result.shape == images.shape
    assert result.min() >= -1e-6
    assert result.max() <= 1 + 1e-6
    assert np.abs(result - images).mean(axis=(1, 2, 3)).min() > 0.01


def test_jitter_moves_zooms_and_mirrors_both_ways():
    image = np.zeros((20, 20, 1), "f")
    image[6:14, 5:15] = 0.5  # its middle is the image's,
    image[6:14, 5:8] = 1.0  # but its left is brighter
    result = np.asarray(jitter(jax.random.key(1), np.stack([image] * 400)))[..., 0]
    lit = result > 0.25
    rows, columns = (np.asarray(lit.any(axis)) for axis in (2, 1))
    for extent, size in ((rows, 8), (columns, 10)):
        first, last = extent.argmax(1), 19 - extent[:, ::-1].argmax(1)
        middle, width = (first + last) / 2 - 9.5, last - first + 1
        assert middle.min() <= -1
        assert middle.max() >= 1
        assert abs(middle.mean()) < 0.3
        assert width.min() < size < width.max()
    mirrored = result[:, :, :10].sum((1, 2)) < result[:, :, 10:].sum((1, 2))
    assert 0.35 < mirrored.mean() < 0.65


def test_crop_shifts_each_image_by_whole_pixels_of_its_own_and_mirrors_half():
    image = np.random.default_rng(0).random((24, 16, 3)).astype("f")  # shifts up to 3 and 2
    result = np.asarray(crop(jax.random.key(2), np.stack([image] * 1000)))
    padded = np.pad(image, ((3, 3), (2, 2), (0, 0)), mode="reflect")
    mirrored = np.pad(image[:, ::-1], ((3, 3), (2, 2), (0, 0)), mode="reflect")
    views = np.stack(
        [
            whole[top : top + 24, left : left + 16]
            for whole in (padded, mirrored)
            for top in range(7)
            for left in range(5)
        ]
    )
    same = (result[:, None] == views[None]).all((2, 3, 4))
    assert (same.sum(1) == 1).all()
    counts = same.sum(0)
    assert counts.min() >= 3 and counts.max() <= 35  # 14.3 each; binomial, p < 1e-4 for all 70
    assert 430 < counts[35:].sum() < 570


def test_crop_shifts_series_in_time_and_moves_rows_of_a_table():
    series = np.arange(16, dtype="f").reshape(1, 16, 1, 1) / 16
    result = np.asarray(crop(jax.random.key(0), np.repeat(series, 50, 0)))[:, 2:-2, 0, 0]
    steps = (result - series[:, 2:-2, 0, 0]) * 16
    assert set(np.unique(steps)) == {-2, -1, 0, 1, 2} and (np.ptp(steps, axis=1) == 0).all()
    rows = np.full((200, 1, 1, 3), 0.5, "f")
    assert 0.04 < (np.asarray(crop(jax.random.key(0), rows)) - rows).std() < 0.06


def test_series_move_in_time_alone():
    series = np.ones((8, 20, 1, 2), "f")
    result = np.asarray(jitter(jax.random.key(0), series))
    np.testing.assert_allclose(result[:, 5:15], 1, atol=1e-5)
    ramp = np.linspace(0, 1, 20, dtype="f").reshape(1, 20, 1, 1)
    assert np.abs(np.asarray(jitter(jax.random.key(0), ramp)) - ramp).max() > 0.01


def test_values_of_a_row_move_a_little():
    rows = np.full((200, 1, 1, 3), 0.5, "f")
    moved = np.asarray(jitter(jax.random.key(0), rows)) - rows
    assert 0.04 < moved.std() < 0.06
