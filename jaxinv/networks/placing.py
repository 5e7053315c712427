"""Networks of inputs without a grid, `[N, F]`, `[N, T]` or `[N, T, C]`, put on one. JAX."""

import dataclasses
import math
from collections.abc import Sequence

from jaxinv.errors import UsageError
from jaxinv.networks.network import Network


def on_grid(network: Network, grid: Sequence[int]) -> Network:
    """Returns a network that takes its inputs `[N, H, W, C]`, with the same parameters.

    Args:
      network: the whole, which takes as many values in another shape.
      grid: `(H, W, C)`; its channels are those of the network's normalisation, if it has one.

    Raises:
      UsageError: it takes more values, or fewer.
    """
    if network.input_shape == tuple(grid):
        return network
    if math.prod(grid) != math.prod(network.input_shape):
        raise UsageError(
            f"grid={list(grid)}: expected as many values as the network takes, "
            f"{list(network.input_shape)}."
        )
    whole = Network.whole(network.source.taking(tuple(grid)))
    return dataclasses.replace(whole, mean=network.mean, std=network.std)
