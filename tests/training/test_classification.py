"""Accuracy, against NumPy."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from jaxinv import networks
from jaxinv.defenses import GAUSSIAN
from jaxinv.errors import UsageError, UserError
from jaxinv.inputs.data import Dataset
from jaxinv.inputs.samples import Samples
from jaxinv.training import classification, recipes, retraining


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


FLAT = ("flat", lambda x: x.reshape(len(x), -1))
NETWORK = networks.sequence([FLAT, ("fc", nn.Dense(3))], (2, 2, 1))
FITS = samples(8, (2, 2, 1), 0, classes=3)
UNFIT = {
    "another size": (
        NETWORK,
        samples(8, (3, 2, 1), 0, 3),
        r"samples=\[8, 3, 2, 1\]: .*\[N, 2, 2, 1\]",
    ),
    "no images": (NETWORK, FITS[:0], r"samples=\[0, 2, 2, 1\]: .*at least one"),
    "a class too many": (
        NETWORK,
        Samples(FITS.pixels, FITS.labels + 1),
        "labels=int32 .* from 1 to 3: expected classes of 0 to 2",
    ),
    "no logits": (
        networks.sequence([("act", nn.relu)], (2, 2, 1)),
        FITS,
        r"network=\[N, 2, 2, 1\]: expected outputs \[N, classes\]",
    ),
}
TRAINED = {
    "accuracy": lambda network, given: classification.accuracy(network, {}, given),
    "a target": lambda network, given: recipes.train(
        Dataset("a", "b", "c", 4, given, given, given), network, RECIPE
    ),
    "retraining": lambda network, given: retraining.retrain(
        network,
        {},
        network.cuts[0],
        [GAUSSIAN.at("feature", 1.0)],
        given,
        part="cloud",
        key=jax.random.key(0),
    ),
}
RECIPE = recipes.TargetRecipe("amsgrad", 1, 4, 1e-3, 0.0, 1e-8, augmentation="none")


@pytest.mark.parametrize("what", TRAINED)
@pytest.mark.parametrize("kind", UNFIT)
def test_samples_that_do_not_fit_the_network_are_refused(kind, what):
    network, given, message = UNFIT[kind]
    with pytest.raises(UsageError, match=message):
        TRAINED[what](network, given)


def test_labels_of_features_must_be_classes():
    cloud = networks.sequence([("double", lambda x: 2 * x)], (3,))
    for labels in (np.zeros(3, int), np.full(2, 3), np.zeros(2)):
        with pytest.raises(UsageError, match="^labels="):
            classification.correct(cloud, {}, np.zeros((2, 3), "f"), labels)


def test_parts_of_a_dataset_are_of_one_shape_and_of_its_classes():
    with pytest.raises(UsageError, match=r"pixels=\[8, 3, 2, 1\]: .*\[N, 2, 2, 1\]"):
        Dataset("a", "b", "c", 3, samples(8, (3, 2, 1), 0, 3), FITS, FITS)
    with pytest.raises(UsageError, match="labels=int32 .*: expected classes of 0 to 1"):
        Dataset("a", "b", "c", 2, FITS, FITS, FITS)


@pytest.mark.parametrize("kind", [np.uint8, np.int32, bool])
def test_a_network_takes_no_whole_numbers(kind):
    with pytest.raises(UserError, match=f"of floats, got {np.dtype(kind)}"):
        NETWORK.apply({}, np.ones((2, 2, 2, 1), kind))
