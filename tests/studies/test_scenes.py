"""Scenes: whether labels of fewer classes than a network has outputs are those of its outputs."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from jaxinv.inputs.data import Dataset
from jaxinv.inputs.samples import Samples
from jaxinv.networks import sequence
from jaxinv.studies import scenes
from jaxinv.training.target import Target

NETWORK = sequence([("head", nn.DenseGeneral(4, axis=(-3, -2, -1)))], (2, 2, 1))
LABELS = np.arange(60, dtype=np.int32) % 3


@pytest.fixture
def few():
    """A network of four outputs and images of three classes."""
    images = Samples(np.zeros((60, 2, 2, 1), np.uint8), LABELS)
    dataset = Dataset("few", "zeros", "0" * 12, 3, images, images, images)
    params = NETWORK.init(jax.random.key(0))
    return Target("own", NETWORK, params, "given", "0" * 12, {}), dataset


@pytest.mark.parametrize(
    "accuracy, kind", [(0.9, "accuracy"), (1 / 3, "agreement"), (0.4, "agreement")]
)
def test_labels_that_fit_measure_accuracy(few, monkeypatch, capsys, accuracy, kind):
    monkeypatch.setattr(scenes.targets, "test_accuracy", lambda *_: accuracy)
    target, dataset = few
    assert scenes._kind(target, dataset) == kind
    told = f"labels of 3 classes, and the network 4 outputs: {accuracy:.1%} are right, so usability"
    assert f"{told} is {kind}." in capsys.readouterr().out
    scene = scenes.Scene(dataset, target, scenes._undefended(target, dataset, kind), ["head"])
    assert (scene.accuracy is not None) == (kind == "accuracy")
    assert scene.on("choice", dataset).usability.kind == kind
