"""Files that are no network are refused in one line: the file, the node, the operator."""

import numpy as np
import onnx
import pytest
import toy_models
from onnx import TensorProto, helper
from onnx_graphs import model, weights

from jaxinv.errors import UsageError, UserError
from jaxinv.networks import from_onnx

TABLE, IMAGE = (1, 6), (1, 3, 8, 8)


def chain(*operators, arrays=None, shape=TABLE, **options):
    """Returns a model of nodes in a row; each is an operator, or one with inputs and attributes."""
    nodes, last = [], "x"
    for number, (op, extra, attributes) in enumerate(operators):
        result = "y" if number == len(operators) - 1 else f"v{number}"
        nodes.append((op, [last, *extra], [result], attributes))
        last = result
    return model(nodes, arrays or {}, shape, **options)


def node(op, *extra, **attributes):
    return op, extra, attributes


def with_control_flow():
    body = helper.make_graph([], "body", [], [])
    proto = chain(node("Relu"))
    proto.graph.node.append(helper.make_node("If", ["x"], ["z"], "choice", then_branch=body))
    proto.graph.output[0].name = "z"
    return proto


def in_training():
    arrays = {name: weights(3) ** 2 for name in "abcd"}
    return chain(node("BatchNormalization", *"abcd", training_mode=1), arrays=arrays, shape=IMAGE)


def with_two_inputs():
    proto = chain(node("Relu"))
    proto.graph.input.append(helper.make_tensor_value_info("x2", TensorProto.FLOAT, [1, 6]))
    return proto


def without_a_maker():
    proto = chain(node("Relu"))
    proto.graph.node[0].input[0] = "nothing"
    return proto


def in_a_circle():
    proto = chain(node("Relu"), node("Relu"))
    proto.graph.node[0].input[0] = "y"
    return proto


REFUSED = {
    "unknown operators": (
        lambda: chain(node("Hardmax"), node("Det"), node("Det")),
        r"not supported: Det \(node v1_Det and 1 more\), Hardmax \(node v0_Hardmax\)",
    ),
    "another domain": (
        lambda: chain(node("com.microsoft.FusedGelu")),
        r"com.microsoft.FusedGelu \(node",
    ),
    "boxes": (lambda: chain(node("NonZero")), "NonZero"),
    "quantised": (
        lambda: chain(node("QuantizeLinear", "s"), arrays={"s": np.float32(0.1)}),
        r"QuantizeLinear \(node y_QuantizeLinear\): it is quantised",
    ),
    "control flow": (with_control_flow, r"If \(node choice\): it has control flow"),
    "weights of other axes": (
        lambda: chain(node("Gemm", "w"), arrays={"w": weights(2, 3, 4)}),
        r"node y_Gemm \(Gemm\): w has 3 axes, too few or too many\.$",
    ),
    "a kernel of one axis": (
        lambda: chain(node("Conv", "w"), arrays={"w": weights(4)}, shape=IMAGE),
        r"node y_Conv \(Conv\): w has 1 axes, too few or too many\.$",
    ),
    **{
        f"a kernel of {len(shape)} axes, {op}": (
            lambda op=op, shape=shape: chain(
                node(op, "w"), arrays={"w": weights(*shape)}, shape=IMAGE
            ),
            rf"node y_{op} \({op}\): its kernel has {len(shape)} axes, and its input 4\.$",
        )
        for op in ("Conv", "ConvTranspose")
        for shape in ((3, 3), (3, 3, 3), (3, 3, 3, 3, 3))
    },
    "training": (in_training, r"node y_BatchNorm.*it is in training.*model.eval"),
    "random": (
        lambda: model(
            [("RandomNormal", [], ["r"], {"shape": [1, 6]}), ("Add", ["x", "r"], ["y"], {})],
            {},
            TABLE,
        ),
        r"node r_RandomNormal \(RandomNormal\): it is random",
    ),
    "huge": (
        lambda: model(
            [("ConstantOfShape", ["s"], ["c"], {}), ("Add", ["x", "c"], ["y"], {})],
            {"s": np.array([10**6, 10**6, 10**6])},
            TABLE,
        ),
        r"node c_ConstantOfShape .*it makes 1e\+18 numbers",
    ),
    "old": (lambda: chain(node("Relu"), opset=8), "opset 8: expected 9 to"),
    "new": (lambda: chain(node("Relu"), opset=99), "opset 99: expected 9 to"),
    "open sizes": (
        lambda: chain(node("Relu"), shape=(None, 3, None, 8)),
        "its input x leaves N open.*fixed sizes",
    ),
    "whole numbers": (
        lambda: chain(node("Cast", to=1), kind=TensorProto.INT64),
        "its input x holds int64: expected floats",
    ),
    "two inputs": (with_two_inputs, "its inputs are x, x2: expected one"),
    "no maker": (without_a_maker, "no node makes 'nothing'"),
    "a circle": (in_a_circle, "y depends on itself"),
    "no floats": (
        lambda: chain(node("ArgMax", axis=1), outputs=[("y", TensorProto.INT64)]),
        "no output of floats that depends on its input",
    ),
    "a constant": (
        lambda: model([("Relu", ["w"], ["y"], {})], {"w": weights(3)}, TABLE),
        "no output of floats that depends on its input",
    ),
    "a shape from numbers": (
        lambda: model(
            [
                ("Cast", ["x"], ["s"], {"to": TensorProto.INT64}),
                ("Reshape", ["x", "s"], ["y"], {}),
            ],
            {},
            (6,) * 2,
        ),
        r"node y_Reshape \(Reshape\): its input s depends on the numbers",
    ),
    "shapes": (
        lambda: chain(node("MatMul", "w"), arrays={"w": weights(7, 2)}),
        r"node y_MatMul \(MatMul\): ",
    ),
    "a reshape": (
        lambda: chain(node("Reshape", "s"), arrays={"s": np.array([1, 4])}),
        r"\(Reshape\): an array of shape \[1, 6\] does not become \[1, 4\]",
    ),
    "places of maxima": (
        lambda: model(
            [
                ("MaxPool", ["x"], ["m", "places"], {"kernel_shape": [2, 2]}),
                ("Cast", ["places"], ["p"], {"to": 1}),
                ("Add", ["m", "p"], ["y"], {}),
            ],
            {},
            IMAGE,
        ),
        r"node p_Cast \(Cast\): its input places is an output of a node that is not supported",
    ),
    "inputs": (lambda: chain(node("MatMul")), r"\(MatMul\): it has 1 inputs, too few or"),
    "a window": (
        lambda: chain(node("MaxPool", kernel_shape=[2**40, 2]), shape=IMAGE),
        r"\(MaxPool\): kernel_shape=.*expected 2 numbers from 1 to 65536",
    ),
    "much padding": (
        lambda: chain(node("Pad", "p", mode="edge"), arrays={"p": np.array([0, 0, 0, 2**40])}),
        r"\(Pad\): pads=.*expected numbers up to 65536",
    ),
    "an axis": (lambda: chain(node("Softmax", axis=7)), r"\(Softmax\): axis 7 of an array"),
    "mixed examples": (
        lambda: chain(node("Softmax", axis=0)),
        "must treat examples independently|depends on the others",
    ),
    "the batch gone": (
        lambda: chain(node("ReduceSum", keepdims=0)),
        "must keep the batch as its first axis",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_a_line(name, tmp_path):
    build, message = REFUSED[name]
    path = tmp_path / "net.onnx"
    onnx.save(build(), path)
    with pytest.raises(UserError, match=message) as caught:
        from_onnx(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "net.onnx"
    with pytest.raises(UserError, match="net.onnx: there is no such file"):
        from_onnx(path)
    for content in (b"", b"PK\x03\x04 not a network", bytes(1000)):
        path.write_bytes(content)
        with pytest.raises(UserError, match="net.onnx: it is damaged, or no ONNX file"):
            from_onnx(path)
    with pytest.raises(UsageError, match="path_or_model=int: expected"):
        from_onnx(3)


def test_missing_weights_are_named(tmp_path):
    path = tmp_path / "net.onnx"
    proto = toy_models.resnet()
    onnx.save(proto, path, save_as_external_data=True, location="net.data", size_threshold=0)
    (tmp_path / "net.data").unlink()
    with pytest.raises(UserError, match=r"net.onnx: its weights stand in net.data, missing"):
        from_onnx(path)


def test_mean_that_does_not_fit_is_a_fault_of_the_argument():
    with pytest.raises(UsageError, match=r"^mean="):
        from_onnx(toy_models.resnet(), mean=(1, 2), std=1)


@pytest.mark.parametrize("seed", range(3))
def test_damaged_bytes_never_end_in_a_traceback(seed, tmp_path):
    rng = np.random.default_rng(seed)
    sound = model(
        [
            ("Conv", ["x", "w"], ["c"], {"pads": [1, 1, 1, 1]}),
            ("Relu", ["c"], ["r"], {}),
            ("Reshape", ["r", "s"], ["f"], {}),
            ("MatMul", ["f", "m"], ["y"], {}),
        ],
        {"w": weights(2, 1, 3, 3), "s": np.array([1, -1]), "m": weights(32, 2)},
        (1, 1, 4, 4),
    ).SerializeToString()
    path = tmp_path / "net.onnx"
    for _ in range(25):
        content = bytearray(sound)
        for place in rng.integers(0, len(content), rng.integers(1, 4)):
            content[place] = rng.integers(0, 256)
        path.write_bytes(bytes(content[: rng.integers(1, 2 * len(content))]))
        try:
            from_onnx(path)
        except UserError as error:
            assert "\n" not in str(error)
