"""Folders of images: flat, by class, by part, of mixed sizes; and the paths that name them."""

import os
import shutil
import sys

import numpy as np
import pytest
from datasets import image_file, write_tfds
from own_images import counts, load, parts_of, pictures, write
from tiny import assert_is_tiny, assert_one_line

from jaxinv.errors import UsageError, UserError
from jaxinv.inputs import data, own, stamps
from jaxinv.inputs import tfds as _tfds


def refused(path, *words, error=UserError, **options):
    with pytest.raises(error) as caught:
        data.load(str(path), announce=lambda line: None, **options)
    assert_one_line(caught, f"dataset={path}: ", *words)


def test_a_flat_folder_has_no_labels(tmp_path):
    images = pictures(12)
    name = os.fsdecode("my photos é".encode())
    dataset = load(write(tmp_path / name, images))
    assert dataset.name == own.title_of(tmp_path / name) and str(tmp_path) not in dataset.source
    assert dataset.source == "folder, 12 images, parts by a hash of each image's content"
    assert not dataset.has_labels and dataset.num_classes == 0
    assert dataset.image_shape == (6, 5, 3) and min(counts(dataset)) > 0
    assert parts_of(dataset).keys() == {image.tobytes() for image in images}
    with pytest.raises(UserError, match="^the dataset has no labels"):
        _ = dataset.test.labels


def test_folders_by_class(tmp_path):
    images = pictures(16)
    for name, some in (("dogs", images[:9]), ("cats", images[9:])):
        write(tmp_path / "pets" / name, some)
    write(tmp_path / "pets" / "cats" / "more", pictures(4, seed=1))
    dataset = load(tmp_path / "pets")
    assert dataset.num_classes == 2 and dataset.has_labels and sum(counts(dataset)) == 20
    dogs = {image.tobytes() for image in images[:9]}
    for part in (dataset.target, dataset.attacker, dataset.test):
        told = [image.tobytes() in dogs for image in part.pixels]
        np.testing.assert_array_equal(part.labels, told)


def test_folders_by_part_and_class(tmp_path):
    for number, part in enumerate(("target", "attacker", "test")):
        for name in ("a", "b"):
            write(tmp_path / "own" / part / name, pictures(2 + number, seed=ord(name) + number))
    dataset = load(tmp_path / "own")
    assert counts(dataset) == [4, 6, 8] and dataset.num_classes == 2
    assert sorted(dataset.test.labels) == [0] * 4 + [1] * 4
    assert dataset.source == "folder, 18 images"


def test_train_and_test_and_flat_parts(tmp_path):
    for part, count in (("train", 30), ("test", 3)):
        write(tmp_path / "own" / part, pictures(count, seed=count))
    dataset = load(tmp_path / "own")
    assert sum(counts(dataset)) == 33 and counts(dataset)[2] == 3 and not dataset.has_labels
    assert "parts by a hash" in dataset.source


def test_test_images_alone(tmp_path):
    write(tmp_path / "own" / "test", pictures(3))
    assert counts(load(tmp_path / "own")) == [0, 0, 3]


@pytest.mark.parametrize("name", ["train", "target"])
def test_a_class_may_be_called_as_a_part(tmp_path, name):
    for each in (name, "plane"):
        write(tmp_path / "own" / each, pictures(3, seed=len(each)))
    assert load(tmp_path / "own").num_classes == 2


def test_images_of_mixed_sizes_are_resized_and_cut(tmp_path):
    tall = np.zeros((30, 8, 3), np.uint8)
    tall[11:19] = 200  # the middle square
    write(tmp_path / "own" / "test", [tall, np.swapaxes(tall, 0, 1), tall[11:19]])
    refused(tmp_path / "own", "is 8 x 30 pixels", "30 x 8", "image_size=HxW")
    dataset = load(tmp_path / "own", image_size="4x4")
    assert dataset.image_shape == (4, 4, 3) and "resized to 4x4" in dataset.source
    np.testing.assert_allclose(dataset.test.pixels.astype(int), 200, atol=20)
    assert load(tmp_path / "own", image_size=4).fingerprint == dataset.fingerprint
    assert load(tmp_path / "own", image_size=(4, 6)).image_shape == (4, 6, 3)


@pytest.mark.parametrize("size", ["0", "4x", "x4", "4x0", "4x4x3", "-4", "a", "1e3", "", "100000"])
def test_sizes_that_are_none(tmp_path, size):
    with pytest.raises(UsageError, match="^image_size=.*expected HxW"):
        data.load(str(tmp_path), image_size=size)


def test_a_size_of_its_own_leaves_a_tfds_dataset_as_it_is(root, tmp_path):
    given = {"data_dir": root, "announce": lambda line: None}
    assert_is_tiny(data.load("tiny", image_size="8x8", **given))
    resized = data.load("tiny", image_size="4x6", **given)
    assert resized.image_shape == (4, 6, 1) and resized.source.endswith("resized to 4x6)")
    assert len(list((tmp_path / "cache" / "data").iterdir())) == 2


def test_tfds_images_of_any_shape_are_resized(tmp_path):
    files = [image_file(pictures(1, (4 + number, 9, 3))[0]) for number in range(4)]
    write_tfds(tmp_path, "own", (files, [0, 1, 2, 0]), (files, [0, 1, 2, 0]), shape=(None, None, 3))
    dataset = data.load("own", data_dir=tmp_path, image_size=5)
    assert dataset.image_shape == (5, 5, 3) and counts(dataset) == [2, 2, 4]


def test_grey_unless_one_has_colours(tmp_path):
    grey = pictures(5, (4, 4, 1))
    write(tmp_path / "own", grey)
    assert load(tmp_path / "own").image_shape == (4, 4, 1)
    write(tmp_path / "own", pictures(1, (4, 4, 3)), start=9)
    both = load(tmp_path / "own")
    assert both.image_shape == (4, 4, 3)
    assert {np.repeat(each, 3, axis=-1).tobytes() for each in grey} < parts_of(both).keys()


def test_cameras_tell_which_way_is_up(tmp_path):
    from PIL import Image

    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[0] = 255  # the top of the sensor is the right of the picture
    told = Image.Exif()
    told[0x0112] = 6
    folder = write(tmp_path / "own" / "test", [])
    (folder / "turned.png").write_bytes(image_file(pixels, exif=told))
    dataset = load(tmp_path / "own")
    assert dataset.image_shape == (6, 4, 3)
    np.testing.assert_array_equal(dataset.test.pixels[0, :, -1], 255)
    assert dataset.test.pixels[0, :, :-1].max() == 0


def test_other_files_are_counted_and_hidden_ones_are_not(tmp_path):
    folder = write(tmp_path / "own", pictures(4))
    (folder / "notes.txt").write_text("")
    (folder / "clip.gif").write_bytes(image_file(pictures(1)[0], "GIF"))
    (folder / ".hidden.png").write_text("no image")
    write(folder / ".thumbnails", pictures(2))
    for _ in range(2):
        assert sum(counts(load(folder, "2 are no images"))) == 4


@pytest.mark.parametrize(
    ("file", "why"),
    [
        (b"no image", "is no PNG"),
        (image_file(pictures(1)[0])[:80], "cannot be decoded"),
        (image_file(np.zeros((6, 5, 4), np.uint8)), "has transparent"),
        (image_file(pictures(1)[0], "JPEG", "CMYK"), "is a CMYK"),
    ],
    ids=["text", "half", "clear", "print"],
)
def test_an_image_that_cannot_be_read_is_named(tmp_path, file, why):
    folder = write(tmp_path / "own", pictures(3))
    (folder / "bad.JPG").write_bytes(file)
    refused(folder, f"{folder}/bad.JPG {why}")


def test_a_film_is_no_image(tmp_path):
    from PIL import Image

    folder = write(tmp_path / "own", pictures(3))
    frames = [Image.fromarray(image) for image in pictures(2)]
    frames[0].save(folder / "film.webp", save_all=True, append_images=frames[1:], lossless=True)
    refused(folder, "film.webp has 2 frames")


def test_folders_that_are_no_dataset(tmp_path):
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "has no images")
    write(tmp_path / "mixed" / "cats", pictures(2))
    write(tmp_path / "mixed", pictures(2, seed=1))
    refused(tmp_path / "mixed", "cats", "0.png in none of them")
    write(tmp_path / "parts" / "test" / "cats", pictures(2))
    write(tmp_path / "parts" / "target", pictures(2))
    refused(tmp_path / "parts", "0.png in none of them")
    write(tmp_path / "both" / "test", pictures(2))
    write(tmp_path / "both", pictures(2))
    refused(tmp_path / "both", "has the parts test")
    write(tmp_path / "some" / "target", pictures(2))
    refused(tmp_path / "some", "has the parts target")


def test_links_that_lead_back_end(tmp_path):
    folder = write(tmp_path / "own" / "cats", pictures(4))
    os.symlink(tmp_path / "own", folder / "back")
    assert sum(counts(load(tmp_path / "own"))) == 4


def test_a_changed_file_makes_another_dataset(tmp_path, monkeypatch):
    monkeypatch.setattr(stamps, "_SETTLED", 0)
    folder = write(tmp_path / "own", pictures(6))
    first = load(folder)
    assert isinstance(load(folder).test.pixels, np.memmap)
    decoded = []
    monkeypatch.setattr(own.encoded, "decode", lambda *given: decoded.append(given))
    assert load(folder).fingerprint == first.fingerprint and not decoded
    monkeypatch.undo()
    monkeypatch.setenv("JAXINV_CACHE", str(tmp_path / "cache"))
    write(folder, pictures(1, seed=5), start=3)
    changed = load(folder)
    assert changed.fingerprint != first.fingerprint and changed.name == first.name
    shutil.move(folder, tmp_path / "elsewhere")
    assert load(tmp_path / "elsewhere").fingerprint == changed.fingerprint


@pytest.mark.parametrize("name", ["a\nb", "a b ", "数", "x" * 200, "-a", "a,b=c"])
def test_any_folder_has_a_name_that_records_keep(tmp_path, name):
    name = os.fsdecode(name.encode())  # bytes that are no text where names are ASCII
    dataset = load(write(tmp_path / name, pictures(3)))
    assert dataset.name.isprintable()
    if sys.getfilesystemencoding() == "utf-8":
        assert dataset.name == name.replace("\n", "_")
    assert load(tmp_path / name).fingerprint == dataset.fingerprint


def test_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "photos" / "2024", pictures(4))
    names = ("photos", "./photos", "photos/", "photos/2024", "~/photos", str(tmp_path / "photos"))
    assert [load(name).name for name in names] == [*["photos"] * 3, "2024", "photos", "photos"]
    monkeypatch.chdir(tmp_path / "photos")
    assert load(".").name == "photos"
    for name in ("./none", "~/none", "none.npz", "/none", "a/b/c"):
        refused(name, "no such file or folder", error=UsageError)


def test_a_folder_that_is_called_as_a_dataset(tmp_path, root, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_tfds, "catalogue", lambda: ["beans"])
    for name in ("mnist", "beans", "tiny"):
        write(tmp_path / name, pictures(3))
        refused(name, f"write ./{name}", error=UsageError, data_dir=root)
    assert load("./beans").name == "beans"
    assert load("./mnist").name == "mnist (folder)"  # no figures or targets of MNIST are its own
