"""Decodes a prepared TFDS dataset into arrays, in the order in which it is stored. NumPy code.

Reads array_record without TensorFlow and tfrecord with it; both go through one image decoder, so
that the arrays do not depend on the file format. Heavy packages are imported where they are used.
"""

import importlib.util
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxinv.errors import UserError

if TYPE_CHECKING:
    from tensorflow_datasets.core import DatasetBuilder, DatasetInfo

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's image modes by number of channels
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


def decode(folder: Path) -> tuple[Split, Split, int, str]:
    """Decodes a prepared dataset.

    Returns:
      The train split, the test (else validation) split, the number of classes, and the name of
      the format it is stored in.

    Raises:
      UserError: it cannot be read, or is no image classification dataset of one image shape.
    """
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder_from_directory(folder)
        info = builder.info
        keys = find_keys(str(folder), info)
        held_out = next((name for name in ("test", "validation") if name in info.splits), None)
        if "train" not in info.splits or held_out is None:
            raise UserError(
                f"{folder} has the splits {', '.join(info.splits)}; "
                "train and test (or validation) are needed."
            )
        parts = [_decode_split(builder, name, keys) for name in ("train", held_out)]
    except UserError:
        raise
    except Exception as error:  # TFDS, Pillow and array_record raise many kinds
        raise UserError(f"{folder} cannot be read as a TFDS dataset: {one_line(error)}") from error
    return parts[0], parts[1], info.features[keys.label].num_classes, info.file_format.value


def one_line(error: Exception) -> str:
    """Returns the first line of an exception, with its type."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200]}"


def find_keys(title: str, info: "DatasetInfo") -> Keys:
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
    dtype = np.dtype(image.np_dtype)
    if None in image.shape or image.shape[-1] not in _MODES or dtype != np.uint8:
        raise UserError(
            f"{title} has images of shape {image.shape} {dtype.name}; one fixed "
            "(height, width, 1, 3 or 4) uint8 is needed."
        )
    return keys


def _decode_split(builder: "DatasetBuilder", name: str, keys: Keys) -> Split:
    """Decodes one split in the order in which it is stored."""
    from tqdm import tqdm

    features, count = builder.info.features, builder.info.splits[name].num_examples
    shape = features[keys.image].shape
    pixels = np.empty((count, *shape), np.uint8)
    labels = np.empty(count, np.int32)
    bar = tqdm(
        total=count, desc=f"decoding {builder.name} {name}", unit="image", disable=None, delay=1
    )
    done = 0
    with bar:
        for index, example in enumerate(_examples(builder, name, keys)):
            pixels[index] = _decode_image(example[keys.image], shape)
            labels[index] = example[keys.label]
            done = index + 1
            bar.update()
    if done != count:
        raise UserError(f"{builder.data_dir}: {done} of {count} samples of the split {name}.")
    if labels.min() < 0 or labels.max() >= features[keys.label].num_classes:
        raise UserError(f"{builder.data_dir}: the split {name} has samples without a valid label.")
    return Split(pixels, labels)


def _examples(builder: "DatasetBuilder", split: str, keys: Keys) -> Iterator[dict[str, Any]]:
    """Yields the examples of a split in stored order, their images still encoded."""
    from tensorflow_datasets import decode

    decoders = {keys.image: decode.SkipDecoding()}
    kind = builder.info.file_format.value
    if kind == "array_record":
        source = builder.as_data_source(split, decoders=decoders)
        for start in range(0, len(source), _CHUNK):
            yield from source.__getitems__(range(start, min(start + _CHUNK, len(source))))
    elif kind == "tfrecord":
        for record in _tfrecords(builder, split):
            yield builder.info.features.deserialize_example_np(record, decoders=decoders)
    else:
        raise UserError(f"{builder.data_dir} is stored as {kind}. {_as_array_record(builder)}")


def _tfrecords(builder: "DatasetBuilder", split: str) -> Iterator[bytes]:
    if not has_tensorflow():
        raise UserError(
            f"{builder.data_dir} is stored as tfrecord, which only TensorFlow reads: install "
            f"jaxinv[prepare]. {_as_array_record(builder)}"
        )
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")  # the accelerator's memory is JAX's
    files = [str(path) for path in builder.info.splits[split].filepaths]
    return tf.data.TFRecordDataset(files).as_numpy_iterator()


def _as_array_record(builder: "DatasetBuilder") -> str:
    return (
        "Or prepare it where TensorFlow is, into another directory: tfds.builder("
        f"'{builder.name}', data_dir=..., file_format='array_record').download_and_prepare()"
    )


def _decode_image(encoded: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    """Decodes a PNG or JPEG with Pillow; TFDS's own decoder would depend on OpenCV's presence."""
    from PIL import Image

    with Image.open(io.BytesIO(encoded)) as image:
        mode = _MODES[shape[-1]]
        decoded = np.asarray(image if image.mode == mode else image.convert(mode))
    if decoded.shape[:2] != shape[:2]:
        raise UserError(
            f"Images of differing sizes, {decoded.shape[:2]} among {shape[:2]}; one is needed."
        )
    return decoded.reshape(shape)
