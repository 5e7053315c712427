"""Decoding: formats, and datasets that do not fit."""

import json
import os

import pytest
from datasets import random_split, write_tfds
from tiny import HAS_TENSORFLOW, TEST, TRAIN, assert_is_tiny, assert_one_line, load

from jaxinv.errors import UserError
from jaxinv.inputs import decode as _decode


def test_tfrecord_without_tensorflow(root, without_tensorflow):
    info = root / "tiny" / "1.0.0" / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(UserError) as caught:
        load("tiny", root)
    assert_one_line(caught, "tfrecord", "jaxinv[prepare]", "file_format='array_record'")


def test_images_of_differing_shapes(tmp_path):
    write_tfds(tmp_path, "declared", TRAIN, TEST, shape=(None, None, 1))
    with pytest.raises(UserError, match=r"images of shape \(None, None, 1\) uint8; one fixed"):
        load("declared", tmp_path)
    write_tfds(tmp_path, "actual", TRAIN, random_split(4, (8, 7, 1)))
    with pytest.raises(UserError, match=r"differing sizes, \(8, 7\) among \(8, 8\)"):
        load("actual", tmp_path)


def test_neither_test_nor_validation(tmp_path):
    write_tfds(tmp_path, "own", TRAIN, None)
    with pytest.raises(UserError, match="has the splits train; .*validation"):
        load("own", tmp_path)


def test_no_image_or_label(root):
    path = root / "tiny" / "1.0.0" / "features.json"
    features = json.loads(path.read_text())
    del features["featuresDict"]["features"]["label"]
    path.write_text(json.dumps(features))
    with pytest.raises(UserError, match="has the features image; "):
        load("tiny", root)


def test_label_out_of_range(tmp_path):
    write_tfds(tmp_path, "own", TRAIN, (TEST[0], TEST[1] - 3))
    with pytest.raises(UserError, match="split test has samples without a valid label"):
        load("own", tmp_path)


def test_fewer_samples_than_announced(root, monkeypatch):
    examples = _decode._examples
    monkeypatch.setattr(_decode, "_examples", lambda *args: list(examples(*args))[:-1])
    with pytest.raises(UserError, match="8 of 9 samples of the split train"):
        load("tiny", root)


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
