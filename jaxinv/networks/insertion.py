"""A pair of maps between an edge and its cloud: what crosses is encoded, then decoded. JAX."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.ad_checkpoint import checkpoint_name

from jaxinv.errors import UsageError
from jaxinv.networks import arguments
from jaxinv.networks.layers import Layer
from jaxinv.networks.network import Network, Params
from jaxinv.networks.source import Source


def insert(
    network: Network, cut: str, name: str, encode: Layer, decode: Callable[[Params, Array], Array]
) -> Network:
    """Returns a network with one more layer behind a cut, and its inverse or so before the cloud.

    Cut at `name`, the edge ends with `encode` and the cloud begins with `decode`. Both read the
    parameters of that name.

    Args:
      network: the network.
      cut: a place of it.
      name: of the layer: no cut of the network has it.
      encode: of the features `[N, ...]` at the cut.
      decode: `(params, what crosses [N, ...]) -> features [N, ...]`, of the shape at the cut.

    Raises:
      UserError: the name is not allowed or is that of a cut, there is no such place, or the layer
        mixes the examples of a batch.
    """
    arguments.check_name(name)
    if name.lower() in map(str.lower, network.all_cuts):
        raise UsageError(f"name={name}: expected another than {', '.join(network.cuts)}.")
    edge, cloud = network.without_normalization.split(cut)

    def apply(params: Params, x: Array) -> Array:
        own = params.get(name, {})
        crossing = checkpoint_name(encode.apply(own, edge.apply(params, x)), name)
        return cloud.apply(params, decode(own, crossing))

    def init(key: Array) -> dict[str, Any]:
        features = jnp.zeros((1, *edge.output_shape), jnp.float32)
        own = encode.init(jax.random.fold_in(key, len(network.cuts)), features)
        return {**network.init(key), **({name: own} if own else {})}

    source = Source(apply, init, network.input_shape)
    return Network.whole(source, mean=network.mean, std=network.std)
