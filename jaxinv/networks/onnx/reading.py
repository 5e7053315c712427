"""ONNX files: parsed, checked, and cut down to what leads from the input to one output. NumPy."""

import ast
import contextlib
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
from onnx import numpy_helper

from jaxinv.errors import UsageError, UserError
from jaxinv.networks.onnx.faults import naming
from jaxinv.networks.onnx.graph import Graph, Input, Node, needed

_OPSETS = (9, onnx.defs.onnx_opset_version())
_OWN = ("", "ai.onnx")
_FLOATS = (
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.BFLOAT16,
    onnx.TensorProto.DOUBLE,
)


def name_of(path_or_model: Any) -> str:
    """Returns how messages call a file or a model.

    Raises:
      UsageError: it is neither.
    """
    if isinstance(path_or_model, onnx.ModelProto):
        return "ONNX model"
    if isinstance(path_or_model, str | Path):
        return str(path_or_model)
    raise UsageError(
        f"path_or_model={type(path_or_model).__name__}: expected a path or an onnx.ModelProto."
    )


def read(path_or_model: Any, output: str | None = None) -> Graph:
    """Reads a file, or takes a model that is loaded.

    Args:
      path_or_model: the file or the model.
      output: name of the output to keep; by default the first that is suitable.

    Raises:
      UserError: it cannot be read, or has no one input of floats and output that depends on it.
      UsageError: it has no such output.
    """
    model = path_or_model if isinstance(path_or_model, onnx.ModelProto) else _load(path_or_model)
    opsets = _opsets(model)
    if model.functions:
        with naming("functions of the file"):
            model = onnx.inliner.inline_local_functions(model)
    graph = model.graph
    with naming("weights"):
        constants = _constants(graph)
    nodes = [_node(proto, opsets) for proto in graph.node]
    entry = _input(graph, constants)
    return _leading(nodes, constants, entry, _chosen(graph.output, output), graph.output)


def _load(path: Any) -> onnx.ModelProto:
    if not Path(path).is_file():
        raise UserError("there is no such file.")
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:
        raise UserError("it is damaged, or no ONNX file.") from error
    if not model.graph.node:
        raise UserError("it is damaged, or no ONNX file: it holds no graph.")
    _load_weights(model, Path(path).parent)
    return model


def _load_weights(model: onnx.ModelProto, folder: Path) -> None:
    """Loads weights that stand in files of their own."""
    outside = [
        {entry.key: entry.value for entry in tensor.external_data}.get("location", "?")
        for tensor in model.graph.initializer
        if tensor.data_location == onnx.TensorProto.EXTERNAL
    ]
    missing = sorted({name for name in outside if not (folder / name).is_file()})
    if missing:
        raise UserError(
            f"its weights stand in {', '.join(missing)}, missing beside it: keep both in one "
            "folder, or export with external_data=False."
        )
    try:
        onnx.load_external_data_for_model(model, str(folder))
    except Exception as error:
        names = ", ".join(sorted(set(outside)))
        raise UserError(f"its weights in {names} cannot be read.") from error


def _opsets(model: onnx.ModelProto) -> dict[str, int]:
    """Returns the version of each domain's operators."""
    found = {
        "" if each.domain in _OWN else each.domain: each.version for each in model.opset_import
    }
    low, high = _OPSETS
    if not low <= found.get("", high) <= high:
        raise UserError(
            f"opset {found['']}: expected {low} to {high} (export it again with opset_version=17)."
        )
    return {"": high, **found}


def _constants(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    if graph.sparse_initializer:
        raise UserError("sparse ones are not supported.")
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def _node(proto: onnx.NodeProto, opsets: dict[str, int]) -> Node:
    domain = "" if proto.domain in _OWN else proto.domain
    name = proto.name or next(iter(proto.output), "") or proto.op_type
    kind = f"{domain}.{proto.op_type}" if domain else proto.op_type
    with naming(f"node {name} ({kind})"):
        attributes = {
            each.name: _plain(onnx.helper.get_attribute_value(each)) for each in proto.attribute
        }
        return Node(
            kind,
            name,
            tuple(proto.input),
            tuple(proto.output),
            attributes,
            opsets.get(domain, 1),
            proto,
            _scope(proto),
        )


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str) else value


def _scope(proto: onnx.NodeProto) -> tuple[str, ...]:
    """Returns the names of modules that PyTorch writes beside its nodes."""
    for entry in proto.metadata_props:
        if entry.key == "pkg.torch.onnx.name_scopes" and len(entry.value) < 4096:
            with contextlib.suppress(ValueError, SyntaxError, MemoryError, RecursionError):
                found = ast.literal_eval(entry.value)
                if isinstance(found, list):
                    return tuple(str(each) for each in found if each)
    return ()


def _input(graph: onnx.GraphProto, constants: dict[str, np.ndarray]) -> Input:
    """Returns the one input, whose shape but for the batch must be known."""
    given = [each for each in graph.input if each.name not in constants]
    if len(given) != 1:
        names = ", ".join(each.name for each in given) or "none"
        raise UserError(f"its inputs are {names}: expected one.")
    (entry,) = given
    own = entry.type.tensor_type
    if own.elem_type not in _FLOATS:
        kind = onnx.TensorProto.DataType.keys()[own.elem_type] if own.elem_type < 24 else "?"
        raise UserError(f"its input {entry.name} holds {kind.lower()}: expected floats.")
    dims = list(own.shape.dim)
    unknown = [
        each.dim_param or f"axis {axis}"
        for axis, each in enumerate(dims)
        if axis and each.dim_value < 1
    ]
    if unknown or len(dims) < 2:
        what = f"leaves {', '.join(unknown)} open" if unknown else f"has {len(dims)} axes"
        raise UserError(
            f"its input {entry.name} {what}: expected a batch of examples of one shape (export it "
            "with fixed sizes)."
        )
    dtype = onnx.helper.tensor_dtype_to_np_dtype(own.elem_type)
    shape = tuple(each.dim_value for each in dims[1:])
    if math.prod(shape) > 2**31:
        raise UserError(f"its input {entry.name} has {math.prod(shape)} numbers.")
    return Input(entry.name, shape, max(1, dims[0].dim_value), dims[0].dim_value < 1, dtype)


def _chosen(outputs: Sequence[Any], wanted: str | None) -> Sequence[Any]:
    """Returns the outputs that may be taken: all, or the one of a name.

    Raises:
      UsageError: there is none of this name.
    """
    found = [each for each in outputs if wanted in (None, each.name)]
    if not found:
        names = ", ".join(each.name for each in outputs)
        raise UsageError(f"it has no output {wanted}; expected one of {names}.")
    return found


def _leading(
    nodes: list[Node],
    constants: dict[str, np.ndarray],
    entry: Input,
    chosen: Iterable[Any],
    outputs: Iterable[Any],
) -> Graph:
    """Returns the graph of the first chosen output that holds floats and depends on the input."""
    makers = {name: node for node in nodes for name in node.outputs if name}
    known = {**constants, entry.name: None}
    all_floats = tuple(each.name for each in outputs if _floats(each, makers) is not None)
    for output in chosen:
        name = _floats(output, makers)
        if name is None:
            continue
        try:
            own = tuple(needed(makers, name, known))
        except KeyError as error:
            raise UserError(f"no node makes {error.args[0]!r}, which others take.") from error
        except ValueError as error:
            raise UserError(f"{error} depends on itself.") from error
        if any(entry.name in node.inputs for node in own):
            return Graph(own, constants, entry, name, all_floats)
    raise UserError("it has no output of floats that depends on its input.")


def _floats(output: Any, makers: dict[str, Node]) -> str | None:
    """Returns the name of an output of floats; of a map from classes to them, the array in it."""
    maker = makers.get(output.name)
    if maker is not None and maker.operator == "ai.onnx.ml.ZipMap" and maker.inputs:
        return maker.inputs[0]
    kind = output.type.tensor_type.elem_type
    is_tensor = output.type.HasField("tensor_type") or not output.type.WhichOneof("value")
    return output.name if is_tensor and kind in (*_FLOATS, 0) else None
