"""Networks made of modules: Linen with its variables, NNX, Equinox, or any pure function. JAX.

NNX and Equinox modules hold their arrays. Here these become parameters, nested dictionaries under
the modules' own names, and the module a pure function of them.
"""

import contextlib
import functools
import inspect
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from jaxinv.errors import UsageError, UserError
from jaxinv.networks import arguments
from jaxinv.networks.network import Network, Params
from jaxinv.networks.source import Source

Function = Callable[[Any, Array], Array]

_TRAINING = (
    "changes its state: put it into evaluation first (Linen: use_running_average=True and "
    "deterministic=True; NNX: module.eval())"
)

_CALLED = "call it in a function of parameters and a batch (from_function)"


def from_linen(
    module: nn.Module,
    variables: Mapping[str, Any],
    input_shape: Sequence[int],
    *,
    mean: Sequence[float] | float | None = None,
    std: Sequence[float] | float | None = None,
) -> tuple[Network, Params]:
    """Makes a network of a Linen module and all of its variables.

    Args:
      module: maps `[N, *input_shape]` to one value an example, any shape; in evaluation.
      variables: its collections, as `module.init` returns them, batch statistics included.
      input_shape: of one example.
      mean, std: normalisation of the first step, for each channel or one for all, in unit space.

    Raises:
      UserError: the module changes its state, or mixes the examples of a batch.
    """
    if not isinstance(module, nn.Module):
        raise UsageError(f"module={reprlib.repr(module)}: expected a Linen module.")
    if not isinstance(variables, Mapping):
        raise UsageError(
            f"variables={reprlib.repr(variables)}: expected collections, as module.init returns."
        )
    apply = functools.partial(apply_linen, module)
    return from_function(apply, variables, input_shape, mean=mean, std=std)


def apply_linen(module: nn.Module, variables: Mapping[str, Any], x: Array) -> Array:
    """Applies a Linen module that must keep its state.

    Raises:
      UserError: it changes its state, or needs randomness.
    """
    try:
        return cast(Array, module.apply(variables, x))
    except (flax.errors.ModifyScopeVariableError, flax.errors.InvalidRngError) as error:
        raise UserError(f"{type(module).__name__} {_TRAINING}.") from error


def from_module(
    module: Any,
    input_shape: Sequence[int],
    *,
    mean: Sequence[float] | float | None = None,
    std: Sequence[float] | float | None = None,
) -> tuple[Network, Params]:
    """Makes a network of an NNX module (of batches) or an Equinox module (of examples).

    Args:
      module: holds its parameters, which are returned.
      input_shape: of one example.
      mean, std: as for `from_linen`.

    Raises:
      UserError: the module holds no arrays, changes its state, or mixes the examples of a batch.
    """
    if not holds_arrays(module):
        raise UserError(
            f"{type(module).__name__} is no NNX or Equinox module with parameters; a Linen module "
            "goes with its variables (from_linen), a function with its parameters (from_function)."
        )
    function, params = pure(module)
    return from_function(function, params, input_shape, mean=mean, std=std)


def from_function(
    function: Function,
    params: Any,
    input_shape: Sequence[int],
    *,
    mean: Sequence[float] | float | None = None,
    std: Sequence[float] | float | None = None,
) -> tuple[Network, Params]:
    """Makes a network of a pure function and its parameters.

    Args:
      function: `(params, x [N, *input_shape]) -> y [N, ...]`, an array or a tree of several.
      params: a tree of arrays. What is returned beside the network are nested dictionaries of those
        that may be trained: whole numbers are constants of the network.
      input_shape: of one example.
      mean, std: as for `from_linen`.

    Raises:
      UserError: the function is not pure, holds arrays that are not among its parameters, or mixes
        the examples of a batch.
    """
    if not callable(function):
        raise UsageError(f"function={reprlib.repr(function)}: expected one of (params, x).")
    shape = arguments.check_shape(input_shape)
    arguments.check_normalization(shape, mean, std)
    named, rebuild = _named(params)
    apply = in_type_of_parameters(lambda params, x: function(rebuild(params), x))
    source = Source(apply, lambda key: named, shape)
    return Network.whole(source, mean=mean, std=std), named


def in_type_of_parameters(function: Function) -> Function:
    """Returns a function that has its batch in the one type of its parameters, where it needs that.

    Equinox and `jax.lax` do not multiply float32 by bfloat16 or float64.
    """

    def apply(params: Params, x: Array) -> Array:
        try:
            return function(params, x)
        except TypeError:
            types = {leaf.dtype for leaf in jax.tree.leaves(params) if _is_float(leaf)}
            if len(types) != 1 or types == {x.dtype}:
                raise
            return function(params, x.astype(types.pop()))

    return apply


def holds_arrays(spec: Any) -> bool:
    """Returns whether a callable is an NNX module, or a tree of arrays (Equinox)."""
    if isinstance(spec, nnx.Module):
        return True
    if isinstance(spec, nn.Module) or not callable(spec):
        return False
    leaves = jax.tree.leaves(spec)
    return any(isinstance(leaf, jax.Array | np.ndarray) for leaf in leaves)


def pure(module: Any) -> tuple[Function, dict[str, Any]]:
    """Splits a module that holds its arrays into a function of a batch and its parameters."""
    return _pure_nnx(module) if isinstance(module, nnx.Module) else _pure_tree(module)


def _pure_nnx(module: nnx.Module) -> tuple[Function, dict[str, Any]]:
    graph, state = nnx.split(module)
    everything = nnx.to_pure_dict(state)
    params = _only(everything, _is_float)

    def apply(params: Params, x: Array) -> Array:
        own = nnx.split(module)[1]
        nnx.replace_by_pure_dict(own, _merged(everything, params))
        rebuilt = nnx.merge(graph, own)
        before = jax.tree.leaves(nnx.to_pure_dict(nnx.state(rebuilt)))
        y = rebuilt(x)
        after = jax.tree.leaves(nnx.to_pure_dict(nnx.state(rebuilt)))
        if len(before) < len(after):
            raise UserError(
                f"{type(module).__name__} adds state while it runs (sow): leave that out of its "
                "__call__, or wrap what it computes in a function (from_function)."
            )
        if any(old is not new for old, new in zip(before, after, strict=True)):
            raise UserError(f"{type(module).__name__} {_TRAINING}.")
        return y

    return apply, params


@contextlib.contextmanager
def in_evaluation(module: Any) -> Iterator[None]:
    """Tells what to do where an Equinox module asks for a random key, or for its state."""
    try:
        yield
    except (RuntimeError, AttributeError) as error:
        name = type(module).__name__
        if "requires a key" in str(error):
            raise UserError(
                f"{name} is random: put it into evaluation first (eqx.nn.inference_mode(module))."
            ) from error
        if _has_state(module):
            raise UserError(f"{name} takes more than an example (its state): {_CALLED}.") from error
        raise


def _has_state(module: Any) -> bool:
    """Returns whether a layer of a module is one of Equinox's with state."""

    def is_stateful(node: Any) -> bool:
        return any(each.__name__ == "StatefulLayer" for each in type(node).__mro__)

    return any(map(is_stateful, jax.tree.leaves(module, is_leaf=is_stateful)))


def _check_takes_one(module: Any) -> None:
    """Refuses modules that need more than an example, such as Equinox's state."""
    try:
        inspect.signature(module).bind(None)
    except TypeError as error:
        raise UserError(
            f"{type(module).__name__} takes more than an example ({error}): {_CALLED}."
        ) from error


def _pure_tree(module: Any) -> tuple[Function, dict[str, Any]]:
    _check_takes_one(module)
    leaves, tree = jax.tree.flatten(module)
    learned = [number for number, leaf in enumerate(leaves) if _is_float(leaf)]
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(module)[0]]
    params: dict[str, Any] = {}
    for number in learned:
        _put(params, _words(paths[number]), leaves[number])

    def apply(params: Params, x: Array) -> Array:
        own = list(leaves)
        for number in learned:
            own[number] = _get(params, _words(paths[number]))
        with in_evaluation(module):
            return jax.vmap(jax.tree.unflatten(tree, own))(x)

    return apply, params


def _named(params: Any) -> tuple[dict[str, Any], Callable[[Params], Any]]:
    """Returns floats as nested dictionaries, and a function that makes their own tree again."""
    found, tree = jax.tree_util.tree_flatten_with_path(params)
    paths = [_words(path) for path, _ in found]
    leaves = [_array(path, leaf) for path, leaf in found]
    named: dict[str, Any] = {}
    for path, leaf in zip(paths, leaves, strict=True):
        if _is_float(leaf):
            _put(named, path, leaf)

    def rebuild(own: Params) -> Any:
        both = zip(paths, leaves, strict=True)
        return jax.tree.unflatten(
            tree, [_get(own, path) if _is_float(leaf) else leaf for path, leaf in both]
        )

    return named, rebuild


def _array(path: Any, leaf: Any) -> Array:
    try:
        if not isinstance(leaf, str | bytes):
            return jnp.asarray(leaf)
    except (TypeError, ValueError):
        pass
    where = "/".join(_words(path))
    raise UsageError(
        f"params={reprlib.repr(leaf)}: expected arrays of numbers{where and f', at {where}'}."
    )


def _words(path: Any) -> tuple[str, ...]:
    names = ("key", "name", "idx")
    return tuple(
        str(next(getattr(entry, name) for name in names if hasattr(entry, name))) for entry in path
    )


def _put(tree: dict[str, Any], path: tuple[str, ...], leaf: Any) -> None:
    *folders, name = path or ("params",)
    for folder in folders:
        tree = tree.setdefault(folder, {})
    tree[name] = leaf


def _get(tree: Params, path: tuple[str, ...]) -> Any:
    for name in path or ("params",):
        tree = tree[name]
    return tree


def _is_float(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray) and jnp.issubdtype(leaf.dtype, jnp.inexact)


def _only(tree: Any, keep: Callable[[Any], bool]) -> Any:
    """Nested dictionaries with those leaves alone."""
    found = {
        str(name): _only(value, keep) if isinstance(value, Mapping) else value
        for name, value in tree.items()
        if isinstance(value, Mapping) or keep(value)
    }
    return {name: value for name, value in found.items() if not isinstance(value, dict) or value}


def _merged(everything: Mapping[Any, Any], params: Mapping[str, Any]) -> dict[Any, Any]:
    """Nested dictionaries with some leaves replaced."""
    return {
        name: _merged(value, params.get(str(name), {}))
        if isinstance(value, Mapping)
        else params.get(str(name), value)
        for name, value in everything.items()
    }
