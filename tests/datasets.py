"""Writes small TFDS datasets to disk, without TensorFlow (except for tfrecord) and without TFDS's
own writers, so that what is read back can be held against what was written."""

import io
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxinv.inputs.samples import Samples

# Pixels [N, H, W, C] uint8, or files of images; labels [N], or several or no numbers for each.
Split = tuple[np.ndarray | Sequence[bytes], np.ndarray | Sequence[Any]]


def random_split(count: int, shape: tuple[int, int, int] = (8, 8, 1), *, seed: int = 0) -> Split:
    """Returns `count` random images, of three classes."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
    return pixels, rng.integers(0, 3, count).astype(np.int32)


def samples(count=600, *, seed=0):
    """Images of three classes, told apart by which third of the pixels is bright."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count).astype(np.int32)
    bright = np.arange(16) * 3 // 16 == labels[:, None]
    pixels = rng.integers(0, 100, (count, 16)) + 120 * bright
    return Samples(pixels.astype(np.uint8).reshape(-1, 4, 4, 1), labels)


def write_tfds(
    directory: Path,
    name: str,
    train: Split | None,
    test: Split | None,
    *,
    version: str = "1.0.0",
    file_format: str = "array_record",
    test_name: str = "test",
    num_shards: int = 1,
    num_classes: int | None = 3,
    keys: tuple[str, str] = ("image", "label"),
    shape: tuple[int | None, ...] | None = None,
    dtype: str = "uint8",
) -> Path:
    """Writes `<directory>/<name>/<version>/` as TFDS prepares it and returns that folder.

    `name` may be `name/config`; `keys` name the features, as supervised keys; `shape` and
    `dtype` are those that the features tell of the images, the shape by default their own. A split
    that is None is left out.
    """
    folder = directory / name / version
    folder.mkdir(parents=True)
    splits = {key: split for key, split in (("train", train), (test_name, test)) if split}
    short = name.split("/")[0]
    shard_lengths = {}
    for split_name, (pixels, labels) in splits.items():
        examples = [_example(*sample, keys) for sample in zip(pixels, labels, strict=True)]
        bounds = np.linspace(0, len(examples), num_shards + 1).astype(int)
        shard_lengths[split_name] = [str(length) for length in np.diff(bounds)]
        for shard, (start, stop) in enumerate(itertools.pairwise(bounds)):
            file = f"{short}-{split_name}.{file_format}-{shard:05d}-of-{num_shards:05d}"
            _write_records(folder / file, examples[start:stop], file_format)
    declared = shape if shape is not None else np.shape(next(iter(splits.values()))[0])[1:]
    _write_info(folder, short, shard_lengths, file_format, keys)
    _write_features(folder, declared, dtype, num_classes, keys)
    return folder


def image_file(pixels: np.ndarray, kind: str = "PNG", mode: str | None = None, **options) -> bytes:
    """Returns the file of an image [H, W, C], in one of Pillow's modes; see its `Image.save`."""
    from PIL import Image

    image = Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels)
    file = io.BytesIO()
    (image.convert(mode) if mode else image).save(file, kind, **options)
    return file.getvalue()


def _example(image: np.ndarray | bytes, label: Any, keys: tuple[str, str]) -> bytes:
    from tensorflow_datasets.proto import tf_example_pb2

    file = image if isinstance(image, bytes) else image_file(image)
    example = tf_example_pb2.Example()
    example.features.feature[keys[0]].bytes_list.value.append(file)
    feature, values = example.features.feature[keys[1]], np.atleast_1d(np.asarray(label))
    if values.dtype.kind == "f":
        feature.float_list.value.extend(values)
    elif values.dtype.kind == "U":
        feature.bytes_list.value.extend(value.encode() for value in values.tolist())
    else:
        feature.int64_list.value.extend(map(int, values))
    return example.SerializeToString()


def _write_records(path: Path, records: list[bytes], file_format: str) -> None:
    if file_format == "tfrecord":
        import tensorflow as tf

        writer = tf.io.TFRecordWriter(str(path))
    else:
        from array_record.python.array_record_module import ArrayRecordWriter

        writer = ArrayRecordWriter(str(path), "group_size:1")
    for record in records:
        writer.write(record)
    writer.close()


def _write_info(
    folder: Path,
    name: str,
    shard_lengths: dict[str, list[str]],
    file_format: str,
    keys: tuple[str, str],
) -> None:
    info = {
        "name": name,
        "version": folder.name,
        "fileFormat": file_format,
        "splits": [
            {
                "name": split,
                "shardLengths": lengths,
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
            }
            for split, lengths in shard_lengths.items()
        ],
        "supervisedKeys": {"tuple": {"items": [{"featureKey": key} for key in keys]}},
    }
    (folder / "dataset_info.json").write_text(json.dumps(info))


def _write_features(
    folder: Path,
    shape: tuple[int | None, ...],
    dtype: str,
    num_classes: int | None,
    keys: tuple[str, str],
) -> None:
    module = "tensorflow_datasets.core.features"
    dimensions = ["-1" if size is None else str(size) for size in shape]
    features = {
        keys[0]: {
            "pythonClassName": f"{module}.image_feature.Image",
            "image": {"shape": {"dimensions": dimensions}, "dtype": dtype},
        },
        keys[1]: {
            "pythonClassName": f"{module}.class_label_feature.ClassLabel",
            "classLabel": {} if num_classes is None else {"numClasses": str(num_classes)},
        },
    }
    top = {
        "pythonClassName": f"{module}.features_dict.FeaturesDict",
        "featuresDict": {"features": features},
    }
    (folder / "features.json").write_text(json.dumps(top))
