"""Names of cuts and parameters are those of modules, whatever the exporter."""

import pytest
from onnx_graphs import model, weights

from jaxinv.networks import from_onnx
from jaxinv.networks.onnx import names, reading
from jaxinv.networks.onnx.graph import Node

LABELS = {
    ("/layer1/layer1.0/conv1/Conv", "Conv"): "layer1.0.conv1",
    ("/layer1/layer1.0/relu_1/Relu", "Relu"): "layer1.0.relu_1",
    ("/layer1/layer1.0/Add", "Add"): "layer1.0.Add",
    ("/features/features.3/Concat", "Concat"): "features.3.Concat",
    ("nsfw/conv_1/Conv2D:0", "Conv"): "nsfw.conv_1.Conv2D",
    ("Relu_48", "Relu"): "Relu_48",
    ("/" + "block/" * 20 + "Add", "Add"): "block." * 8 + "Add",
    ("x" * 90, "Relu"): "x" * 56,
    ("größe", "Relu"): "gr__e",
}


@pytest.mark.parametrize("name", LABELS)
def test_nodes_are_named_after_their_modules(name):
    assert names.label(Node(name[1], name[0], (), (), {}, 17, None)) == LABELS[name]


def test_scopes_that_torch_writes_name_modules():
    proto = model([("Conv", ["x", "w"], ["y"], {})], {"w": weights(2, 1, 3, 3)}, (1, 1, 4, 4))
    scopes = "['', 'layer1', 'layer1.0', 'layer1.0.conv1', 'conv2d']"
    for entry in (scopes, "[broken", "{'a': 1}"):
        proto.graph.node[0].ClearField("metadata_props")
        own = proto.graph.node[0].metadata_props.add()
        own.key, own.value = "pkg.torch.onnx.name_scopes", entry
        (node,) = reading.read(proto).nodes
        assert names.label(node) == ("layer1.0.conv1" if entry == scopes else "y_Conv")


def test_parameters_of_one_name_or_of_a_folders_name_are_told_apart():
    arrays = {"a": weights(2), "a.b": weights(2), "A": weights(2), "onnx::Add_7": weights(2)}
    last, nodes = "x", []
    for number, name in enumerate(arrays):
        nodes.append(("Mul", [last, name], [f"v{number}"], {}))
        last = f"v{number}"
    nodes.append(("Relu", [last], ["y"], {}))
    _, params = from_onnx(model(nodes, arrays, (1, 2)))
    assert len(params) == 4 and {"a", "A_2"} <= {*params}
    assert {*map(str.lower, params)} >= {"a", "a_", "a_2", "v3_mul"}
