"""Weights in PyTorch's layout (a `state_dict`), as parameters of a network. JAX.

Convolutions are `[O, I, H, W]` there and `[H, W, I, O]` here, dense layers `[out, in]` and `[in,
out]`; a dense layer behind a map reads it channel by channel there, pixel by pixel here. Layers are
matched by name where names agree, else by their shapes, in the order of numbers in names: files do
not keep the order of definition, and of names beside each other without a number words must tell.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxinv.errors import UserError
from jaxinv.networks.network import Network
from jaxinv.networks.program import Path, Program, Value

_NAMES = {
    "kernel": "weight",
    "scale": "weight",
    "embedding": "weight",
    "mean": "running_mean",
    "var": "running_var",
}
"""The last part of a parameter's name here and there, where they differ."""

_COLLECTIONS = ("params", "batch_stats")
_COUNTERS = "num_batches_tracked"
_SHORTCUTS = {"downsample", "shortcut", "skip", "proj", "projection"}


_Shapes = Mapping[str, tuple[int, ...]]


class _Leaf(NamedTuple):
    """A parameter of a network.

    Attributes:
      path: to it.
      shape: that it has in PyTorch's layout.
      convert: from there.
    """

    path: Path
    shape: tuple[int, ...]
    convert: Callable[[np.ndarray], np.ndarray]


def is_layout(names: Iterable[str]) -> bool:
    """Tells whether arrays have names such as those of a `state_dict`."""
    return any(name.rpartition(".")[2] == "weight" and "/" not in name for name in names)


def params_of(arrays: Mapping[str, np.ndarray], network: Network) -> dict[str, Any]:
    """Converts a `state_dict` into parameters of a network.

    Args:
      arrays: by name.
      network: the whole, whose layers are those of the `state_dict`.

    Raises:
      UserError: a layer has no counterpart; the first one is named.
    """
    own = _own_layers(network)
    theirs = _their_layers(arrays)
    pairs = _matched(own, theirs)
    found: dict[str, Any] = {}
    like = jax.eval_shape(network.init, jax.random.key(0))
    for layer, name in pairs.items():
        for suffix, leaf in own[layer].items():
            array = np.asarray(theirs[name][suffix])
            _put(found, leaf.path, jnp.asarray(leaf.convert(array), _at(like, leaf.path).dtype))
    return found


def _matched(
    own: Mapping[str, Mapping[str, _Leaf]], theirs: Mapping[str, Mapping[str, np.ndarray]]
) -> dict[str, str]:
    """Returns own layer -> their layer.

    Raises:
      UserError: one has no counterpart.
    """
    left = {name: _shapes(layer) for name, layer in theirs.items()}
    pairs: dict[str, str] = {}
    by_name = {_plain(name): name for name in left}
    for layer, leaves in own.items():
        name = by_name.get(_plain(layer))
        if name in left and left[name] == _shapes(leaves):
            pairs[layer] = name
            del left[name]
    for layer, leaves in own.items():
        if layer in pairs:
            continue
        alike = [name for name, shapes in left.items() if shapes == _shapes(leaves)]
        if not alike:
            raise UserError(
                f"the network's layer {layer} has {_told(_shapes(leaves))}, and "
                f"{_closest(layer, _shapes(leaves), left)}."
            )
        kin = [name for name, each in own.items() if _shapes(each) == _shapes(leaves)]
        pairs[layer] = _chosen(layer, alike, kin)
        del left[pairs[layer]]
    for name, shapes in left.items():
        raise UserError(f"its layer {name} with {_told(shapes)} is none of the network's.")
    return {layer: pairs[layer] for layer in own}


def _chosen(layer: str, alike: Sequence[str], own: Collection[str]) -> str:
    """Returns which of their layers of the same shapes a layer is: the first in their order.

    Names that stand beside each other in a file, but for numbers, have no order: among these the
    words of the names tell.

    Args:
      layer: of the network.
      alike: their layers, in the order of numbers in their names.
      own: names of the network's layers of these shapes.

    Raises:
      UserError: words do not tell either.
    """
    rivals = [alike[0], *(name for name in alike[1:] if not _are_in_order(alike[0], name))]
    if len({_is_shortcut(name) for name in rivals}) == 2:
        if not any(map(_is_shortcut, own)):
            other = next(name for name in rivals if _is_shortcut(name) != _is_shortcut(rivals[0]))
            raise _ambiguous(layer, rivals[0], other)
        rivals = [name for name in rivals if _is_shortcut(name) == _is_shortcut(layer)]
    common = [len(_words(layer) & _words(name)) for name in rivals]
    if common.count(max(common)) == 1:
        return rivals[common.index(max(common))]
    for name in rivals[1:]:
        if name.count(".") == rivals[0].count(".") and not _are_in_order(rivals[0], name):
            raise _ambiguous(layer, rivals[0], name)
    return rivals[0]


def _are_in_order(one: str, other: str) -> bool:
    """Tells whether two names differ first in a number."""
    pairs = zip(one.split("."), other.split("."), strict=False)
    first = next(((a, b) for a, b in pairs if a != b), ("", ""))
    return re.sub(r"\d+", "#", first[0]) == re.sub(r"\d+", "#", first[1])


def _words(name: str) -> set[str]:
    return set(re.findall("[a-z]+", re.sub("([a-z])([A-Z])", r"\1 \2", name).lower()))


def _is_shortcut(name: str) -> bool:
    """Tells whether a layer is on the short way around a residual block."""
    return not _words(name).isdisjoint(_SHORTCUTS)


def _ambiguous(layer: str, one: str, other: str) -> UserError:
    return UserError(
        f"the network's layer {layer} may be its {one} or its {other}, which have the same shapes: "
        "give them the names of the network's layers."
    )


def _closest(layer: str, wanted: _Shapes, left: Mapping[str, _Shapes]) -> str:
    """Tells what the file has in place of a layer: that of its name, or the first of its kind."""
    named = [name for name in left if _plain(name) == _plain(layer)]
    alike = [name for name, shapes in left.items() if _ranks(shapes) == _ranks(wanted)]
    name = next(iter([*named, *alike]), None)
    return f"its {name} has {_told(left[name])}" if name is not None else "it has no such layer"


def _ranks(shapes: _Shapes) -> dict[str, int]:
    return {name: len(shape) for name, shape in shapes.items()}


def _told(shapes: _Shapes) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in sorted(shapes.items()))


def _shapes(layer: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(each.shape) for name, each in layer.items()}


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _their_layers(arrays: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Returns layer -> name -> array, numbers within names in the order of numbers."""

    def order(name: str) -> list[tuple[bool, Any]]:
        parts = re.split(r"(\d+)", name)
        return [(part.isdecimal(), int(part) if part.isdecimal() else part) for part in parts]

    layers: dict[str, dict[str, np.ndarray]] = {}
    for name in sorted(arrays, key=order):
        layer, _, suffix = name.rpartition(".")
        if suffix != _COUNTERS:
            layers.setdefault(layer, {})[suffix] = arrays[name]
    return layers


def _own_layers(network: Network) -> dict[str, dict[str, _Leaf]]:
    """Returns layer -> name in PyTorch -> parameter, in the order in which layers are used."""
    program = network.source.program
    order = {path: _first_use(program, value) for path, value in program.params.items()}
    layers: dict[str, dict[str, _Leaf]] = {}
    for path in sorted(order, key=lambda path: order[path]):
        name = ".".join(str(key) for key in path[:-1] if key not in _COLLECTIONS)
        suffix = _NAMES.get(str(path[-1]), str(path[-1]))
        layers.setdefault(name, {})[suffix] = _leaf(program, path)
    return layers


def _first_use(program: Program, value: Value) -> int:
    uses = (place for place, each in enumerate(program.equations) if value in each.reads)
    return next(uses, len(program.equations))


def _leaf(program: Program, path: Path) -> _Leaf:
    """Returns how a parameter is made of PyTorch's; one of another name is alike in both."""
    value = program.params[path]
    shape = program.shapes[value]
    if path[-1] != "kernel" or len(shape) < 2:
        return _Leaf(path, shape, lambda array: array)
    if _use(program, value) == "conv_general_dilated":
        ahead = (len(shape) - 1, len(shape) - 2, *range(len(shape) - 2))
        return _Leaf(
            path,
            tuple(shape[axis] for axis in ahead),
            lambda array: np.moveaxis(array, (0, 1), (-1, -2)),
        )
    *taken, made = shape
    count = int(np.prod(taken))
    spatial = taken if len(taken) > 1 else _flattened(program, value)

    def convert(array: np.ndarray) -> np.ndarray:
        if spatial is not None:
            array = array.reshape(made, spatial[-1], *spatial[:-1])
            array = np.moveaxis(array, 1, -1)
        return array.reshape(made, count).T.reshape(shape)

    return _Leaf(path, (made, count), convert)


def _use(program: Program, value: Value) -> str:
    """Returns the operation that reads a kernel, whatever reshapes or converts it before."""
    for equation in program.equations:
        if value in equation.reads:
            if equation.name in ("reshape", "convert_element_type", "transpose"):
                return _use(program, equation.outputs[0])
            return equation.name
    return ""


def _flattened(program: Program, kernel: Value) -> tuple[int, ...] | None:
    """Returns the shape `(H, W, C)` of the map that a dense layer reads as a vector, or None."""
    for equation in program.equations:
        if kernel in equation.reads and equation.name == "dot_general":
            return _map_behind(program, next(each for each in equation.reads if each != kernel))
        if kernel in equation.reads and equation.name == "convert_element_type":
            return _flattened(program, equation.outputs[0])
    return None


def _map_behind(program: Program, value: Value) -> tuple[int, ...] | None:
    """Goes back over elementwise steps to where a map was flattened."""
    while (place := program.maker.get(value)) is not None:
        equation = program.equations[place]
        before = [each for each in equation.reads if each in program.dependent]
        if len(before) != 1:
            return None
        shape = program.shapes[before[0]]
        if equation.name == "reshape" and len(shape) == 4:
            return shape[1:] if shape[1] * shape[2] > 1 else None
        if shape != program.shapes[value]:
            return None
        (value,) = before
    return None


def _at(tree: Any, path: Path) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _put(tree: dict[str, Any], path: Path, leaf: Any) -> None:
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = leaf
