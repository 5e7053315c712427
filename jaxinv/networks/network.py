"""Networks as ordered, named layers that can be cut between any two of them. JAX.

A `Network` is a value: it holds no parameters. Parameters are `{layer name: {...}}`, so that those
of an edge or of a cloud are a subset of the whole network's, under the same names. Everything works
on batches, `[N, ...]`, and treats the examples of a batch independently.
"""

import dataclasses
import difflib
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxinv.errors import UsageError, UserError
from jaxinv.networks.convolution import conv_general_dilated

Params = Mapping[str, Any]
Kind = Literal["affine", "relu", "max_pool", "other"]


@dataclasses.dataclass(frozen=True)
class Layer:
    """A pure, parametrised map of a batch.

    Attributes:
      init: `(key, x [N, ...]) -> params`, an empty mapping where there is nothing to learn.
      apply: `(params, x [N, ...]) -> y [N, ...]`.
      kind: what an attacker who knows the layer may use: that it is affine, a rectifier, or a
        maximum over windows (which commutes with a rectifier).
    """

    init: Callable[[Array, Array], Params]
    apply: Callable[[Params, Array], Array]
    kind: Kind = "other"


def max_pool(x: Array, window: int = 2) -> Array:
    """Maximum over disjoint square windows; rows and columns that fill none are dropped.

    By reshaping: its gradient is several times faster than that of a `reduce_window` on CPU.

    Args:
      x: `[N, H, W, C]`.
      window: side of a window, in pixels.

    Returns:
      `[N, H // window, W // window, C]`.
    """
    n, h, w, c = x.shape
    rows, columns = h // window, w // window
    x = x[:, : rows * window, : columns * window]
    return x.reshape(n, rows, window, columns, window, c).max(axis=(2, 4))


def as_layer(spec: Layer | nn.Module | Callable[[Array], Array]) -> Layer:
    """Makes a layer of a Linen module without state, or of a function without parameters.

    Plain two-dimensional `nn.Conv` modules are given this machine's fastest form of convolution.
    """
    if isinstance(spec, Layer):
        return spec
    if isinstance(spec, nn.Module):
        return _linen_layer(spec)
    if callable(spec):
        return Layer(lambda key, x: {}, lambda params, x: spec(x), _kind_of_function(spec))
    raise TypeError(f"Expected a Layer, a Linen module or a function, got {spec!r}.")


def _linen_layer(module: nn.Module) -> Layer:
    if isinstance(module, nn.Conv) and module.conv_general_dilated is None:
        module = module.clone(conv_general_dilated=conv_general_dilated)

    def init(key: Array, x: Array) -> Params:
        variables = module.init(key, x)
        if set(variables) - {"params"}:
            raise UserError(
                f"{type(module).__name__} keeps state ({', '.join(variables)}); a network takes "
                "stateless layers: fold a trained BatchNorm into the layer before it."
            )
        return variables.get("params", {})

    affine = isinstance(module, nn.Conv | nn.Dense | nn.DenseGeneral)
    return Layer(
        init,
        lambda params, x: cast(Array, module.apply({"params": params}, x)),
        "affine" if affine else "other",
    )


def _kind_of_function(function: Callable) -> Kind:
    if isinstance(function, functools.partial):
        function = function.func
    if function in (nn.relu, jax.nn.relu):
        return "relu"
    return "max_pool" if function in (max_pool, nn.max_pool) else "other"


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """Ordered, named layers, applied in turn to inputs of one shape.

    Attributes:
      layers: name -> layer, in order. A value may be given as anything that `as_layer` takes.
      input_shape: of one example, without the batch axis; for images `(H, W, C)`.
      mean, std: per channel, in unit space. The first step is `(x - mean) / std`, so that no caller
        knows these constants; None where inputs are taken as they are (every cloud).
    """

    layers: Mapping[str, Layer]
    input_shape: tuple[int, ...]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __post_init__(self):
        layers = {name: as_layer(layer) for name, layer in dict(self.layers).items()}
        object.__setattr__(self, "layers", layers)

    @property
    def cuts(self) -> tuple[str, ...]:
        """Names of the layers after which the network can be cut, in order: all of them."""
        return tuple(self.layers)

    def init(self, key: Array) -> dict[str, Params]:
        """Fresh parameters, `{layer name: {...}}`, for every layer that has any."""
        shapes = [self.input_shape, *self.shapes.values()]
        params = {}
        for i, (name, layer) in enumerate(self.layers.items()):
            own = layer.init(jax.random.fold_in(key, i), jnp.zeros((1, *shapes[i])))
            if own:
                params[name] = own
        return params

    def apply(self, params: Params, x: Array) -> Array:
        """Maps `[N, *input_shape]` to `[N, *output_shape]`; it ignores other layers' params."""
        x = self.normalize(x)
        for name, layer in self.layers.items():
            x = layer.apply(params.get(name, {}), x)
        return x

    def normalize(self, x: Array) -> Array:
        """The first step, of inputs `[N, *input_shape]`."""
        if self.mean is None:
            return x
        shape = (1,) * len(self.input_shape) + (-1,)
        return (x - jnp.asarray(self.mean).reshape(shape)) / jnp.asarray(self.std).reshape(shape)

    def denormalize(self, x: Array) -> Array:
        """Undoes `normalize`."""
        if self.mean is None:
            return x
        shape = (1,) * len(self.input_shape) + (-1,)
        return x * jnp.asarray(self.std).reshape(shape) + jnp.asarray(self.mean).reshape(shape)

    @functools.cached_property  # the same each time: programs are kept for it
    def without_normalization(self) -> "Network":
        """The network behind its first step."""
        return dataclasses.replace(self, mean=None, std=None)

    def select(self, params: Params) -> dict[str, Params]:
        """The parameters of this network's own layers, out of a larger network's."""
        return {name: params[name] for name in self.layers if name in params}

    @functools.cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Layer name -> shape of one example's output, without the batch axis."""
        shapes = {}
        x = jax.ShapeDtypeStruct((1, *self.input_shape), jnp.float32)
        for name, layer in self.layers.items():
            x = jax.eval_shape(
                lambda key, x, layer=layer: layer.apply(layer.init(key, x), x), jax.random.key(0), x
            )
            shapes[name] = x.shape[1:]
        return shapes

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of one example's output, without the batch axis."""
        return list(self.shapes.values())[-1] if self.layers else self.input_shape

    @property
    def is_affine(self) -> bool:
        """Whether the whole network is an affine map."""
        return all(layer.kind == "affine" for layer in self.layers.values())

    def resolve(self, cut: str) -> str:
        """The name of a cut in this network's spelling (`ReLU2` is `relu2`).

        Raises:
          UsageError: there is no such layer.
        """
        by_lower = {name.lower(): name for name in self.layers}
        if cut.lower() in by_lower:
            return by_lower[cut.lower()]
        close = difflib.get_close_matches(cut.lower(), by_lower, n=1)
        hint = f" (did you mean {by_lower[close[0]]}?)" if close else ""
        raise UsageError(f"--split={cut}: no such layer{hint}; choose from {', '.join(self.cuts)}.")

    def split(self, cut: str) -> tuple["Network", "Network"]:
        """Cuts the network after a layer.

        `cloud.apply(params, edge.apply(params, x))` equals `apply(params, x)` exactly.

        Returns:
          The edge, up to and with `cut`, and the cloud, which is the rest (at the last layer: the
          identity).

        Raises:
          UsageError: there is no such layer.
        """
        return _split(self, self.resolve(cut))

    def before_rectifier(self) -> "Network | None":
        """The network without its final rectifier, or None where it does not end in one.

        Max-pooling after the rectifier is kept: as both are monotone, pooling what was not
        rectified and rectifying it then is the same. Thus `relu(before.apply(params, x))` equals
        `apply(params, x)`.
        """
        return _before_rectifier(self)


@functools.lru_cache(maxsize=256)
def _before_rectifier(network: Network) -> Network | None:
    names = list(network.layers)
    while names and network.layers[names[-1]].kind == "max_pool":
        names.pop()
    if not names or network.layers[names[-1]].kind != "relu":
        return None
    kept = {name: layer for name, layer in network.layers.items() if name != names[-1]}
    return dataclasses.replace(network, layers=kept)


@functools.lru_cache(maxsize=256)  # the same halves each time: programs are kept for them
def _split(network: Network, cut: str) -> tuple[Network, Network]:
    end = network.cuts.index(cut) + 1
    items = list(network.layers.items())
    edge = dataclasses.replace(network, layers=dict(items[:end]))
    return edge, Network(dict(items[end:]), edge.output_shape)


def sequence(
    layers: Sequence[tuple[str, Layer | nn.Module | Callable[[Array], Array]]],
    input_shape: Sequence[int],
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Network:
    """Builds a network of named layers, checking the names.

    Args:
      layers: `(name, layer)` in order; see `as_layer` for what a layer may be.
      input_shape: of one example, `(H, W, C)`.
      mean, std: normalisation of the first step, per channel, in unit space.

    Raises:
      UserError: two layers have one name, or only one of mean and std is given.
    """
    names = [name for name, _ in layers]
    if len({name.lower() for name in names}) < len(names):
        raise UserError(f"Layer names must differ (whatever their case), got {', '.join(names)}.")
    if (mean is None) != (std is None):
        raise UserError("Expected both of mean and std, or neither.")
    return Network(
        dict(layers),  # type: ignore[arg-type]
        tuple(input_shape),
        None if mean is None else tuple(mean),
        None if std is None else tuple(std),
    )
