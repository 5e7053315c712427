"""Writes small TFDS datasets to disk, without TensorFlow (except for tfrecord) and without TFDS's
own writers, so that what is read back can be held against what was written."""

import io
import itertools
import json
from pathlib import Path

import numpy as np

from jaxinv.inputs.data import Samples

Split = tuple[np.ndarray, np.ndarray]  # pixels [N, H, W, C] uint8, labels [N]


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
    num_classes: int = 3,
    keys: tuple[str, str] = ("image", "label"),
    shape: tuple[int | None, ...] | None = None,
) -> Path:
    """Writes `<directory>/<name>/<version>/` as TFDS prepares it and returns that folder.

    `name` may be `name/config`; `keys` name the features, as supervised keys; `shape` is the
    declared image shape if it is not that of the images. A split that is None is left out.
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
    declared = shape or next(iter(splits.values()))[0].shape[1:]
    _write_info(folder, short, shard_lengths, file_format, keys)
    _write_features(folder, declared, num_classes, keys)
    return folder


def _example(pixels: np.ndarray, label: int, keys: tuple[str, str]) -> bytes:
    from PIL import Image
    from tensorflow_datasets.proto import tf_example_pb2

    file = io.BytesIO()
    Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(file, "PNG")
    example = tf_example_pb2.Example()
    example.features.feature[keys[0]].bytes_list.value.append(file.getvalue())
    example.features.feature[keys[1]].int64_list.value.append(int(label))
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
    folder: Path, shape: tuple[int | None, ...], num_classes: int, keys: tuple[str, str]
) -> None:
    module = "tensorflow_datasets.core.features"
    dimensions = ["-1" if size is None else str(size) for size in shape]
    features = {
        keys[0]: {
            "pythonClassName": f"{module}.image_feature.Image",
            "image": {"shape": {"dimensions": dimensions}, "dtype": "uint8"},
        },
        keys[1]: {
            "pythonClassName": f"{module}.class_label_feature.ClassLabel",
            "classLabel": {"numClasses": str(num_classes)},
        },
    }
    top = {
        "pythonClassName": f"{module}.features_dict.FeaturesDict",
        "featuresDict": {"features": features},
    }
    (folder / "features.json").write_text(json.dumps(top))
