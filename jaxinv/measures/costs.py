"""Costs of a cut: computing, memory and bytes sent, for one image.

A FLOP is one arithmetic operation; a multiplication and an addition are two. The compiler counts
them, with convolutions as the network defines them, whatever form computes them on this machine.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxinv.constants.choices import CLOUD_ONLY, EDGE_ONLY
from jaxinv.machine import flops
from jaxinv.networks import Network, Params
from jaxinv.networks.convolution import computed_as

_FLOAT = 4  # bytes of what noise or a projection makes


class CutCost(NamedTuple):
    """Demands of a cut on the edge and the wire, for one image.

    Attributes:
      split: the last layer on the edge, "cloud-only" or "edge-only".
      edge_flops, cloud_flops: arithmetic on either side.
      edge_parameters: number of parameters on the device.
      parameter_bytes: their size, each in its own type.
      activation_bytes: at the peak, computing layer by layer: inputs and outputs of a layer, in
        their types; elementwise layers work in place.
      features: shape of the features sent; empty where nothing is sent.
      sent_bytes: their size without a defense, in their types; 8-bit pixels for an image.
    """

    split: str
    edge_flops: float
    cloud_flops: float
    edge_parameters: int
    parameter_bytes: int
    activation_bytes: int
    features: tuple[int, ...]
    sent_bytes: int

    @property
    def memory_bytes(self) -> int:
        """Parameters and activations on the device."""
        return self.parameter_bytes + self.activation_bytes


def split_costs(network: Network, params: Params | None = None) -> list[CutCost]:
    """Counts the cost of every cut of a network, from nothing on the edge to all of it.

    Args:
      network: the whole.
      params: its parameters, whose shapes and types alone matter; fresh ones by default.
    """
    if params is None:
        params = jax.eval_shape(network.init, jax.random.key(0))
    total = _flops(network, params)
    pixels = math.prod(network.input_shape)
    rows = [CutCost(CLOUD_ONLY, 0.0, total, 0, 0, pixels, network.input_shape, pixels)]
    peak, inputs, before = 0, _FLOAT * pixels, 0
    for cut in network.cuts:
        edge, _ = network.split(cut)
        outputs, own = edge.wire.bytes, jax.tree.leaves(edge.select(params))
        count = sum(leaf.size for leaf in own)
        in_place = count == before and outputs == inputs
        peak = max(peak, outputs if in_place else inputs + outputs)
        inputs, before = outputs, count
        done = _flops(edge, params)
        # Both halves together do the arithmetic of the whole.
        size = sum(leaf.size * np.dtype(leaf.dtype).itemsize for leaf in own)
        shape = network.shapes[cut]
        rows.append(CutCost(cut, done, max(0.0, total - done), count, size, peak, shape, outputs))
    whole = rows[-1]
    return [*rows, whole._replace(split=EDGE_ONLY, cloud_flops=0.0, features=(), sent_bytes=0)]


def _flops(network: Network, params: Params) -> float:
    # A network whose program of one image differs from that of several computes one as two.
    count = 1 if network.source.takes_one else 2
    images = jax.ShapeDtypeStruct((count, *network.input_shape), jnp.float32)
    with computed_as("lax"):
        done = flops.count(
            lambda params, x: network.apply(params, x), network.select(params), images
        )
    return done / count


def sent_bytes(
    shape: Sequence[int], defense: Mapping[str, Any], *, dense: int | None = None
) -> int:
    """Counts the bytes on the wire for the features of one image, behind a defense.

    Values have their type unless a defense at the features allows less; of several, the least
    counts:

    * `quantize` to b bits: b a value, and the least and the greatest value;
    * `prune`, `dropout`: a bit for each value, and the values left (for dropout, on average);
    * `project`: a value for each dimension left.

    After noise, projection or a custom mechanism, values are dense float32 again. A projection
    before another mechanism saves nothing either. Zeros among quantised values take a bit each.

    Args:
      shape: of the features.
      defense: `{kind, site, level}`, as `Defense.describe` has it.
      dense: bytes without a defense, such as `CutCost.sent_bytes`; by default of float32.
    """
    count = math.prod(shape)
    dense = _FLOAT * count if dense is None else dense
    each = dense / max(count, 1)
    kinds = str(defense["kind"]).split("+")
    levels = defense["level"] if isinstance(defense["level"], list) else [defense["level"]]
    sites = str(defense["site"]).split("+")
    sites = sites * len(kinds) if len(sites) == 1 else sites
    options = {"dense": dense}
    for kind, site, level in zip(kinds, sites, levels, strict=True):
        if site != "feature" or not level or kind == "nopeek":
            continue
        if kind in ("quantize", "prune", "dropout"):
            options.pop("project", None)
            if kind != "quantize" and "quantize" in options:
                options["quantize"] += math.ceil(count / 8)
        else:
            each = max(each, _FLOAT)
            dense = math.ceil(each * count)
            options = {"dense": dense}
        kept = math.ceil((1 - level) * count * (1 - 1e-6)) if level < 1 else 0
        least = options.get(kind, dense)
        if kind == "quantize":
            options[kind] = min(least, math.ceil(count * level / 8 + 2 * each))
        elif kind in ("prune", "dropout"):
            options[kind] = min(least, math.ceil(count / 8) + math.ceil(each * kept))
        elif kind == "project":
            options[kind] = math.ceil(each * kept)
    return min(options.values())
