"""Decoding: formats, and datasets that do not fit."""

import json
import os

import pytest
from datasets import random_split, write_tfds
from tiny import HAS_TENSORFLOW, TEST, TRAIN, assert_is_tiny, assert_one_line, load

from jaxinv.errors import UserError


def test_tfrecord_without_tensorflow(root, without_tensorflow):
    info = root / "tiny" / "1.0.0" / "dataset_info.json"
    info.write_text(info.read_text("utf-8").replace("array_record", "tfrecord"))
    with pytest.raises(UserError) as caught:
        load("tiny", root)
    assert_one_line(caught, "tfrecord", "jaxinv[prepare]", "file_format='array_record'")


def test_images_of_differing_shapes(tmp_path):
    write_tfds(tmp_path, "declared", TRAIN, TEST, shape=(None, None, 1))
    with pytest.raises(UserError, match=r"images of shape \(None, None, 1\) uint8; one fixed"):
        load("declared", tmp_path)
    write_tfds(tmp_path, "actual", TRAIN, random_split(4, (8, 7, 1)))
    with pytest.raises(UserError, match=r"test\[0\] is 8 x 7 pixels, not 8 x 8;"):
        load("actual", tmp_path)


def test_neither_test_nor_validation(tmp_path):
    write_tfds(tmp_path, "own", TRAIN, None)
    with pytest.raises(UserError, match="has the splits train; .*validation"):
        load("own", tmp_path)


def test_no_image_or_label(root):
    path = root / "tiny" / "1.0.0" / "features.json"
    features = json.loads(path.read_text("utf-8"))
    del features["featuresDict"]["features"]["label"]
    path.write_text(json.dumps(features))
    with pytest.raises(UserError, match="has the features image; "):
        load("tiny", root)


@pytest.mark.parametrize(
    ("label", "why"),
    [
        (3, "has the label 3; expected 0 to 2."),
        (-1, "has the label -1; expected 0 to 2."),
        (2**32 + 1, f"has the label {2**32 + 1}; expected 0 to 2."),
        (1.7, "has 0 whole numbers as its label; expected 1."),
        ("cat", "has 0 whole numbers as its label; expected 1."),
        ([], "has 0 whole numbers as its label; expected 1."),
        ([0, 1, 0], "has 3 whole numbers as its label; expected 1."),
    ],
)
def test_a_label_that_is_no_class_is_refused_in_a_line_that_names_the_example(tmp_path, label, why):
    write_tfds(tmp_path, "own", TRAIN, (TEST[0], [*TEST[1][:2], label, TEST[1][3]]))
    with pytest.raises(UserError) as caught:
        load("own", tmp_path)
    assert str(caught.value) == f"{tmp_path}/own/1.0.0: test[2] {why}"


@pytest.mark.parametrize("classes", [None, 0])
def test_a_dataset_without_classes(tmp_path, classes):
    write_tfds(tmp_path, "own", TRAIN, TEST, num_classes=classes)
    with pytest.raises(UserError) as caught:
        load("own", tmp_path)
    assert_one_line(caught, f"{tmp_path}/own/1.0.0 ", "number of classes")


@pytest.mark.parametrize(("told", "found"), [("10", "9"), ("8", "9 or more"), ("0", "1 or more")])
def test_examples_are_counted_and_dataset_info_is_not_believed(root, told, found):
    info = root / "tiny" / "1.0.0" / "dataset_info.json"
    info.write_text(
        info.read_text("utf-8").replace('"shardLengths": ["9"]', f'"shardLengths": ["{told}"]')
    )
    with pytest.raises(UserError) as caught:
        load("tiny", root)
    assert_one_line(caught, f"the split train has {found} examples; ", f"tells {told}")


@pytest.mark.parametrize(("train", "test"), [(1, 4), (0, 4), (9, 0)])
def test_too_few_examples(tmp_path, train, test):
    write_tfds(tmp_path, "own", *(random_split(count) for count in (train, test)))
    with pytest.raises(UserError) as caught:
        load("own", tmp_path)
    assert_one_line(caught, f"{tmp_path}/own/1.0.0: the split ", "at least")


@pytest.mark.parametrize("harm", ["cut", "gone", "info"])
def test_broken_source(root, harm):
    folder = root / "tiny" / "1.0.0"
    (records,) = folder.glob("tiny-train*")
    if harm == "cut":
        os.truncate(records, records.stat().st_size // 2)
    elif harm == "gone":
        records.unlink()
    else:
        (folder / "dataset_info.json").write_text("{")
    with pytest.raises(UserError) as caught:
        load("tiny", root)
    assert_one_line(caught, folder)


@pytest.mark.skipif(not HAS_TENSORFLOW, reason="tfrecord is read through TensorFlow")
def test_tfrecord_equals_array_record(root, tmp_path):
    write_tfds(tmp_path / "tfrecord", "tiny", TRAIN, TEST, file_format="tfrecord", num_shards=2)
    dataset = load("tiny", tmp_path / "tfrecord")
    assert_is_tiny(dataset)
    assert dataset.source == "tfds tiny:1.0.0 (tfrecord)"
    assert dataset.fingerprint == load("tiny", root).fingerprint
