"""Usability: accuracy, agreement and the cosine of outputs, on the same draws as a release."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from jaxinv.defenses import GAUSSIAN, NONE, Release
from jaxinv.measures import usability
from jaxinv.networks import sequence

SHAPE = (4, 4, 1)


def dense(outputs):
    return nn.DenseGeneral(outputs, axis=(-3, -2, -1))


def network_of(outputs):
    layers = [("hidden", dense(6)), ("relu", nn.relu), ("head", nn.Dense(outputs))]
    return sequence(layers, SHAPE)


NETWORK = network_of(3)
PARAMS = NETWORK.init(jax.random.key(0))
PARTS = NETWORK.split("relu")
IMAGES = np.random.default_rng(0).uniform(size=(40, *SHAPE)).astype(np.float32)
KEY = jax.random.key(1)
FAMILY = [GAUSSIAN.at("feature", level) for level in (0.1, 1.0)]


def outputs(defense):
    release = Release(PARTS[0], PARAMS, IMAGES, defense, KEY)
    return np.asarray(PARTS[1].apply(PARAMS, release[np.arange(len(IMAGES))]))


def scores(kind, wanted=None, network=NETWORK):
    params = network.init(jax.random.key(0))
    parts, whole = network.split("relu"), (network, params)
    return usability.scores(kind, parts, params, IMAGES, wanted, FAMILY, KEY, whole=whole)


@pytest.mark.parametrize(
    "outputs, classes, kind",
    [
        *((3, 3, "accuracy"), (3, 4, "agreement"), (3, 0, "agreement")),
        *((1, 0, "closeness"), (1, 1, "closeness")),
    ],
)
def test_labels_and_outputs_tell_the_measure(outputs, classes, kind):
    assert usability.kind_of(network_of(outputs), classes) == kind


@pytest.mark.parametrize(
    "outputs, classes, may_be",
    [(5, 3, True), (5, 5, False), (3, 5, False), (5, 0, False), (5, 1, False), (1, 0, False)],
)
def test_labels_of_fewer_classes_may_be_numbers_of_outputs(outputs, classes, may_be):
    assert usability.may_be_classes(network_of(outputs), classes) == may_be


def test_maps_and_several_outputs_are_compared_by_cosine():
    grid = sequence([("conv", nn.Conv(3, (3, 3)))], SHAPE)
    assert usability.kind_of(grid, 3) == "cosine"


def test_agreement_is_of_the_same_draws_as_the_release():
    wanted = outputs(NONE).argmax(1)
    found = scores("agreement", wanted)
    for values, defense in zip(found.values, FAMILY, strict=True):
        assert values.tolist() == (outputs(defense).argmax(1) == wanted).tolist()
    assert found.values.shape == (2, 40) and found.values[0].mean() > found.values[1].mean()


def test_cosine_and_relative_error_are_beside_the_undefended_output():
    found, plain = scores("cosine"), outputs(NONE)
    for values, errors, defense in zip(found.values, found.errors, FAMILY, strict=True):
        own = outputs(defense)
        norms = np.linalg.norm(own, axis=1) * np.linalg.norm(plain, axis=1)
        np.testing.assert_allclose(values, (own * plain).sum(1) / norms, atol=1e-5)
        apart = np.linalg.norm(own - plain, axis=1) / np.linalg.norm(plain, axis=1)
        np.testing.assert_allclose(errors, apart, rtol=1e-4)
    summary = usability.summarise("cosine", found._replace(values=found.values), 1.0)
    assert summary.interval.low < summary.value < summary.interval.high <= 1
    assert summary.relative_error == pytest.approx(found.errors.mean())


def test_a_single_value_is_judged_by_its_size():
    network = sequence([("relu", nn.relu), ("total", lambda x: x.sum((1, 2)) / 16)], SHAPE)
    found = scores("closeness", network=network)
    plain = IMAGES.mean((1, 2, 3))
    for values, errors in zip(found.values, found.errors, strict=True):
        apart = errors * plain
        expected = [1 - apart / np.maximum(plain, plain + sign * apart) for sign in (-1, 1)]
        assert np.isclose(values, expected, atol=1e-4).any(axis=0).all()
    assert found.values[0].mean() > found.values[1].mean() + 0.1


def test_records_tell_accuracy_where_it_is_the_measure_alone():
    own = usability.undefended("accuracy", 0.75, 40).fields
    assert own["accuracy"] == own["accuracy_undefended"] == own["usability"]["value"] == 0.75
    assert own["accuracy_ci"] == own["usability"]["ci"] and own["accuracy_ci"][0] < 0.75
    other = usability.undefended("cosine", None, 40).fields
    assert other["accuracy"] is None and other["accuracy_ci"] == [None, None]
    assert other["usability"] == {
        **{"kind": "cosine", "value": 1.0, "value_undefended": 1.0, "ci": [1.0, 1.0]},
        "relative_error": 0.0,
    }
