"""Packs decoded images, in their parts, as an entry of the cache. NumPy code.

The images that train come first, the target's before the attacker's; the test images are arrays of
their own. A dataset without labels has no arrays of labels.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxinv.inputs import arrays
from jaxinv.inputs.cache import Entry


def packed(
    train: tuple[np.ndarray, np.ndarray | None],
    test: tuple[np.ndarray, np.ndarray | None],
    *,
    num_target: int,
    num_classes: int,
    source: str,
    columns: Mapping[str, Any] | None = None,
) -> Entry:
    """Returns the entry of a dataset.

    Args:
      train: pixels `[N, H, W, C]`, as `Samples` has them, and labels `[N]` int32, or None, of
        target and attacker.
      test: the same of the test images.
      num_target: how many of the former are the target's.
      num_classes: number of classes, 0 without labels.
      source: of the data, in words.
      columns: of series and tables, `Columns.facts`.
    """
    given = {
        "train_pixels": train[0],
        "train_labels": train[1],
        "test_pixels": test[0],
        "test_labels": test[1],
    }
    known = {name: array for name, array in given.items() if array is not None}
    facts = {"num_target": num_target, "num_classes": num_classes, "source": source}
    facts |= {} if columns is None else {"columns": columns}
    digits = _fingerprint(known, num_target, num_classes, columns)
    return Entry(known, {**facts, "fingerprint": digits})


def _fingerprint(
    found: dict[str, np.ndarray],
    num_target: int,
    num_classes: int,
    columns: Mapping[str, Any] | None,
) -> str:
    total = hashlib.sha256(str(num_target).encode())
    if columns is not None:
        total.update(json.dumps(columns, sort_keys=True).encode())
    labels = [array for name, array in found.items() if name.endswith("labels")]
    seen = max((int(array.max(initial=-1)) for array in labels), default=-1) + 1
    if num_classes != seen:
        total.update(f" {num_classes} classes ".encode())
    for name, array in found.items():
        total.update(f"{name} {array.shape} ".encode())
        total.update(array.astype(array.dtype.newbyteorder("<"), copy=False).data)
    return total.hexdigest()[:12]


def resized(entry: Entry, size: tuple[int, int]) -> Entry:
    """Returns an entry with its images resized, as `images.fitted` does, and all else as it is."""
    found = entry.arrays
    return packed(
        (arrays.pixels(found["train_pixels"], size), found.get("train_labels")),
        (arrays.pixels(found["test_pixels"], size), found.get("test_labels")),
        num_target=entry.facts["num_target"],
        num_classes=entry.facts["num_classes"],
        source=f"{entry.facts['source']} resized to {size[0]}x{size[1]}",
    )
