"""Accuracies that are measured once, and kept in the cache."""

import jax
import numpy as np

from jaxinv.inputs.samples import Samples
from jaxinv.networks import lenet5
from jaxinv.training import measured


def test_files_that_killed_processes_left_go_when_an_accuracy_is_measured(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXINV_CACHE", str(tmp_path))
    (tmp_path / "accuracies").mkdir()
    left = tmp_path / "accuracies" / ".0123456789ab.tmp"
    left.touch()
    network = lenet5()
    samples = Samples(np.zeros((2, 28, 28, 1), np.uint8), np.zeros(2, np.int32))
    found = measured.accuracy(network, network.init(jax.random.key(0)), samples)
    assert found in (0.0, 1.0)
    assert not left.exists() and len(list((tmp_path / "accuracies").iterdir())) == 1
