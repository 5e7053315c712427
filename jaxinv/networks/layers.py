"""Networks as ordered, named layers: the short way to write one. JAX."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.ad_checkpoint import checkpoint_name

from jaxinv.errors import UsageError, UserError
from jaxinv.networks import arguments, modules
from jaxinv.networks.network import Network, Params
from jaxinv.networks.source import Source, in_one_line
from jaxinv.networks.statistics import STATISTICS


@dataclasses.dataclass(frozen=True)
class Layer:
    """A pure, parametrised map of a batch.

    Attributes:
      init: `(key, x [N, ...]) -> params`, an empty mapping where there is nothing to learn.
      apply: `(params, x [N, ...]) -> y [N, ...]`.
      train: `(params, x [N, ...]) -> (y, params)` of a layer that keeps statistics: normalised by
        the batch, and the parameters with the statistics of it. None of any other layer.
    """

    init: Callable[[Array, Array], Params]
    apply: Callable[[Params, Array], Array]
    train: Callable[[Params, Array], tuple[Array, Params]] | None = None


LayerLike = Layer | nn.Module | Callable[[Array], Array]


def max_pool(x: Array, window: int = 2) -> Array:
    """Maximum over disjoint square windows; rows and columns that fill none are dropped.

    An axis of one place stays: a series is pooled in time alone. By reshaping: its gradient is
    several times faster than that of a `reduce_window` on CPU.

    Args:
      x: `[N, H, W, C]`.
      window: side of a window, in pixels.

    Returns:
      `[N, H // window, W // window, C]`; 1 where there is one place.

    Raises:
      ValueError: `x` has other axes.
    """
    if x.ndim != 4:
        raise ValueError(f"expected images [N, H, W, C], got {x.shape}")
    n, h, w, c = x.shape
    high, wide = (1 if side == 1 else window for side in (h, w))
    rows, columns = h // high, w // wide
    x = x[:, : rows * high, : columns * wide]
    return x.reshape(n, rows, high, columns, wide, c).max(axis=(2, 4))


def as_layer(spec: LayerLike) -> Layer:
    """Makes a layer of a Linen, NNX or Equinox module, or of a function without parameters.

    A Linen module is initialised anew by each key. NNX and Equinox modules come with parameters,
    and begin with these.

    Raises:
      UsageError: it is none of these.
    """
    if isinstance(spec, Layer):
        return spec
    if isinstance(spec, nn.Module):
        return _linen_layer(spec)
    if modules.holds_arrays(spec):
        function, params = modules.pure(spec)
        return Layer(lambda key, x: params, modules.in_type_of_parameters(function))
    if callable(spec):
        return Layer(lambda key, x: {}, functools.partial(_call, spec))
    raise UsageError(f"layer={spec!r}: expected a Layer, a module or a function, such as nn.relu.")


def _call(function: Callable[[Array], Array], params: Params, x: Array) -> Array:
    with modules.in_evaluation(function):
        return function(x)


def _linen_layer(module: nn.Module) -> Layer:
    """Keeps a module's `params` alone where it has nothing else, else all of its collections."""

    def init(key: Array, x: Array) -> Params:
        variables = module.init(key, x)
        if set(variables) <= {"params"}:
            return variables.get("params", {})
        return {"params": {}, **variables}

    def apply(params: Params, x: Array) -> Array:
        variables = params if "params" in params else {"params": params}
        return modules.apply_linen(module, variables, x)

    def train(params: Params, x: Array) -> tuple[Array, Params]:
        if STATISTICS not in params:
            return apply(params, x), params
        y, found = module.apply(params, x, mutable=[STATISTICS])
        return cast(Array, y), {**params, **found}

    return Layer(init, apply, train)


def sequence(
    layers: Sequence[tuple[str, LayerLike]],
    input_shape: Sequence[int],
    *,
    mean: Sequence[float] | float | None = None,
    std: Sequence[float] | float | None = None,
) -> Network:
    """Builds a network of named layers, which can be cut behind each.

    Args:
      layers: `(name, layer)` in order; see `as_layer` for what a layer may be. Names are of ASCII
        letters, digits, `_`, `.` and `-`, and differ whatever their case.
      input_shape: of one example, `(H, W, C)`.
      mean, std: normalisation of the first step, for each channel or one for all, in unit space.

    Raises:
      UserError: a name is not allowed or repeats; mean and std do not fit; or a layer mixes the
        examples of a batch, loses the batch axis, keeps state or is not pure.
    """
    shape, named = arguments.check_shape(input_shape), arguments.check_layers(layers)
    arguments.check_normalization(shape, mean, std)
    _check_shared(named)
    chain = _Chain({name: as_layer(layer) for name, layer in named}, shape)
    source = Source(chain.apply, chain.init, shape, chain.train)
    return Network.whole(source, mean=mean, std=std)


def append(network: Network, name: str, layer: LayerLike) -> Network:
    """Returns a network with one more layer at the end, whose parameters have that name.

    Raises:
      UserError: the name is not allowed or is that of a cut; or as for `sequence`.
    """
    last = as_layer(layer)
    arguments.check_name(name)
    if name.lower() in map(str.lower, network.all_cuts):
        raise UsageError(f"name={name}: expected another than {', '.join(network.cuts)}.")

    def apply(params: Params, x: Array) -> Array:
        y = network.without_normalization.apply(params, x)
        return checkpoint_name(last.apply(params.get(name, {}), y), name)

    def train(params: Params, x: Array) -> tuple[Array, Params]:
        y, found = network.without_normalization.apply_in_training(params, x)
        y, own = _train(last, params.get(name, {}), y)
        return y, {**found, **({name: own} if own else {})}

    def init(key: Array) -> dict[str, Any]:
        x = jnp.zeros((1, *network.output_shape), jnp.float32)
        own = last.init(jax.random.fold_in(key, len(network.cuts)), x)
        return {**network.init(key), **({name: own} if own else {})}

    source = Source(apply, init, network.input_shape, train)
    return Network.whole(source, mean=network.mean, std=network.std)


class _Chain:
    """Layers in turn, as one function of `{layer name: params}` and a batch."""

    def __init__(self, layers: Mapping[str, Layer], input_shape: tuple[int, ...]):
        self._layers, self._input_shape = layers, input_shape

    def init(self, key: Array) -> dict[str, Params]:
        """Fresh parameters of every layer that has any."""
        params: dict[str, Params] = {}
        x = jax.ShapeDtypeStruct((1, *self._input_shape), jnp.float32)
        for number, (name, layer) in enumerate(self._layers.items()):
            with in_one_line(f"Layer {name}"):
                own = layer.init(jax.random.fold_in(key, number), jnp.zeros(x.shape, x.dtype))
                x = jax.eval_shape(layer.apply, own, x)
            if own:
                params[name] = own
        return params

    def apply(self, params: Params, x: Array) -> Array:
        for name, layer in self._layers.items():
            with in_one_line(f"Layer {name}"):
                x = layer.apply(params.get(name, {}), x)
            x = cast(Array, checkpoint_name(x, name))
        return x

    def train(self, params: Params, x: Array) -> tuple[Array, Params]:
        """Maps a batch by its own statistics; returns the parameters with these, too."""
        found = dict(params)
        for name, layer in self._layers.items():
            x, own = _train(layer, params.get(name, {}), x)
            found |= {name: own} if own else {}
        return x, found


def _train(layer: Layer, params: Params, x: Array) -> tuple[Array, Params]:
    return layer.train(params, x) if layer.train else (layer.apply(params, x), params)


def _check_shared(layers: Sequence[tuple[str, LayerLike]]) -> None:
    """Refuses one module with its arrays at two layers: they would be trained apart."""
    owner: dict[int, str] = {}
    for name, layer in layers:
        if not modules.holds_arrays(layer) or not modules.pure(layer)[1]:
            continue
        first = owner.setdefault(id(layer), name)
        if first != name:
            raise UserError(
                f"Layers {first} and {name} are one {type(layer).__name__} with its parameters: "
                "put both into one layer to share them, or make two."
            )
