"""Costs of a cut: computing, memory and bytes sent, for one image.

A FLOP is one arithmetic operation; a multiplication and an addition are two. The compiler counts
them, with convolutions as the network defines them, whatever form computes them on this machine.
A layer is what lies between two neighbouring cuts: a block that cannot be cut counts as one.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxinv.constants import kinds, trained
from jaxinv.constants.choices import CLOUD_ONLY, EDGE_ONLY
from jaxinv.machine import flops
from jaxinv.networks import Network, Params
from jaxinv.networks.convolution import computed_as

_FLOAT = 4  # bytes of what noise or a projection makes


class Layer(NamedTuple):
    """A layer's demands for one image: the part of a network from one cut to the next.

    Attributes:
      name: of the cut at its end.
      flops: arithmetic.
      parameters: number of those that it reads.
      parameter_bytes, input_bytes, output_bytes: sizes, each in its own type.
    """

    name: str
    flops: float
    parameters: int
    parameter_bytes: int
    input_bytes: int
    output_bytes: int

    @property
    def moved_bytes(self) -> int:
        """Bytes that memory moves at least: what it reads, and what it writes."""
        return self.parameter_bytes + self.input_bytes + self.output_bytes

    @property
    def active_bytes(self) -> int:
        """Bytes of activations that are held at once; an elementwise layer works in place."""
        in_place = not self.parameters and self.input_bytes == self.output_bytes
        return self.output_bytes if in_place else self.input_bytes + self.output_bytes


class CutCost(NamedTuple):
    """Demands of a cut on the edge and the wire, for one image.

    Attributes:
      split: the last layer on the edge, "cloud-only" or "edge-only".
      edge, cloud: layers on either side.
      edge_parameters: number of parameters on the device.
      parameter_bytes: their size, each in its own type.
      activation_bytes: at the peak, computing layer by layer.
      features: shape of the features sent; empty where nothing is sent.
      sent_bytes: their size without a defense, in their types; 8-bit pixels for an image,
        floats for a series or a row of a table.
    """

    split: str
    edge: tuple[Layer, ...]
    cloud: tuple[Layer, ...]
    edge_parameters: int
    parameter_bytes: int
    activation_bytes: int
    features: tuple[int, ...]
    sent_bytes: int

    @property
    def edge_flops(self) -> float:
        """Arithmetic on the device."""
        return sum((layer.flops for layer in self.edge), 0.0)

    @property
    def cloud_flops(self) -> float:
        """Arithmetic in the cloud."""
        return sum((layer.flops for layer in self.cloud), 0.0)

    @property
    def memory_bytes(self) -> int:
        """Parameters and activations on the device."""
        return self.parameter_bytes + self.activation_bytes


def cuts_with(network: Network, names: Collection[str]) -> tuple[str, ...]:
    """Returns the default cuts of a network and those of some names, in order."""
    wanted = {*network.cuts, *names}
    return tuple(name for name in network.all_cuts if name in wanted)


def split_costs(
    network: Network, params: Params | None = None, cuts: Collection[str] = ()
) -> list[CutCost]:
    """Counts the cost of every cut of a network, from nothing on the edge to all of it.

    Args:
      network: the whole.
      params: its parameters, whose shapes and types alone matter; fresh ones by default.
      cuts: names of cuts beside the default ones.
    """
    if params is None:
        params = jax.eval_shape(network.init, jax.random.key(0))
    names = cuts_with(network, cuts)
    layers = layers_between(network, params, names)
    each = 1 if kinds.of(network.input_shape) == kinds.IMAGE else _FLOAT
    pixels = each * math.prod(network.input_shape)
    rows = [CutCost(CLOUD_ONLY, (), layers, 0, 0, pixels, network.input_shape, pixels)]
    for number, cut in enumerate(names, 1):
        edge, cloud = layers[:number], layers[number:]
        part, _ = network.split(cut)
        shape, (count, size) = part.output_shape, _size(part, params)
        peak = max(layer.active_bytes for layer in edge)
        rows.append(CutCost(cut, edge, cloud, count, size, peak, shape, edge[-1].output_bytes))
    return [*rows, rows[-1]._replace(split=EDGE_ONLY, features=(), sent_bytes=0)]


def with_layer(cut: CutCost, edge: Network, cloud: Network, params: Params) -> CutCost:
    """Returns the cost of a cut whose edge ends in one more layer, which the cloud undoes.

    Args:
      cut: the cost without it.
      edge, cloud: with the layer.
      params: of both.
    """
    count, size = _size(edge, params)
    more = (count - cut.edge_parameters, size - cut.parameter_bytes)
    sent = edge.wire.bytes
    parts = ((edge, cut.edge_flops), (cloud, cut.cloud_flops))
    own = [max(_flops(part, params) - before, 0.0) for part, before in parts]
    name = f"{cut.split}, layer of the defence"
    last = Layer(name, own[0], *more, cut.sent_bytes, sent)
    first = Layer(name, own[1], *more, sent, cut.sent_bytes)
    return cut._replace(
        edge=(*cut.edge, last),
        cloud=(first, *cut.cloud),
        edge_parameters=cut.edge_parameters + more[0],
        parameter_bytes=cut.parameter_bytes + more[1],
        activation_bytes=max(cut.activation_bytes, last.active_bytes),
        features=edge.output_shape,
        sent_bytes=sent,
    )


def layers_between(network: Network, params: Params, cuts: Sequence[str]) -> tuple[Layer, ...]:
    """Returns the layers that end at some cuts of a network, which are in order."""
    found, rest = [], network
    for cut in cuts:
        part, rest = rest.split(cut)
        flops, sizes = _flops(part, params), _size(part, params)
        found.append(Layer(cut, flops, *sizes, part.input_wire.bytes, part.wire.bytes))
    return tuple(found)


def _size(part: Network, params: Params) -> tuple[int, int]:
    """Returns the number of parameters of a part, and their bytes."""
    own = jax.tree.leaves(part.select(params))
    count = sum(leaf.size for leaf in own)
    return count, sum(leaf.size * np.dtype(leaf.dtype).itemsize for leaf in own)


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
    * `project`: a value for each dimension left;
    * `bottleneck`: its bits a value; `codebook`: the bits of its code. Other defenses that are
      trained in send features as they are.

    After noise, projection or a custom mechanism, values are dense float32 again. A projection
    before another mechanism saves nothing either. Zeros among quantised values, or those of a code,
    take a bit each.

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
        if site != "feature" or not level or kind in trained.UNCHANGED:
            continue
        if kind == trained.BITS:
            options[kind] = math.ceil(count * level / 8)
            continue
        if kind == trained.CODE:
            options[kind] = math.ceil(min(count, level) / 8)
            continue
        if kind in ("quantize", "prune", "dropout"):
            options.pop("project", None)
            for coded in {"quantize", trained.CODE} - {kind} & options.keys():
                options[coded] += math.ceil(count / 8)
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
