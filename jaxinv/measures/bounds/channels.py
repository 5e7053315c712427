"""Channels: the map of an input whose output crosses in a defense's noise."""

import functools
from typing import Literal, NamedTuple

from jaxinv.defenses import Defense
from jaxinv.networks import Network, sequence


class Channel(NamedTuple):
    """A map whose output crosses in noise, independent and equal for every value.

    Attributes:
      network: the map. For noise at the input it is the normalisation alone.
      noise: "gaussian" or "laplace" is added; "dropout" sets values to zero.
      scale: of the noise: standard deviation, scale, or share of zeros.
      releases: number of independent releases of each input.
    """

    network: Network
    noise: Literal["gaussian", "laplace", "dropout"]
    scale: float
    releases: int = 1

    @property
    def information(self) -> float:
        """Fisher information of all releases about one value of the map's output."""
        return 0.0 if self.noise == "dropout" else self.releases / self.scale**2


def channel(edge: Network, defense: Defense, *, releases: int = 1) -> Channel | None:
    """Returns the channel of a defense's first step, or None where that step adds no noise.

    Noise that is added and not rounded makes none: its own grid may tell everything.

    Later layers and steps compute from its output, so a bound on it bounds the whole (data
    processing). Steps at the input come first, in whichever order they are named.
    """
    steps = sorted(defense.steps, key=lambda step: step.site != "input")
    if not steps or not steps[0].level:
        return None
    mechanism, site, level = steps[0]
    if mechanism.noise is None or (mechanism.noise != "dropout" and not mechanism.rounded):
        return None
    network = edge
    if site == "input":
        network = normalization(edge)
    return Channel(network, mechanism.noise, float(mechanism.noise_scale(level)), releases)


def normalization(edge: Network) -> Network:
    """Returns the first step of an edge alone: the same network for all edges that share it."""
    return _normalization(edge.input_shape, edge.mean, edge.std)


@functools.lru_cache(maxsize=64)  # one object for equal arguments: programs are kept for it
def _normalization(
    shape: tuple[int, ...], mean: tuple[float, ...] | None, std: tuple[float, ...] | None
) -> Network:
    return sequence([], shape, mean=mean, std=std)
