"""Time and energy of one image that is classified by an edge and a cloud.

A layer takes as long as its arithmetic or as moving its bytes, whichever is longer, and a launch
(the roofline of Williams, Waterman & Patterson 2009); an edge that was timed takes that time. The
device computes at a constant power. It then wakes its radio, sends the features with the headers of
their packets, waits for the answer, whose few bytes are in the round trip, and its radio stays
awake for a while (the tail). Each image is sent alone: one that follows another within the tail
neither wakes the radio nor adds a tail. A defense's own arithmetic is not counted.

The bandwidth varies from one transmission to the next, log-normally; nothing else does. Latency
falls with the bandwidth, so its 95th percentile is that at the bandwidth's 5th.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxinv.measures.costs import CutCost, Layer
from jaxinv.measures.profiles import Profile


class Cost(NamedTuple):
    """Time and energy of one image with a profile: seconds, and joules of the device.

    Attributes:
      edge_s, cloud_s: computing.
      uplink_s: waking the radio, sending at the median bandwidth, and a round trip.
      uplink_p95_s: the same at the bandwidth that 5% of the transmissions fall below.
      edge_j: computing.
      uplink_j: waking the radio and sending.
      wait_j: waiting for the round trip and the cloud.
      tail_j: of the radio, after the answer.
      wire_bytes: sent, with the headers of packets.
    """

    edge_s: float
    uplink_s: float
    uplink_p95_s: float
    cloud_s: float
    edge_j: float
    uplink_j: float
    wait_j: float
    tail_j: float
    wire_bytes: float

    @property
    def latency_s(self) -> float:
        """Seconds from the image to the answer, the median."""
        return self.edge_s + self.uplink_s + self.cloud_s

    @property
    def latency_p95_s(self) -> float:
        """Seconds from the image to the answer that 5% of the images exceed."""
        return self.edge_s + self.uplink_p95_s + self.cloud_s

    @property
    def energy_j(self) -> float:
        """Joules that the device spends."""
        return self.edge_j + self.uplink_j + self.wait_j + self.tail_j

    def fields(self) -> dict[str, Any]:
        """Returns all of it as a record has it."""
        totals = ("latency_s", "latency_p95_s", "energy_j")
        return {**{name: getattr(self, name) for name in totals}, **self._asdict()}


def cost(cut: CutCost, profile: Profile, sent: float | None = None) -> Cost:
    """Computes time and energy of one image.

    Args:
      cut: where the network is divided.
      profile: of the device.
      sent: bytes sent, without headers; by default those of the cut without a defense.
    """
    sent = cut.sent_bytes if sent is None else sent
    edge_s = _edge_s(cut.edge, profile)
    edge_j = edge_s * profile.edge_watts
    if not sent:
        return Cost(edge_s, 0.0, 0.0, 0.0, edge_j, 0.0, 0.0, 0.0, 0)
    cloud_s = _roofline(
        cut.cloud, profile.cloud_flops_per_s, profile.cloud_bytes_per_s, profile.cloud_launch_s
    )
    wire = wire_bytes(sent, profile)
    slow = profile.uplink_p5_bits_per_s or profile.uplink_bits_per_s
    around = profile.promotion_s + profile.round_trip_s
    waking = profile.promotion_s * profile.promotion_watts
    return Cost(
        edge_s=edge_s,
        uplink_s=around + 8 * wire / profile.uplink_bits_per_s,
        uplink_p95_s=around + 8 * wire / slow,
        cloud_s=cloud_s,
        edge_j=edge_j,
        uplink_j=waking + 8 * wire * profile.uplink_joules_per_bit,
        wait_j=(profile.round_trip_s + cloud_s) * profile.wait_watts,
        tail_j=profile.tail_s * profile.tail_watts,
        wire_bytes=wire,
    )


def wire_bytes(sent: float, profile: Profile) -> float:
    """Returns the bytes on the wire: those sent, and a header for each packet of them."""
    return sent + math.ceil(sent / profile.packet_bytes) * profile.header_bytes


def _edge_s(edge: Sequence[Layer], profile: Profile) -> float:
    if not edge or not profile.edge_times:
        rates = profile.edge_flops_per_s, profile.edge_bytes_per_s, profile.edge_launch_s
        return _roofline(edge, *rates)
    return profile.edge_times[edge[-1].name]


def _roofline(
    layers: Sequence[Layer], flops_per_s: float, bytes_per_s: float | None, launch_s: float
) -> float:
    """Returns seconds of layers one after the other; None moves bytes in no time."""
    moving = 1 / bytes_per_s if bytes_per_s else 0.0
    times = (max(layer.flops / flops_per_s, layer.moved_bytes * moving) for layer in layers)
    return sum((time + launch_s for time in times), 0.0)
