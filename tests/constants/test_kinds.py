"""Kinds of inputs, told by their grid, and text about them."""

import pytest

from jaxinv.constants import kinds
from jaxinv.constants.kinds import IMAGE, SERIES, TABLE, in_words


@pytest.mark.parametrize(
    ("shape", "kind", "grid"),
    [
        ((28, 28, 1), IMAGE, (28, 28, 1)),
        ((50, 6), SERIES, (50, 1, 6)),
        ((50,), SERIES, (50, 1, 1)),
        ((30,), TABLE, (1, 1, 30)),
    ],
)
def test_a_grid_tells_the_kind(shape, kind, grid):
    assert kinds.grid_of(shape, kind) == grid
    assert kinds.of(grid) == kind


def test_text_about_images_becomes_text_about_rows():
    text = "SSIM of 3 images, max_ssim=.5; an image of images.npz by --num_images=3"
    told = "correlation of 3 rows, max_correlation=.5; a row of images.npz by --num_images=3"
    assert in_words({"SSIM": [text]}, TABLE) == {"correlation": [told]}
    assert in_words(text, IMAGE) == text


def test_a_header_stays_as_wide():
    header = f"{'SSIM':<8}{'re-id':<8}{'SSIM [95%]':>22}  {'images':<8}"
    told = f"{'corr':<8}{'re-id':<8}{'correlation [95%]':>22}  {'rows':<8}"
    assert in_words(header, TABLE) == told


def test_data_of_a_picture_are_no_text():
    assert in_words("data:image/png;base64,xxSSIM ", TABLE) == "data:image/png;base64,xxSSIM "
