"""Each operator computes the numbers that ONNX defines, in the opsets where its form differs."""

import numpy as np
import pytest
from onnx import AttributeProto
from onnx_graphs import as_taken, model, of_reference, of_runtime, weights

from jaxinv.networks import from_onnx
from jaxinv.networks.onnx.operators import OPERATORS
from jaxinv.networks.onnx.operators.normalizations import SCALE_AND_SHIFT

IMAGE, SERIES, TABLE, TOKENS = (1, 4, 6, 5), (1, 3, 8), (1, 6), (1, 5, 4)
I64 = np.int64


def one(op, shape=IMAGE, extra=(), opset=17, **attributes):
    """Returns a case of one node, with constants `extra` behind its input."""
    names = [f"c{number}" if array is not None else "" for number, array in enumerate(extra)]
    arrays = {name: array for name, array in zip(names, extra, strict=True) if array is not None}
    return [(op, ["x", *names], ["y"], attributes)], arrays, shape, opset


CASES = {
    **{
        op: one(op)
        for op in (
            *("Abs", "Neg", "Exp", "Erf", "Sin", "Cos", "Floor", "Ceil", "Sign", "Tanh", "Relu"),
            *("Sigmoid", "Softplus", "HardSwish", "Softsign", "LeakyRelu", "Elu", "Selu"),
            *("HardSigmoid", "ThresholdedRelu", "Celu", "GlobalAveragePool", "GlobalMaxPool"),
            *("LpNormalization", "Identity", "Reciprocal", "Softmax", "LogSoftmax"),
        )
    },
    "Mish": one("Mish", opset=18),
    "Gelu": one("Gelu", opset=20),
    "Gelu tanh": one("Gelu", opset=20, approximate="tanh"),
    "Celu alpha": one("Celu", alpha=0.7),
    "Elu alpha": one("Elu", alpha=0.7),
    "Softmax 12": one("Softmax", opset=12, axis=2),
    "Softmax axis": one("Softmax", axis=1),
    "PRelu": one("PRelu", extra=[weights(4, 1, 1)]),
    "Clip": one("Clip", extra=[np.float32(0), np.float32(0.5)]),
    "Clip 9": one("Clip", opset=9, min=-0.1, max=0.3),
    "Clip high": one("Clip", extra=[None, np.float32(0.5)]),
    "Pow": one("Pow", extra=[np.float32(2)]),
    "Pow of a root": one("Pow", extra=[weights(5) ** 2]),
    "Add to channels": one("Add", extra=[weights(4, 1, 1)]),
    "Sub": one("Sub", extra=[weights(1, 4, 1, 5)]),
    "Mul by a number": one("Mul", extra=[np.array([[[[0.5]]]], "f")]),
    "Div": one("Div", extra=[np.float32(3)]),
    "Max": one("Max", extra=[weights(6, 5), weights(4, 1, 1)]),
    "Mean": one("Mean", extra=[weights(6, 5)]),
    "Mod": one("Mod", extra=[np.float32(0.3)], fmod=1),
    "Dropout": one("Dropout", extra=[np.float32(0.5), np.array(False)]),
    "Dropout 10": one("Dropout", opset=10, ratio=0.4),
    # Convolution.
    "Conv": one("Conv", extra=[weights(3, 4, 3, 2), weights(3)], pads=[1, 0, 0, 1]),
    "Conv strided": one("Conv", extra=[weights(3, 4, 3, 3)], strides=[2, 1], dilations=[1, 2]),
    "Conv depthwise": one("Conv", extra=[weights(8, 1, 3, 3)], group=4, pads=[1] * 4),
    "Conv same": one("Conv", extra=[weights(3, 4, 2, 4)], auto_pad="SAME_UPPER", strides=[2, 2]),
    "Conv lower": one("Conv", extra=[weights(3, 4, 2, 4)], auto_pad="SAME_LOWER"),
    "Conv valid": one("Conv", extra=[weights(3, 4, 2, 2)], auto_pad="VALID"),
    "Conv of a series": one("Conv", SERIES, extra=[weights(2, 3, 3), weights(2)], pads=[1, 1]),
    "Conv of a volume": one("Conv", (1, 2, 4, 3, 5), extra=[weights(3, 2, 2, 2, 2)]),
    "ConvTranspose": one(
        "ConvTranspose", extra=[weights(4, 3, 3, 3), weights(3)], strides=[2, 2], pads=[1] * 4
    ),
    "ConvTranspose wide": one(
        "ConvTranspose", extra=[weights(4, 3, 2, 2)], strides=[2, 2], output_padding=[1, 1]
    ),
    # Pooling.
    "MaxPool": one("MaxPool", kernel_shape=[2, 2], strides=[2, 2]),
    "MaxPool overlapping": one("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
    "MaxPool dilated": one("MaxPool", kernel_shape=[2, 2], dilations=[2, 1]),
    "MaxPool up": one("MaxPool", kernel_shape=[3, 2], strides=[2, 2], ceil_mode=1),
    "MaxPool of a series": one("MaxPool", SERIES, kernel_shape=[2], strides=[2]),
    "AveragePool": one("AveragePool", kernel_shape=[2, 2], strides=[2, 2]),
    "AveragePool padded": one("AveragePool", kernel_shape=[3, 3], pads=[1] * 4),
    "AveragePool of all": one(
        "AveragePool", kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1
    ),
    "AveragePool up": one("AveragePool", kernel_shape=[3, 2], strides=[2, 2], ceil_mode=1),
    # Normalisation.
    "BatchNormalization": one(
        "BatchNormalization", extra=[weights(4), weights(4), weights(4), weights(4) ** 2]
    ),
    "LayerNormalization": one("LayerNormalization", TOKENS, extra=[weights(4), weights(4)]),
    "LayerNormalization axis": one(
        "LayerNormalization", extra=[weights(4, 6, 5)], axis=1, epsilon=0.1
    ),
    "InstanceNormalization": one("InstanceNormalization", extra=[weights(4), weights(4)]),
    "GroupNormalization": one(
        "GroupNormalization", extra=[weights(4), weights(4)], opset=21, num_groups=2
    ),
    "Scaler": one("ai.onnx.ml.Scaler", TABLE, offset=[0.1] * 6, scale=[2.0] * 6),
    # Products.
    "MatMul": one("MatMul", TABLE, extra=[weights(6, 3)]),
    "MatMul of tokens": one("MatMul", TOKENS, extra=[weights(4, 3)]),
    "MatMul of images": one("MatMul", extra=[weights(5, 3)]),
    "Gemm": one("Gemm", TABLE, extra=[weights(6, 3), weights(3)]),
    "Gemm transposed": one("Gemm", TABLE, extra=[weights(3, 6), weights(3)], transB=1),
    "Gemm scaled": one("Gemm", TABLE, extra=[weights(6, 3), weights(1, 3)], alpha=0.5, beta=2.0),
    "Einsum": one("Einsum", TOKENS, extra=[weights(4, 2)], equation="nij,jk->nik"),
    # Reductions.
    "ReduceMean": one("ReduceMean", axes=[2, 3]),
    "ReduceMean 18": one("ReduceMean", extra=[np.array([-1, 1])], opset=18, keepdims=0),
    "ReduceSum 11": one("ReduceSum", opset=11, axes=[1], keepdims=0),
    "ReduceSum": one("ReduceSum", extra=[np.array([1])]),
    "ReduceMax": one("ReduceMax", axes=[1], keepdims=0),
    "ReduceL2": one("ReduceL2", axes=[3]),
    "ReduceLogSumExp": one("ReduceLogSumExp", axes=[3]),
    "CumSum": one("CumSum", TOKENS, extra=[np.array(1)], exclusive=1, reverse=1),
    # Parts.
    "Slice": one("Slice", extra=[np.array([1, -3]), np.array([9, -1]), np.array([2, 3])]),
    "Slice 9": one("Slice", opset=9, starts=[1], ends=[3], axes=[1]),
    "Slice back": one(
        "Slice",
        extra=[np.array([-1]), np.array([-99]), np.array([3]), np.array([-2])],
    ),
    "Gather": one("Gather", extra=[np.array([3, 0, -1])], axis=1),
    "Gather one": one("Gather", extra=[np.array(1)], axis=2),
    "Gather even": one("Gather", extra=[np.array([0, 2])], axis=1),
    "Gather many": one("Gather", TOKENS, extra=[np.array([[0, 1], [3, 2]])], axis=1),
    "Pad": one("Pad", extra=[np.array([0, 0, 1, 2, 0, 0, 3, -1]), np.float32(0.5)]),
    "Pad 9": one("Pad", opset=9, pads=[0, 0, 1, 2, 0, 0, 3, 0], value=0.5),
    "Pad mirrored": one("Pad", extra=[np.array([0, 0, 1, 2, 0, 0, 3, 0])], mode="reflect"),
    "Pad axes": one("Pad", extra=[np.array([1, 2]), None, np.array([2])], opset=18, mode="edge"),
    "Upsample": one("Upsample", opset=9, extra=[np.array([1, 1, 2, 3], "f")]),
    "Upsample linear": one("Upsample", opset=9, extra=[np.array([1, 1, 2, 2], "f")], mode="linear"),
    # Shapes.
    "Reshape": one("Reshape", extra=[np.array([0, -1, 5])]),
    "Reshape of one": one("Reshape", extra=[np.array([1, 2, 60])]),
    "Flatten": one("Flatten"),
    "Transpose": one("Transpose", perm=[0, 2, 3, 1]),
    "Squeeze": one("Squeeze", (1, 4, 1, 5), extra=[np.array([2])]),
    "Squeeze 11": one("Squeeze", (1, 4, 1, 5), opset=11, axes=[2]),
    "Unsqueeze": one("Unsqueeze", extra=[np.array([1, -1])]),
    "Unsqueeze 11": one("Unsqueeze", TOKENS, opset=11, axes=[1]),
    "Concat": one("Concat", extra=[weights(1, 2, 6, 5)], axis=1),
    "Expand": one("Expand", TOKENS, extra=[np.array([1, 5, 4])]),
    "Tile": one("Tile", extra=[np.array([1, 2, 1, 3])]),
    "DepthToSpace": one("DepthToSpace", blocksize=2),
    "DepthToSpace CRD": one("DepthToSpace", blocksize=2, mode="CRD"),
    "SpaceToDepth": one("SpaceToDepth", (1, 3, 4, 6), blocksize=2),
    "Trilu": one("Trilu", extra=[np.array(1)], upper=0),
}


# ONNX's reference implementation has no old softmax and upsampling, and does not crop.
OF_RUNTIME = ("Softmax 12", "Pad", "Upsample", "Upsample linear")


def row(*nodes, arrays=None, shape=IMAGE, opset=17):
    """Returns a case of nodes in a row; each is an operator, further inputs, and attributes."""
    names = ["x", *(f"v{number}" for number in range(1, len(nodes))), "y"]
    made = [
        (op, [names[number], *extra], [names[number + 1]], attributes)
        for number, (op, extra, attributes) in enumerate(nodes)
    ]
    return made, arrays or {}, shape, opset


AS_NUMBER = ("Cast", (), {"to": 1})
CASES |= {
    **{op: row(("Exp", (), {}), (op, (), {})) for op in ("Log", "Sqrt")},
    **{op: one(op, TABLE) for op in ("Round", "Tan")},
    **{op: one(op, axes=[1]) for op in ("ReduceMin", "ReduceProd", "ReduceL1", "ReduceSumSquare")},
    "ReduceLogSum": row(("Exp", (), {}), ("ReduceLogSum", (), {"axes": [2]})),
    **{op: one(op, TABLE, extra=[weights(6)]) for op in ("Min", "Sum", "CastLike")},
    **{
        op: row((op, ("c",), {}), AS_NUMBER, arrays={"c": np.float32(0.1)})
        for op in ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual")
    },
    **{
        op: row(("Cast", (), {"to": 9}), (op, ("c",), {}), AS_NUMBER, arrays={"c": np.array(True)})
        for op in ("And", "Or", "Xor")
    },
    "IsNaN": row(("IsNaN", (), {}), AS_NUMBER),
    "Not": row(("Cast", (), {"to": 9}), ("Not", (), {}), AS_NUMBER),
    "ArgMax": row(("ArgMax", (), {"axis": 1, "select_last_index": 1}), AS_NUMBER),
    "ArgMin": row(("ArgMin", (), {"axis": 2, "keepdims": 0}), AS_NUMBER),
    "GatherElements": one("GatherElements", TABLE, extra=[np.array([[3, 0, 1]])], axis=1),
    "RMSNormalization": one("RMSNormalization", TOKENS, extra=[weights(4)], opset=23),
    "Swish": one("Swish", opset=24, alpha=0.7),
    "Where": row(
        ("Greater", ("c",), {}),
        ("Where", ("a", "b"), {}),
        arrays={"a": weights(4, 1, 1), "b": weights(1, 4, 6, 1, seed=1), "c": np.float32(0)},
    ),
}


def test_every_operator_has_a_case():
    tested = {op for nodes, *_ in CASES.values() for op, *_ in nodes}
    made = {"Shape", "Size", "Split", "Resize", SCALE_AND_SHIFT}
    assert tested | made >= OPERATORS.keys()


def check(case, oracle=of_reference):
    nodes, arrays, shape, opset = case
    proto = model(nodes, arrays, shape, opset=opset)
    network, params = from_onnx(proto)
    x = weights(2, *shape[1:], seed=3)
    found = network.apply(params, as_taken(network, x))
    np.testing.assert_allclose(found, oracle(proto, x), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", CASES)
def test_an_operator_computes_what_onnx_defines(name):
    check(CASES[name], of_runtime if name in OF_RUNTIME else of_reference)


SPLITS = {
    "equal 11": (11, {}, {}),
    "given 11": (11, {}, {"split": [1, 3]}),
    "given": (17, {"sizes": np.array([3, 1])}, {}),
    "num_outputs": (18, {}, {"num_outputs": 2}),
}


@pytest.mark.parametrize("name", SPLITS)
def test_split_cuts_an_axis(name):
    opset, arrays, attributes = SPLITS[name]
    nodes = [
        ("Split", ["x", *arrays], ["a", "b"], {"axis": 1, **attributes}),
        ("ReduceSum", ["a", "axis"], ["c"], {})
        if opset > 12
        else ("ReduceSum", ["a"], ["c"], {"axes": [1]}),
        ("Mul", ["b", "c"], ["y"], {}),
    ]
    check((nodes, {**arrays, "axis": np.array([1])}, IMAGE, opset))


def resized(opset=17, sizes=None, **attributes):
    extra = [np.zeros(0, "f"), np.array([1, 1, 2, 1.5], "f")]
    if sizes:
        extra = [None, None, np.array([1, 4, *sizes])]
    return one("Resize", extra=extra, opset=opset, **attributes)


@pytest.mark.parametrize(
    "mode", ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"]
)
@pytest.mark.parametrize("kind", ["nearest", "linear", "cubic", "to a size"])
def test_resize_moves_pixels_as_onnx_does(kind, mode):
    if kind == "to a size":
        case = resized(sizes=(9, 3), mode="linear", coordinate_transformation_mode=mode)
        check(case, of_runtime)
    else:
        check(resized(mode=kind, coordinate_transformation_mode=mode), of_runtime)


@pytest.mark.parametrize("rounding", ["floor", "ceil", "round_prefer_ceil"])
def test_resize_rounds_as_onnx_does(rounding):
    check(resized(mode="nearest", nearest_mode=rounding))


def test_comparisons_choose_numbers():
    nodes = [
        ("Greater", ["x", "zero"], ["above"], {}),
        ("Less", ["x", "one"], ["below"], {}),
        ("And", ["above", "below"], ["within"], {}),
        ("Not", ["within"], ["outside"], {}),
        ("Cast", ["outside"], ["number"], {"to": 1}),
        ("Where", ["within", "x", "number"], ["y"], {}),
    ]
    check((nodes, {"zero": np.float32(0), "one": np.float32(1)}, IMAGE, 17))


@pytest.mark.parametrize("is_given", [False, True])
def test_a_squeeze_of_every_axis_keeps_the_batch(is_given):
    proto = model([("Squeeze", ["x"], ["y"], {})], {}, (1, 5, 1, 6), opset=11)
    if is_given:
        proto.graph.node[0].attribute.add(name="axes", type=AttributeProto.INTS)
    network, params = from_onnx(proto)
    x = weights(2, 5, 1, 6)
    np.testing.assert_array_equal(network.apply(params, x), x[:, :, 0])


def test_an_axis_in_front_of_the_batch_may_come_and_go():
    nodes = [
        ("Unsqueeze", ["x", "front"], ["u"], {}),
        ("Transpose", ["u"], ["t"], {"perm": [3, 1, 2, 0]}),
        ("Gather", ["t", "one"], ["y"], {"axis": 0}),
    ]
    check((nodes, {"front": np.array([0]), "one": np.array(1)}, TOKENS, 17))


def test_matrices_are_multiplied_in_pairs_wherever_their_axes_are_stored():
    nodes = [
        ("Transpose", ["x"], ["t"], {"perm": [0, 2, 1]}),
        ("MatMul", ["x", "t"], ["scores"], {}),
        ("MatMul", ["scores", "x"], ["z"], {}),
        ("MatMul", ["left", "z"], ["y"], {}),
    ]
    check((nodes, {"left": weights(3, 5)}, TOKENS, 17))
