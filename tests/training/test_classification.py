"""Accuracy, against NumPy."""

import flax.linen as nn
import numpy as np
import pytest

from jaxinv import networks
from jaxinv.inputs.data import Samples
from jaxinv.training import classification


def samples(count, shape, seed, classes=10):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
    return Samples(pixels, rng.integers(0, classes, count).astype(np.int32))


@pytest.mark.parametrize("count", [7, 520])
def test_accuracy_is_numpys(count):
    data = samples(count, (2, 2, 1), 3, classes=3)
    layers = [("flat", lambda x: x.reshape(len(x), -1)), ("fc", nn.Dense(3))]
    network = networks.sequence(layers, (2, 2, 1))
    kernel = np.random.default_rng(4).standard_normal((4, 3)).astype("f")
    params = {"fc": {"kernel": kernel, "bias": np.zeros(3, "f")}}
    predicted = (data.images.reshape(count, 4) @ kernel).argmax(1)
    labels = np.where(np.arange(count) < 5, predicted, (predicted + 1) % 3).astype(np.int32)
    result = classification.accuracy(network, params, Samples(data.pixels, labels))
    assert result == 5 / count


@pytest.mark.parametrize("count", [3, 500, 620])
def test_which_features_are_classified_rightly(count):
    cloud = networks.sequence([("double", lambda x: 2 * x)], (3,))
    features = np.random.default_rng(0).normal(size=(count, 3)).astype("f")
    labels = np.arange(count) % 3
    found = classification.correct(cloud, {}, features, labels)
    assert found.dtype == bool
    np.testing.assert_array_equal(found, features.argmax(1) == labels)
