"""Re-identification, against SciPy's correlation."""

import numpy as np
import pytest
import scipy.stats
from pairs import pairs

from jaxinv.errors import UsageError
from jaxinv.machine import devices
from jaxinv.measures import linkage


def best_by_scipy(reconstructions, gallery):
    """For each reconstruction, the place in the gallery of the image that correlates most."""
    return [
        int(np.argmax([scipy.stats.pearsonr(x.ravel(), y.ravel()).statistic for y in gallery]))
        for x in np.clip(reconstructions, 0, 1).astype(np.float64)
    ]


@pytest.mark.parametrize("shape", [(12, 9, 7, 1), (12, 6, 6, 3)])
def test_reidentified_is_the_best_correlation(shape):
    gallery, reconstructions = pairs(shape, noise=1.5)
    found = linkage.reidentified(reconstructions[:8], gallery, chunk_size=3)
    best = best_by_scipy(reconstructions[:8], gallery)
    assert found.dtype == bool
    assert found.tolist() == [place == i for i, place in enumerate(best)]
    assert 0 < found.sum() < 8


def test_reidentified_whatever_brightness_and_contrast():
    gallery, _ = pairs((20, 8, 8, 3))
    for changed in (gallery, 0.5 + 0.01 * gallery, 0.3 * gallery, 0.5 + 1e-6 * gallery):
        assert linkage.reidentified(changed, gallery).all()
    assert not linkage.reidentified(1 - gallery, gallery).any()
    assert not linkage.reidentified(np.roll(gallery, 1, axis=0), gallery).any()


def test_reidentified_by_chance_is_one_of_the_gallery():
    rng = np.random.default_rng(0)
    gallery, guesses = rng.random((20, 8, 8, 1)), rng.random((20, 8, 8, 1))
    shares = [linkage.reidentified(guesses, np.roll(gallery, i, axis=0)) for i in range(20)]
    assert np.mean(shares) == pytest.approx(1 / 20)  # each guess has one best image


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_and_constant_reconstructions_are_never_reidentified(bad):
    gallery, _ = pairs((5, 8, 8, 1))
    reconstructions = gallery.copy()
    reconstructions[1, 2, 3, 0] = bad
    reconstructions[2] = 0.1  # its mean in float32 is not quite 0.1
    reconstructions[3] += 2  # constant once it is clipped
    found = linkage.reidentified(reconstructions, gallery)
    assert found.tolist() == [True, False, False, False, True]
    assert not linkage.reidentified(reconstructions[2:3], gallery[2:3]).any()


def test_duplicates_in_the_gallery_are_one_image():
    gallery, reconstructions = pairs((101, 13, 11, 1), noise=0.05)
    gallery[[40, 63, 100]] = gallery[0]
    reconstructions[[40, 63, 100]] = reconstructions[0]
    assert linkage.reidentified(reconstructions, gallery).all()


def test_constant_images_in_the_gallery_are_no_match():
    gallery, reconstructions = pairs((4, 8, 8, 1), noise=0.05)
    gallery[2] = 0.1
    assert linkage.reidentified(reconstructions, gallery).tolist() == [True, True, False, True]
    assert linkage.reidentified(reconstructions[2:3], gallery[2:3]).tolist() == [False]


def test_one_program_reidentifies_every_number_of_images():
    gallery, reconstructions = pairs((9, 8, 8, 1))
    whole = linkage.reidentified(reconstructions, gallery, chunk_size=9)
    devices._apply.clear_cache()
    for count in (0, 1, 4, 9):
        found = linkage.reidentified(reconstructions[:count], gallery, chunk_size=4)
        assert found.tolist() == whole[:count].tolist()
    assert devices._apply._cache_size() == 2  # and one for the gallery


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((2, 8, 8, 1), (2, 8, 9, 1)), r"reconstructions=.*expected images \[N, 8, 9, 1\]"),
        (((8, 8), (8, 8)), r"gallery=float32 \[8, 8\]: expected images \[N, H, W, C\]"),
        (((3, 8, 8, 1), (2, 8, 8, 1)), "gallery=2 images: .* of 3 reconstructions"),
    ],
)
def test_a_gallery_must_fit(shapes, message):
    with pytest.raises(UsageError, match=message):
        linkage.reidentified(*(np.zeros(shape, np.float32) for shape in shapes))


@pytest.mark.parametrize("wrong", [lambda x: 255 * x, lambda x: x * np.nan])
def test_a_gallery_out_of_unit_space_is_refused(wrong):
    gallery, reconstructions = pairs((2, 8, 8, 1))
    with pytest.raises(UsageError, match="^gallery=.*expected unit space"):
        linkage.reidentified(reconstructions, wrong(gallery))


# --- By scores ------------------------------------------------------------------------------------


def test_singled_out_takes_the_highest_score_and_equal_candidates_for_one():
    gallery = np.random.default_rng(0).random((5, 4, 4, 1)).astype(np.float32)
    gallery[3] = gallery[1]
    scores = np.full((4, 5), -9.0)
    scores[0, 0] = scores[1, 3] = scores[2, 4] = scores[3, 1] = 1
    assert linkage.singled_out(scores, gallery).tolist() == [True, True, False, True]


def test_copies_are_as_likely_as_all_of_them_together():
    """Ninety copies and ten others: whoever learns nothing names the copied image."""
    gallery = np.random.default_rng(0).random((11, 4, 4, 1)).astype(np.float32)
    gallery = np.concatenate([np.repeat(gallery[:1], 90, axis=0), gallery[1:]])
    nothing = np.zeros((100, 100))
    assert linkage.singled_out(nothing, gallery).mean() == 0.9
    nothing[95, 95] = np.log(91)
    assert linkage.singled_out(nothing, gallery)[95]


def test_copies_of_other_brightness_and_contrast_are_one_image():
    gallery = np.random.default_rng(0).random((6, 4, 4, 1)).astype(np.float32)
    gallery[3], gallery[4], gallery[5] = 0.5 * gallery[0], 0.3 + 0.2 * gallery[0], gallery[1]
    own = linkage.copies(gallery)
    assert len(set(own.tolist())) == 3
    assert own[0] == own[3] == own[4] and own[1] == own[5]
    assert linkage.commonest(gallery) == 0.5
    scores = np.eye(6)[[3, 5, 2, 0, 0, 1]] * 9
    assert linkage.singled_out(scores, gallery).all()


def test_releases_may_be_of_any_candidates():
    gallery = np.random.default_rng(0).random((3, 4, 4, 1)).astype(np.float32)
    places = np.array([2, 2, 0, 1])
    assert linkage.singled_out(np.eye(3)[places], gallery, places=places).all()


def test_singled_out_guesses_among_equal_scores():
    gallery = np.random.default_rng(0).random((400, 2, 2, 1)).astype(np.float32)
    assert linkage.singled_out(np.zeros((400, 400)), gallery).mean() < 0.02
    halves = np.kron(np.eye(200), np.ones((2, 2)))
    assert 0.4 < linkage.singled_out(halves, gallery).mean() < 0.6


def test_a_score_that_is_not_finite_is_the_lowest():
    gallery = np.random.default_rng(0).random((2, 2, 2, 1)).astype(np.float32)
    for bad in (np.nan, np.inf, -np.inf):
        assert linkage.singled_out(np.array([[0.0, bad]]), gallery).all()


def test_singled_out_refuses_scores_of_other_candidates():
    gallery = np.zeros((3, 2, 2, 1), np.float32)
    for shape in ((3,), (2, 4), (4, 3)):
        with pytest.raises(ValueError, match="scores="):
            linkage.singled_out(np.zeros(shape), gallery)


def test_rows_of_a_table_are_told_apart_by_distance():
    rows = np.float32([[0.1, 0.2], [0.2, 0.4], [0.9, 0.1], [0.1, 0.2]]).reshape(4, 1, 1, 2)
    assert linkage.copies(rows).tolist() == [0, 1, 2, 0]  # two values always correlate fully
    found = rows + np.float32([0.02, -0.05]) * np.ones((4, 1, 1, 1), np.float32)
    assert linkage.reidentified(found, rows).tolist() == [True] * 4
    found[2] = np.nan
    assert linkage.reidentified(found, rows).tolist() == [True, True, False, True]


def test_columns_count_in_their_spread():
    wide = np.linspace(0, 1, 5)
    narrow = 0.5 + 0.001 * np.arange(5)[::-1]
    rows = np.stack([wide, narrow], axis=-1).astype(np.float32).reshape(5, 1, 1, 2)
    found = rows.copy()
    found[:, 0, 0, 0] = 0.6 * found[:, 0, 0, 0] + 0.2  # the narrow column alone is known well
    assert linkage.reidentified(found, rows).all()
