"""Arrays that cross at each cut of a network, and the work of the edge up to there. JAX.

A bottleneck sends fewer values than the input and every cut before it, and no more than the next
cut behind it; the whole network is none.
"""

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxinv.errors import UserError
from jaxinv.measures import costs
from jaxinv.networks import Network, Params, Wire

_TOLERANCE = 1e-4  # of the output, beside its size
_COMPARED = 24  # cuts at which edge and cloud are run, at most; between them, parts in turn


class Crossing(NamedTuple):
    """A cut of a network.

    Attributes:
      name: of the cut.
      wire: the arrays that cross for one example.
      flops: arithmetic of the edge, for one example.
      params: number of parameters that the edge reads.
      is_default: whether it ends a layer or module, and one array crosses.
      is_bottleneck: see above, among the cuts that are listed.
    """

    name: str
    wire: Wire
    flops: float
    params: int
    is_default: bool
    is_bottleneck: bool

    @property
    def kind(self) -> str:
        """ "single" array, or "several"."""
        return "single" if len(self.wire.shapes) == 1 else "several"

    @property
    def fields(self) -> dict[str, Any]:
        """Returns it in JSON's types; bytes are those of float32 and of one byte a value."""
        arrays = zip(self.wire.shapes, self.wire.dtypes, strict=True)
        return {
            "name": self.name,
            "arrays": [{"shape": list(shape), "dtype": str(dtype)} for shape, dtype in arrays],
            "bytes": 4 * self.wire.size,
            "bytes_int8": self.wire.size,
            "flops": self.flops,
            "params": self.params,
            "kind": self.kind,
            "default": self.is_default,
            "bottleneck": self.is_bottleneck,
        }


def crossings(network: Network, cuts: Sequence[str]) -> list[Crossing]:
    """Returns what crosses at some cuts of a network, which are in order."""
    params = jax.eval_shape(network.init, jax.random.key(0))
    layers = costs.layers_between(network, params, cuts)
    flops = accumulate(layer.flops for layer in layers)
    edges = [network.split(cut)[0] for cut in cuts]
    narrow = bottlenecks(network.input_wire.size, [edge.wire.size for edge in edges])
    return [
        Crossing(name, edge.wire, total, _count(edge, params), name in network.cuts, is_narrow)
        for name, edge, total, is_narrow in zip(cuts, edges, flops, narrow, strict=True)
    ]


def bottlenecks(input_size: int, sizes: Sequence[int]) -> list[bool]:
    """Tells which of the cuts that send so many values are bottlenecks."""
    least, found = input_size, []
    for place, size in enumerate(sizes):
        behind = sizes[place + 1] if place + 1 < len(sizes) else 0
        found.append(size < least and size <= behind)
        least = min(least, size)
    return found


def _count(edge: Network, params: Params) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(edge.select(params)))


def compare(network: Network, params: Params, cuts: Sequence[str]) -> tuple[int, float]:
    """Compares edge and cloud together with the network, on one random image.

    Of many cuts some are compared, and all parts between cuts in turn.

    Returns:
      At how many cuts they were, and the largest difference beside the size of the output.

    Raises:
      UserError: they differ; the cut is named.
    """
    x = jax.random.uniform(jax.random.key(0), (1, *network.input_shape), jnp.float32)
    whole = np.asarray(network.apply(params, x))
    places = np.linspace(0, len(cuts) - 1, min(_COMPARED, len(cuts))).round().astype(int)
    chosen = [cuts[place] for place in places]
    found = 0.0
    for cut in chosen:
        edge, cloud = network.split(cut)
        found = max(found, _apart(whole, cloud.apply(params, edge.apply(params, x)), cut))
    rest = network
    for cut in cuts:
        part, rest = rest.split(cut)
        x = part.apply(params, x)
    return len(chosen), max(found, _apart(whole, rest.apply(params, x), "all cuts in turn"))


def _apart(whole: np.ndarray, found: Any, cut: str) -> float:
    """Returns the largest difference beside the size of the output.

    Raises:
      UserError: it is too large.
    """
    size = float(np.abs(whole).max(initial=0)) or 1.0
    apart = float(np.abs(np.asarray(found) - whole).max(initial=0)) / size
    if not apart <= _TOLERANCE:  # NaN compares as false
        raise UserError(f"At {cut} edge and cloud give another output than the network: {apart:g}.")
    return apart
