"""Networks of ONNX files: cuts, layouts, any batch, and attacks on them."""

import jax
import numpy as np
import pytest
import toy_models
from onnx import TensorProto
from onnx_graphs import as_taken, model, of_reference, of_runtime, weights

from jaxinv.attacks.whitebox import rmle
from jaxinv.attacks.whitebox.settings import tv_settings
from jaxinv.networks import evaluation, from_onnx

MODELS = {
    "resnet": toy_models.resnet,
    "vit": toy_models.vit,
    "vit with tokens first": lambda: toy_models.vit(batch_first=False),
}
_MADE = {}


def made(name):
    """Returns a model and its network, made once."""
    if name not in _MADE:
        proto = MODELS[name]()
        _MADE[name] = (proto, *from_onnx(proto))
    return _MADE[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_batch_of_images_has_the_outputs_of_each_in_onnx_runtime(name):
    proto, network, params = made(name)
    x = weights(3, 3, 8, 8)
    assert network.input_shape == (8, 8, 3)
    found = network.apply(params, as_taken(network, x))
    np.testing.assert_allclose(found, of_runtime(proto, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_edge_and_cloud_are_the_network_at_every_cut(name):
    _, network, params = made(name)
    x = as_taken(network, weights(2, 3, 8, 8))
    whole = np.asarray(network.apply(params, x))
    for cut in network.cuts:
        edge, cloud = network.split(cut)
        np.testing.assert_array_equal(cloud.apply(params, edge.apply(params, x)), whole)


def test_cuts_end_convolutions_activations_poolings_and_sums_where_one_array_crosses():
    _, network, _ = made("resnet")
    names = [name.rpartition("_")[0] for name in network.cuts]
    assert names == ["conv1", "relu1", "pool1", "block.add", "block.relu2", "pool2", "y"]
    assert network.shapes["relu1_Relu"] == (8, 8, 4)
    assert network.shapes["block.relu2_Relu"] == (4, 4, 4)


def test_parameters_are_named_as_in_the_file_with_normalisation_folded():
    _, _, params = made("resnet")
    shapes = jax.tree.map(np.shape, params)
    assert shapes["fc"] == {"weight": (4, 5), "bias": (5,)}
    assert shapes["conv1"]["weight"] == (3, 3, 3, 4)
    assert {*params} == {"conv1", "conv1_Conv", "block", "fc"} or "block.conv1" in params
    leaves = jax.tree.leaves(params)
    assert all(leaf.dtype == np.float32 for leaf in leaves) and len(leaves) == 8


def test_rectifiers_and_plain_convolutions_are_recognised():
    _, network, params = made("resnet")
    edge, _ = network.split("relu1_Relu")
    before = edge.before_rectifier()
    x = as_taken(network, weights(2, 3, 8, 8))
    np.testing.assert_array_equal(np.maximum(before.apply(params, x), 0), edge.apply(params, x))
    equations = network.source.program.equations
    assert sum(map(evaluation.is_plain_convolution, equations)) == 3
    first = next(place for place, each in enumerate(equations) if "conv" in each.name)
    names = [each.name for each in equations[first:] if each.name == "transpose"]
    assert len(names) <= 1  # of the single pixel that is left, before the dense layer


def test_an_attack_runs_on_an_imported_edge():
    _, network, params = made("resnet")
    edge, _ = network.split("relu1_Relu")
    x = np.clip(as_taken(network, weights(2, 3, 8, 8)) * 0.2 + 0.5, 0, 1)
    settings = tv_settings(network, "relu1_Relu").replaced({"steps": 3})
    found = rmle.invert(edge, params, np.asarray(edge.apply(params, x)), settings)
    assert found.images.shape == x.shape and np.isfinite(found.images).all()


# --- Layouts --------------------------------------------------------------------------------------


def check(proto, shape, x):
    network, params = from_onnx(proto)
    assert network.input_shape == shape
    found = np.asarray(network.apply(params, as_taken(network, x)))
    np.testing.assert_allclose(found, of_reference(proto, x), rtol=1e-4, atol=1e-5)
    return network


def test_images_that_are_transposed_first_are_taken_as_they_are():
    nodes = [
        ("Transpose", ["x"], ["t"], {"perm": [0, 3, 1, 2]}),
        ("Conv", ["t", "w"], ["c"], {}),
        ("Relu", ["c"], ["r"], {}),
        ("Transpose", ["r"], ["y"], {"perm": [0, 2, 3, 1]}),
    ]
    network = check(
        model(nodes, {"w": weights(3, 2, 3, 3)}, (None, 6, 5, 2)), (6, 5, 2), weights(2, 6, 5, 2)
    )
    assert "transpose" not in {each.name for each in network.source.program.equations}


def test_a_series_has_its_channels_last():
    nodes = [("Conv", ["x", "w"], ["y"], {})]
    check(model(nodes, {"w": weights(4, 2, 3)}, (None, 2, 9)), (9, 2), weights(2, 2, 9))


def test_a_grey_image_for_dense_layers_has_its_channel_last():
    nodes = [("Flatten", ["x"], ["f"], {}), ("MatMul", ["f", "w"], ["y"], {})]
    check(model(nodes, {"w": weights(20, 3)}, (None, 1, 4, 5)), (4, 5, 1), weights(2, 1, 4, 5))


def test_mean_and_std_are_the_first_step():
    proto, plain, params = made("resnet")
    network, _ = from_onnx(proto, mean=(0.1, 0.2, 0.3), std=0.5)
    x = as_taken(plain, weights(2, 3, 8, 8))
    own = (x - np.array([0.1, 0.2, 0.3], "f")) / np.float32(0.5)
    np.testing.assert_allclose(network.apply(params, x), plain.apply(params, own), rtol=1e-4)


# --- Batches --------------------------------------------------------------------------------------


def test_an_open_batch_is_read_off_shapes():
    nodes = [
        ("Shape", ["x"], ["shape"], {}),
        ("Gather", ["shape", "zero"], ["n"], {}),
        ("Unsqueeze", ["n", "axes"], ["n1"], {}),
        ("Concat", ["n1", "rest"], ["target"], {"axis": 0}),
        ("Reshape", ["x", "target"], ["r"], {}),
        ("MatMul", ["r", "w"], ["y"], {}),
    ]
    arrays = {"zero": np.array(0), "axes": np.array([0]), "rest": np.array([2, -1])}
    proto = model(nodes, {**arrays, "w": weights(3, 4)}, (None, 6))
    check(proto, (6,), weights(3, 6))


def test_a_batch_of_two_in_the_file_becomes_any():
    nodes = [("Reshape", ["x", "target"], ["r"], {}), ("MatMul", ["r", "w"], ["y"], {})]
    proto = model(nodes, {"target": np.array([2, 3, 2]), "w": weights(2, 4)}, (2, 6))
    network, params = from_onnx(proto)
    x = weights(5, 6)
    wanted = x.reshape(5, 3, 2) @ weights(2, 4)
    np.testing.assert_allclose(network.apply(params, x), wanted, rtol=1e-5)


def test_windows_of_several_images_share_an_axis():
    nodes = [
        ("Reshape", ["x", "windows"], ["w"], {}),
        ("Transpose", ["w"], ["t"], {"perm": [0, 1, 3, 2, 4]}),
        ("Reshape", ["t", "apart"], ["a"], {}),
        ("Softmax", ["a"], ["s"], {"axis": 1}),
        ("Reshape", ["s", "together"], ["y"], {}),
    ]
    arrays = {
        "windows": np.array([1, 2, 2, 2, 4]),
        "apart": np.array([4, 2, 4]),
        "together": np.array([1, 32]),
    }
    check(model(nodes, arrays, (1, 4, 8)), (4, 8), weights(3, 4, 8))


def test_numbers_of_one_example_are_taken_from_each():
    nodes = [
        ("Reshape", ["x", "all"], ["a"], {}),
        ("Gather", ["a", "places"], ["y"], {"axis": 0}),
    ]
    arrays = {"all": np.array([-1]), "places": np.array([[[0, 2], [5, 4], [1, 3]]])}
    check(model(nodes, arrays, (1, 6)), (6,), weights(3, 6))


# --- Outputs --------------------------------------------------------------------------------------


def test_of_a_label_and_probabilities_the_latter_are_taken():
    nodes = [
        ("MatMul", ["x", "w"], ["z"], {}),
        ("Softmax", ["z"], ["p"], {}),
        ("ArgMax", ["p"], ["label"], {"axis": 1}),
        ("ai.onnx.ml.ZipMap", ["p"], ["maps"], {"classlabels_int64s": [0, 1, 2]}),
    ]
    outputs = [("label", TensorProto.INT64), ("maps", TensorProto.UNDEFINED)]
    proto = model(nodes, {"w": weights(6, 3)}, (None, 6), outputs=outputs)
    network, params = from_onnx(proto)
    x = weights(2, 6)
    wanted = jax.nn.softmax(x @ weights(6, 3))
    np.testing.assert_allclose(network.apply(params, x), wanted, rtol=1e-5)


def test_a_file_is_read_with_its_weights_in_another(tmp_path):
    onnx = pytest.importorskip("onnx")
    proto = MODELS["resnet"]()
    path = tmp_path / "net.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="net.data", size_threshold=0)
    network, params = from_onnx(path)
    x = as_taken(network, weights(2, 3, 8, 8))
    _, plain, own = made("resnet")
    np.testing.assert_array_equal(network.apply(params, x), plain.apply(own, x))
