"""Names of cuts and parameters, out of those that exporters write. NumPy."""

import re

from jaxinv.networks.arguments import safe_name
from jaxinv.networks.onnx.graph import Node

_ANONYMOUS = re.compile(r"(onnx::\w+|_?val_?\d*|const\w*|_inlfunc\w*|n?\d+)(_\d+|:\d+)*")
_READ = re.compile(r"(/read|/ReadVariableOp)?(:\d+)?$")
_LENGTH = 56  # leaves room for `+12` and numbers behind it
_ROLES = {1: "weight", 2: "bias"}


def label(node: Node) -> str:
    """Returns a readable name for a node: `layer1.0.conv1` for `/layer1/layer1.0/conv1/Conv`."""
    if node.scope:
        modules = [part for part in node.scope[:-1] if part]
        own = modules[-1] if modules else ""
        kind = re.sub(r"_\d+$", "", node.scope[-1])
        is_module = bool(own) and _is_own_module(node, own)
        return _short(own if is_module else f"{own}.{kind}".strip("."))
    parts = [part for part in _READ.sub("", node.name).split("/") if part]
    kept = [
        part
        for part, behind in zip(parts, [*parts[1:], ""], strict=True)
        if not behind.startswith(f"{part}.")
    ]
    if len(kept) > 1 and re.fullmatch(rf"{re.escape(node.operator)}(_\d+)?", kept[-1]):
        kept = kept[:-1] if _is_own_module(node, ".".join(kept[:-1])) else kept
    return _short(".".join(kept)) or node.operator


def _is_own_module(node: Node, module: str) -> bool:
    """Returns whether a module's name says what the node does, as `conv1` of a Conv does."""
    last = module.rpartition(".")[2].lower()
    return node.operator.lower()[:4] in last or node.operator in ("Conv", "Gemm")


def _short(name: str) -> str:
    """Returns the end of a long name, from the start of one of its parts."""
    name = safe_name(name) if len(name) < _LENGTH else name
    while len(name) > _LENGTH and "." in name:
        name = name.partition(".")[2]
    return name[-_LENGTH:]


def path_of(name: str, node: Node, number: int) -> tuple[str, ...]:
    """Returns where a parameter is kept: under its module's name, or its node's.

    Args:
      name: of the value in the file.
      node: the first that takes it.
      number: of that node's inputs.
    """
    name = _READ.sub("", name)
    if _ANONYMOUS.fullmatch(name):
        return safe_name(label(node)), _ROLES.get(number, "constant")
    folder, _, leaf = name.replace("/", ".").strip(".").rpartition(".")
    return (safe_name(folder), safe_name(leaf)) if folder else (safe_name(leaf),)
