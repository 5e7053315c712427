"""Decodes a prepared TFDS dataset into arrays, in the order in which it is stored. NumPy code.

Reads array_record without TensorFlow and tfrecord with it; both go through one image decoder
(`images`), so that the arrays do not depend on the file format. Heavy packages are imported where
they are used.
"""

import importlib.util
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxinv.errors import UserError
from jaxinv.inputs import images

if TYPE_CHECKING:
    from tensorflow_datasets.core import DatasetBuilder, DatasetInfo
    from tensorflow_datasets.features import ClassLabel, Image

_CHUNK = 1024  # records read at a time


class Split(NamedTuple):
    """The decoded samples of one split."""

    pixels: np.ndarray  # [N, H, W, C] uint8
    labels: np.ndarray  # [N] int32


class Keys(NamedTuple):
    """Names of the image and the label among the features."""

    image: str
    label: str


def has_tensorflow() -> bool:
    """Returns True if TensorFlow is installed, without importing it."""
    return importlib.util.find_spec("tensorflow") is not None


def decode(folder: Path, size: tuple[int, int] | None) -> tuple[Split, Split, int, str]:
    """Decodes a prepared dataset.

    Args:
      folder: of the dataset.
      size: height and width that images are resized to, as `images.fitted` does; or None, for the
        one size that they have.

    Returns:
      The train split, the test (else validation) split, the number of classes, and in words how it
      is stored.

    Raises:
      UserError: it cannot be read, or is no image classification dataset of one image shape (or
        of one number of channels, if they are resized).
    """
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder_from_directory(folder)
        info = builder.info
        keys = find_keys(str(folder), info, size)
        held_out = next((name for name in ("test", "validation") if name in info.splits), None)
        if "train" not in info.splits or held_out is None:
            raise UserError(
                f"{folder} has the splits {', '.join(info.splits)}; "
                "train and test (or validation) are needed."
            )
        parts = [_decode_split(builder, name, keys, size) for name in ("train", held_out)]
    except UserError:
        raise
    except Exception as error:  # TFDS, Pillow and array_record raise many kinds
        raise UserError(f"{folder} cannot be read as a TFDS dataset: {one_line(error)}") from error
    kind = info.file_format.value + (f", split {held_out}" if held_out != "test" else "")
    return parts[0], parts[1], info.features[keys.label].num_classes, kind


def one_line(error: Exception) -> str:
    """Returns the first line of an exception, with its type."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200]}"


def find_keys(title: str, info: "DatasetInfo", size: tuple[int, int] | None) -> Keys:
    """Returns the names of the image and its class among the features, or raises UserError."""
    from tensorflow_datasets import features as kinds

    features = dict(info.features.items())
    supervised = info.supervised_keys or ()
    pairs = [Keys(*supervised)] if len(supervised) == 2 else []
    for keys in [*pairs, Keys("image", "label")]:
        image, label = (features.get(key) if isinstance(key, str) else None for key in keys)
        if isinstance(image, kinds.Image) and isinstance(label, kinds.ClassLabel):
            break
    else:
        raise UserError(
            f"{title} has the features {', '.join(features)}; an image (tfds Image) and its "
            "label (tfds ClassLabel) are needed."
        )
    _check(title, image, label, size)
    return keys


def _check(title: str, image: "Image", label: "ClassLabel", size: tuple[int, int] | None) -> None:
    """Raises UserError if the features of a dataset are not of one shape, 8 bits and classes."""
    dtype, shape = np.dtype(image.np_dtype), image.shape
    fixed = len(shape) == 3 and all(shape if size is None else shape[2:])
    if not fixed or shape[-1] not in images.MODES or dtype != np.uint8:
        mends = ", or image_size=HxW, which resizes images" if size is None else ""
        raise UserError(
            f"{title} has images of shape {shape} {dtype.name}; one fixed (height, width, 1, 3 or "
            f"4) uint8 is needed{mends}."
        )
    if not label.num_classes:
        raise UserError(f"{title} does not tell its number of classes; at least 1 is needed.")


def _decode_split(
    builder: "DatasetBuilder", name: str, keys: Keys, size: tuple[int, int] | None
) -> Split:
    """Decodes one split in the order in which it is stored."""
    from tqdm import tqdm

    features, count = builder.info.features, builder.info.splits[name].num_examples
    declared, classes = features[keys.image].shape, features[keys.label].num_classes
    shape = declared if size is None else (*size, declared[2])
    pixels, labels = np.empty((count, *shape), np.uint8), np.empty(count, np.int32)
    bar = tqdm(
        total=count, desc=f"decoding {builder.name} {name}", unit="image", disable=None, delay=1
    )
    done = 0
    with bar:
        for index, (image, label) in enumerate(_examples(builder, name, keys)):
            done = index + 1
            if done > count:
                break
            where = f"{builder.data_dir}: {name}[{index}]"
            pixels[index] = _image(where, image, shape, fits=size is not None)
            labels[index] = _label(where, label, classes)
            bar.update()
    if done != count or not count:
        found = f"{done}{'' if done <= count else ' or more'}"
        raise UserError(
            f"{builder.data_dir}: the split {name} has {found} examples; dataset_info.json tells "
            f"{count}, and at least 1 is needed."
        )
    return Split(pixels, labels)


def _image(
    where: str, stored: Sequence[bytes], shape: tuple[int, int, int], *, fits: bool
) -> np.ndarray:
    """Decodes the image of an example; `where` names it in errors."""
    if len(stored) != 1:
        raise UserError(f"{where} has {len(stored)} images; expected 1.")
    try:
        return images.decode(stored[0], shape, fits=fits)
    except UserError as error:
        raise UserError(f"{where} {error}") from error


def _label(where: str, stored: Sequence[int], classes: int) -> int:
    """Returns the label of an example; `where` names it in errors."""
    if len(stored) != 1:
        raise UserError(f"{where} has {len(stored)} whole numbers as its label; expected 1.")
    if not 0 <= stored[0] < classes:
        raise UserError(f"{where} has the label {stored[0]}; expected 0 to {classes - 1}.")
    return stored[0]


def _examples(
    builder: "DatasetBuilder", split: str, keys: Keys
) -> Iterator[tuple[Sequence[bytes], Sequence[int]]]:
    """Yields all images and all labels of each example as they are stored: one each, or not.

    TFDS's own parser would make a whole number of a label that is none.
    """
    from tensorflow_datasets.proto import tf_example_pb2

    for record in _records(builder, split):
        stored = tf_example_pb2.Example.FromString(record).features.feature
        yield stored[keys.image].bytes_list.value, stored[keys.label].int64_list.value


def _records(builder: "DatasetBuilder", split: str) -> Iterator[bytes]:
    """Yields all that the files of a split hold, whatever dataset_info.json tells."""
    kind = builder.info.file_format.value
    paths = [str(path) for path in builder.info.splits[split].filepaths]
    if kind == "tfrecord":
        yield from _tfrecords(builder, paths)
    elif kind == "array_record":
        from array_record.python.array_record_module import ArrayRecordReader

        for path in paths:
            reader = ArrayRecordReader(path)
            for start in range(0, reader.num_records(), _CHUNK):
                yield from reader.read(start, min(start + _CHUNK, reader.num_records()))
    else:
        raise UserError(f"{builder.data_dir} is stored as {kind}. {_as_array_record(builder)}")


def _tfrecords(builder: "DatasetBuilder", paths: list[str]) -> Iterator[bytes]:
    if not has_tensorflow():
        raise UserError(
            f"{builder.data_dir} is stored as tfrecord, which only TensorFlow reads: install "
            f"jaxinv[prepare]. {_as_array_record(builder)}"
        )
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")  # the accelerator's memory is JAX's
    return tf.data.TFRecordDataset(paths).as_numpy_iterator()


def _as_array_record(builder: "DatasetBuilder") -> str:
    return (
        "Or prepare it where TensorFlow is, into another directory: tfds.builder("
        f"'{builder.name}', data_dir=..., file_format='array_record').download_and_prepare()"
    )
