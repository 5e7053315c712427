"""Time and energy of a cut with a device's profile, and edges timed on this machine."""

import math
import time
from typing import NamedTuple

import jax
import numpy as np

from jaxinv.measures.costs import CutCost
from jaxinv.measures.profiles import Profile
from jaxinv.networks import Network, Params


class Cost(NamedTuple):
    """Time and energy of one image with a profile: seconds, and joules of the device."""

    edge_s: float
    uplink_s: float
    cloud_s: float
    edge_j: float
    uplink_j: float

    @property
    def latency_s(self) -> float:
        """Seconds from the image to the answer."""
        return self.edge_s + self.uplink_s + self.cloud_s

    @property
    def energy_j(self) -> float:
        """Joules that the device spends."""
        return self.edge_j + self.uplink_j


def cost(cut: CutCost, profile: Profile, sent: float | None = None) -> Cost:
    """Computes time and energy of one image.

    The paper's Fig. 2: the device computes, sends, and waits for the answer, whose few bytes are in
    the round trip; waiting costs it nothing. A defense's own arithmetic is not counted.

    Args:
      cut: where the network is divided.
      profile: of the device.
      sent: bytes sent; by default those of the cut without a defense.
    """
    bits = 8 * (cut.sent_bytes if sent is None else sent)
    waits = profile.round_trip_s if bits else 0.0
    return Cost(
        cut.edge_flops / profile.edge_flops_per_s,
        bits / profile.uplink_bits_per_s + waits,
        cut.cloud_flops / profile.cloud_flops_per_s,
        cut.edge_flops * profile.edge_joules_per_flop,
        bits * profile.uplink_joules_per_bit,
    )


def measure_edges(
    network: Network, params: Params, *, batch: int = 64, repeats: int = 5
) -> dict[str, float]:
    """Measures the seconds an image of each edge on this machine: the best of some repeats.

    All edges run in turn, so that a disturbance affects all.

    Args:
      network: the whole.
      params: its parameters.
      batch: images at once.
      repeats: runs of each.
    """
    images = np.zeros((batch, *network.input_shape), np.float32)
    runs = {}
    for cut in network.cuts:
        edge, _ = network.split(cut)
        own, run = edge.select(params), jax.jit(edge.apply)
        jax.block_until_ready(run(own, images))
        runs[cut] = (run, own)
    best = dict.fromkeys(network.cuts, math.inf)
    for _ in range(repeats):
        for cut, (run, own) in runs.items():
            began = time.perf_counter()
            jax.block_until_ready(run(own, images))
            best[cut] = min(best[cut], (time.perf_counter() - began) / batch)
    return best
