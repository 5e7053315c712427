import numpy as np
import pytest
from PIL import Image

from jaxinv.errors import UserError
from jaxinv.look import grids


def random_images(*shape):
    return np.random.default_rng(0).random(shape)


def decoded(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def corners(page, image):
    """(row, column) of every place where the page shows `image`, each pixel a whole square."""
    pixels = np.round(255 * np.broadcast_to(image, (*image.shape[:2], 3))).astype(np.uint8)
    scale = max(1, round(112 / max(image.shape[:2])))
    block = pixels.repeat(scale, axis=0).repeat(scale, axis=1)
    height, width = block.shape[:2]
    candidates = np.argwhere((page == block[0, 0]).all(axis=2))
    return [
        (row, column)
        for row, column in candidates.tolist()
        if np.array_equal(page[row : row + height, column : column + width], block)
    ]


@pytest.mark.parametrize("channels", [1, 3])
def test_cells_are_the_images_pixel_for_pixel(tmp_path, channels):
    originals = random_images(3, 12, 16, channels)
    path = tmp_path / "grid.png"
    grids.reconstruction_grid(path, originals, [("conv1", 1 - originals)])
    page = decoded(path)
    first, second = (corners(page, image) for image in originals[:2])
    below = corners(page, 1 - originals[0])
    assert len(first) == len(second) == len(below) == 1
    assert first[0][0] == second[0][0] < below[0][0]
    assert first[0][1] == below[0][1] < second[0][1]


def test_of_many_channels_three_are_shown_and_of_two_one(tmp_path):
    images = random_images(2, 12, 16, 5)
    for channels, shown in ((5, images[..., :3]), (2, images[..., :1])):
        for name, some in (("a", images[..., :channels]), ("b", shown)):
            grids.reconstruction_grid(tmp_path / f"{name}.png", some, [("conv1", some)])
        assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_reconstructions_are_clipped(tmp_path):
    originals = random_images(1, 12, 12, 1)
    path = tmp_path / "grid.png"
    grids.reconstruction_grid(path, originals, [("relu2", originals * 4 - 1)])
    assert len(corners(decoded(path), np.clip(originals[0] * 4 - 1, 0, 1))) == 1


def test_page_grows_with_rows_and_columns_up_to_the_limit(tmp_path):
    originals = random_images(12, 12, 12, 1)

    def size(images, rows, **options):
        path = tmp_path / "grid.png"
        grids.reconstruction_grid(path, images, [("conv1", images)] * rows, **options)
        return decoded(path).shape

    assert size(originals[:1], 1)[0] < size(originals[:1], 2)[0] < size(originals[:1], 18)[0]
    assert size(originals[:1], 1)[1] < size(originals[:10], 1)[1] == size(originals, 1)[1]
    assert size(originals, 1)[1] < size(originals, 1, max_images=12)[1]


def test_nothing_is_clipped_at_the_edges(tmp_path):
    path = tmp_path / "grid.png"
    images = random_images(1, 12, 12, 1)
    label = "\n".join(["a rather long label of a row: 39.6 dB / 1.000"] * 9)
    grids.reconstruction_grid(path, images, [(label, images)] * 2, title="a title: " * 9)
    page = decoded(path)
    border = np.concatenate([page[:8], page[-8:]]), np.concatenate([page[:, :8], page[:, -8:]])
    assert all((edge == 255).all() for edge in border)


def test_the_title_is_above_the_images_and_labels_are_left_of_them(tmp_path):
    images = random_images(1, 28, 28, 1)
    grids.reconstruction_grid(tmp_path / "grid.png", images, [("relu2", images)], title="a title")
    page = decoded(tmp_path / "grid.png")
    places = corners(page, images[0])
    assert len(places) == 2
    for top, left in places:
        label = page[top : top + 112, : left - 4]
        rows, columns = np.nonzero((label < 100).all(axis=2))
        assert 46 < rows.mean() < 66
        assert columns.min() < label.shape[1] - 30 < label.shape[1] - 20 < columns.max()
    assert (page[: places[0][0] - 8] < 100).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_diverged_image_is_a_hatched_cell(tmp_path, bad):
    originals = random_images(2, 28, 28, 3)
    reconstructions = originals.copy()
    reconstructions[0, 3, 4, 1] = bad
    path = tmp_path / "grid.png"
    grids.reconstruction_grid(path, originals, [("conv1", reconstructions)])
    page = decoded(path)
    above, beside = corners(page, originals[0]), corners(page, originals[1])
    assert len(above) == 1
    assert len(beside) == 2
    cell = page[beside[1][0] :, above[0][1] :][:112, :112]
    assert (cell == 0xE6).all(axis=2).mean() > 0.3
    assert (cell == 0xBB).all(axis=2).any()


@pytest.mark.parametrize("text", [r"$\no such formula$", "\x00\x1b", "\ud800", "\N{SNOWMAN}", ""])
def test_any_text_is_drawn(tmp_path, text):
    images = random_images(1, 12, 12, 1)
    grids.reconstruction_grid(tmp_path / "grid.png", images, [(text, images)], title=text)
    assert len(corners(decoded(tmp_path / "grid.png"), images[0])) == 2


@pytest.mark.parametrize(
    ("originals", "reconstructions"),
    [
        (np.zeros((2, 12, 12, 1)), np.zeros((1, 12, 12, 1))),
        (np.zeros((2, 12, 12, 1)), np.zeros((2, 12, 12, 3))),
        (np.zeros((2, 12, 12, 0)), np.zeros((2, 12, 12, 0))),
        (np.zeros((0, 12, 12, 1)), np.zeros((0, 12, 12, 1))),
        (np.zeros((12, 12, 1)), np.zeros((12, 12, 1))),
    ],
)
def test_shapes_that_make_no_grid_are_refused(tmp_path, originals, reconstructions):
    with pytest.raises(ValueError, match="Expected"):
        grids.reconstruction_grid(tmp_path / "g.png", originals, [("conv1", reconstructions)])
    assert not list(tmp_path.iterdir())


def test_an_unwritable_path_is_a_users_mistake(tmp_path):
    (tmp_path / "file").touch()
    images = random_images(1, 12, 12, 1)
    with pytest.raises(UserError, match="Not a directory"):
        grids.reconstruction_grid(tmp_path / "file" / "grid.png", images, [])
