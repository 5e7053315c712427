"""The dataset `tiny:1.0.0`, and its loading."""

from pathlib import Path

import numpy as np
from datasets import random_split

from jaxinv.inputs import data
from jaxinv.inputs import decode as _decode

TRAIN = random_split(9, seed=1)
TEST = random_split(4, seed=2)
HAS_TENSORFLOW = _decode.has_tensorflow()


def load(name, root, lines=None):
    """Loads, collecting what is announced in `lines` (nothing may be, without it)."""
    announced = []
    dataset = data.load(name, data_dir=root, announce=announced.append)
    if lines is None:
        assert announced == []
    else:
        lines += announced
    return dataset


def cache_entry(tmp_path) -> Path:
    (entry,) = (
        path for path in (tmp_path / "cache" / "data").iterdir() if ".corrupt-" not in path.name
    )
    return entry


def assert_is_tiny(dataset):
    np.testing.assert_array_equal(dataset.target.pixels, TRAIN[0][:6])
    np.testing.assert_array_equal(dataset.attacker.pixels, TRAIN[0][6:])
    np.testing.assert_array_equal(dataset.test.pixels, TEST[0])
    np.testing.assert_array_equal(dataset.target.labels, TRAIN[1][:6])
    np.testing.assert_array_equal(dataset.attacker.labels, TRAIN[1][6:])
    np.testing.assert_array_equal(dataset.test.labels, TEST[1])


def assert_one_line(caught, *parts):
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert str(part) in message
