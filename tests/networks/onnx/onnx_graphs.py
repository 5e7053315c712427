"""Small ONNX models, and how they are compared with ONNX's reference implementation."""

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

OPSET = 17


def weights(*shape, seed=0):
    """Returns normal numbers, float32."""
    return np.random.default_rng(seed).normal(size=shape).astype("f")


def model(nodes, arrays, shape, *, opset=OPSET, outputs=("y",), kind=TensorProto.FLOAT):
    """Makes a model with the input `x`.

    Args:
      nodes: `(operator, inputs, outputs, attributes)`.
      arrays: name -> array of an initialiser.
      shape: of the input, with the batch; None leaves an axis open.
      opset: version of the operators.
      outputs: names, or pairs of a name and a type.
      kind: type of the input.
    """
    made = [
        helper.make_node(op.rpartition(".")[2], list(inputs), list(results), name, **attributes)
        for name, (op, inputs, results, attributes) in _named(nodes)
    ]
    for node, (op, *_) in zip(made, nodes, strict=True):
        node.domain = op.rpartition(".")[0]
    pairs = [(each, TensorProto.FLOAT) if isinstance(each, str) else each for each in outputs]
    graph = helper.make_graph(
        made,
        "graph",
        [helper.make_tensor_value_info("x", kind, ["N" if n is None else n for n in shape])],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in pairs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def _named(nodes):
    return [(f"{results[0]}_{op}", (op, i, results, a)) for op, i, results, a in nodes]


def of_reference(proto, x, name="y"):
    """Returns the output of a model for examples one by one, as ONNX defines it."""
    run = ReferenceEvaluator(proto).run
    return np.concatenate([run([name], {"x": example[None]})[0] for example in x])


def of_runtime(proto, x, name="y"):
    """Returns the output of a model for examples one by one, as ONNX Runtime computes it."""
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return np.concatenate([session.run([name], {"x": example[None]})[0] for example in x])


def as_taken(network, x):
    """Returns inputs in ONNX's order as the network takes them: with the channels last."""
    return x if x.shape[1:] == network.input_shape else np.moveaxis(x, 1, -1)
