"""NPZ files and arrays: pixels and floats, labels or none, parts by name."""

import numpy as np
import pytest
from own_images import counts, load, parts_of, pictures
from tiny import assert_one_line

from jaxinv.errors import UsageError, UserError
from jaxinv.inputs import data, npz

IMAGES = pictures(8)
LABELS = np.arange(8) % 3


def save(tmp_path, **arrays):
    np.savez(tmp_path / "own.npz", **arrays)
    return tmp_path / "own.npz"


def floats(images):
    return images / np.float32(255)


@pytest.mark.parametrize(
    "arrays",
    [
        {"images": IMAGES, "labels": LABELS},
        {"x": IMAGES, "y": LABELS[:, None].astype(np.uint8)},
        {"x": IMAGES, "labels": LABELS, "more": np.zeros(3)},
        {"images": floats(IMAGES), "y": LABELS},
        {"images": floats(IMAGES).astype(np.float64), "y": LABELS},
    ],
    ids=["images", "x", "more", "float32", "float64"],
)
def test_images_with_labels(tmp_path, arrays):
    dataset = load(save(tmp_path, **arrays))
    assert dataset.name == "own.npz" and dataset.num_classes == 3 and dataset.has_labels
    assert dataset.source == "file of arrays, 8 images, parts by a hash of each image's content"
    known = {image.tobytes(): label for image, label in zip(IMAGES, LABELS, strict=True)}
    for part in (dataset.target, dataset.attacker, dataset.test):
        assert [known[image.tobytes()] for image in part.pixels] == part.labels.tolist()
    assert parts_of(dataset) == parts_of(data.from_arrays(IMAGES, LABELS, name="own"))


def test_grey_images_without_labels(tmp_path):
    dataset = load(save(tmp_path, images=IMAGES[..., 0]))
    assert dataset.image_shape == (6, 5, 1) and not dataset.has_labels


def test_parts_by_name_stay_in_order(tmp_path):
    path = save(
        tmp_path, images_test=IMAGES[:5], labels_test=LABELS[:5], images_target=IMAGES[5:],
        labels_target=LABELS[5:],
    )  # fmt: skip
    dataset = load(path)
    np.testing.assert_array_equal(dataset.test.pixels, IMAGES[:5])
    np.testing.assert_array_equal(dataset.target.labels, LABELS[5:])
    assert counts(dataset) == [3, 0, 5] and dataset.source == "file of arrays, 8 images"


def test_train_and_test_as_keras_names_them(tmp_path):
    labels = {"y_train": LABELS[:6], "y_test": LABELS[6:]}
    dataset = load(save(tmp_path, x_train=IMAGES[:6], x_test=IMAGES[6:], **labels))
    assert sum(counts(dataset)) == 8 and counts(dataset)[2] == 2
    np.testing.assert_array_equal(dataset.test.labels, LABELS[6:])


def test_arrays_are_resized(tmp_path):
    path = save(tmp_path, images_test=IMAGES, images_target=IMAGES[:2, :, 1:])
    with pytest.raises(UserError, match="of shape .6, 4, 3. beside .6, 5, 3."):
        data.load(str(path))
    assert load(path, image_size="3x4").image_shape == (3, 4, 3)
    assert data.from_arrays(floats(IMAGES), name="own", image_size=4).image_shape == (4, 4, 3)


@pytest.mark.parametrize("channels", [2, 4, 13])
def test_images_of_any_number_of_channels(tmp_path, channels):
    images = np.random.default_rng(0).integers(0, 256, (8, 6, 5, channels)).astype(np.uint8)
    path = save(tmp_path, images_test=images)
    np.testing.assert_array_equal(load(path).test.pixels, images)
    resized = load(path, image_size=4).test.pixels
    for channel in range(channels):
        own = data.from_arrays(images[..., channel], name="own", parts=["test"] * 8, image_size=4)
        if channels != 4:  # Pillow resizes transparent pixels together
            np.testing.assert_array_equal(resized[..., channel], own.test.pixels[..., 0])


def test_a_path_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    save(tmp_path, images=IMAGES)
    with npz.opened("~/own.npz") as file:
        assert list(file) == ["images"]


def test_the_users_own_array_stays_as_it_is():
    images = IMAGES.copy()
    dataset = data.from_arrays(images, name="own")
    np.testing.assert_array_equal(images, IMAGES)
    images[:] = 0
    assert dataset.test.pixels.any()


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"images": IMAGES.astype(np.int64)}, ["images=int64 [8, 6, 5, 3]", "[0, 1]"]),
        ({"images": IMAGES.astype(np.float32)}, ["images=float32", "[0, 1]"]),
        ({"x": floats(IMAGES) - 0.5}, ["x=float32", "from -0.5", "[0, 1]"]),
        ({"x": floats(IMAGES) * np.nan}, ["x=float32", "not finite"]),
        ({"x": IMAGES[0, 0]}, ["x=uint8 [5, 3]", "[N, H, W, C]"]),
        ({"x": IMAGES[:0]}, ["x=uint8 [0, 6, 5, 3]", "[N, H, W, C]"]),
        ({"x": np.moveaxis(IMAGES, 3, 1)}, ["x=uint8 [8, 3, 6, 5]", "look like [N, C, H, W]"]),
        ({"x": np.zeros((2, 7, 9, 9))}, ["x=float32 [2, 7, 9, 9]", "moveaxis(images, 1, 3)"]),
        ({"x": IMAGES, "y": LABELS[:7]}, ["y=int64 [7]", "each of 8 images"]),
        ({"x": IMAGES, "y": np.eye(8)}, ["y=float64 [8, 8]", "whole number"]),
        ({"x": IMAGES, "y": LABELS - 1}, ["y=int64 [8] from -1", "expected classes"]),
        ({"x": IMAGES, "y": np.array(["a"] * 8)}, ["y=<U1"]),
        ({"x": np.array([None] * 8)}, ["cannot be read as FILE.npz"]),
        ({"pictures": IMAGES}, ["has the arrays pictures", "expected images (or x)"]),
        ({}, ["has the arrays (none)"]),
        ({"x_target": IMAGES}, ["has the parts target", "expected test"]),
        (
            {"x_test": IMAGES, "y_test": LABELS, "x_target": IMAGES},
            ["has labels of some parts alone"],
        ),
    ],
    ids=lambda value: None if isinstance(value, dict) else value[0],
)
def test_arrays_of_another_kind(tmp_path, arrays, words):
    path = save(tmp_path, **arrays)
    with pytest.raises(UserError) as caught:
        data.load(str(path))
    assert_one_line(caught, f"dataset={path}: ", *words)


@pytest.mark.parametrize("harm", ["text", "cut", "flip", "one array"])
def test_files_that_are_damaged(tmp_path, harm):
    path = save(tmp_path, images=IMAGES)
    content = bytearray(path.read_bytes())
    if harm == "one array":
        with path.open("wb") as file:
            np.save(file, IMAGES)
    else:
        content[300] ^= 1
        path.write_bytes({"text": b"text", "cut": content[:-40], "flip": content}[harm])
    with pytest.raises(UserError) as caught:
        data.load(str(path))
    assert_one_line(caught, f"dataset={path}: ")


def test_parts_are_told_for_each_image():
    with pytest.raises(UsageError, match="^parts=2 names: expected one for each of 8"):
        data.from_arrays(IMAGES, name="own", parts=["test", "test"])
    with pytest.raises(UsageError, match="^parts=train: expected one of target, attacker, test"):
        data.from_arrays(IMAGES, name="own", parts=["train"] * 8)
    with pytest.raises(UserError, match="no test images"):
        data.from_arrays(IMAGES, name="own", parts=["target"] * 8)


def test_parts_agree_about_labels():
    some, none = data.Samples(IMAGES, LABELS), data.Samples(IMAGES)
    with pytest.raises(UsageError, match="^num_classes=3: "):
        data.Dataset("own", "arrays", "0" * 12, 3, some, none, some)
