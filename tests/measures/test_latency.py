"""Time and energy of a cut."""

import dataclasses

import flax.linen as nn
import numpy as np
import pytest

from jaxinv.defenses import NONE, QUANTIZE
from jaxinv.measures import costs, latency, profiles
from jaxinv.networks import lenet5, sequence

PROFILE = profiles.Profile("mine", "", "", 1e9, 1e-9, 8e6, 1e-7, 0.5, 1e12)
FULL = dataclasses.replace(
    PROFILE,
    edge_bytes_per_s=1e6,
    edge_launch_s=0.25,
    cloud_bytes_per_s=1e7,
    cloud_launch_s=0.125,
    uplink_p5_bits_per_s=2e6,
    packet_bytes=100,
    header_bytes=20,
    wait_watts=3.0,
    promotion_s=0.2,
    promotion_watts=5.0,
    tail_s=10.0,
    tail_watts=0.5,
)
# 16 pixels, 32 features, 3 scores.
TWO_LAYERS = sequence(
    [("conv", nn.Conv(2, (1, 1))), ("fc", nn.DenseGeneral(3, axis=(-3, -2, -1)))], (4, 4, 1)
)


def layer(flops, moved=0):
    return costs.Layer("layer", flops, 0, moved, 0, 0)


def cut_of(edge, cloud, sent):
    return costs.CutCost("cut", edge, cloud, 0, 0, 0, (1,), sent)


def test_time_and_energy_are_sums_of_their_parts():
    cut = cut_of((layer(2e9),), (layer(3e12),), 1_000_000)
    found = latency.cost(cut, PROFILE)
    assert (found.edge_s, found.uplink_s, found.cloud_s) == pytest.approx((2, 1.5, 3))
    assert (found.edge_j, found.uplink_j) == pytest.approx((2, 0.8))
    assert (found.latency_s, found.energy_j) == pytest.approx((6.5, 2.8))
    assert latency.cost(cut, PROFILE, 500_000).uplink_s == pytest.approx(1)
    alone = latency.cost(cut_of(cut.edge, (), 0), FULL)
    assert alone.latency_s == alone.latency_p95_s == pytest.approx(2.25)  # nobody is waited for
    assert (alone.wait_j, alone.tail_j, alone.uplink_j, alone.wire_bytes) == (0, 0, 0, 0)


def test_a_layer_takes_the_longer_of_arithmetic_and_memory_and_a_launch():
    edge = (layer(1e9, 10), layer(10, 3e6))
    found = latency.cost(cut_of(edge, (layer(1, 5e6),), 150), FULL)
    assert found.edge_s == pytest.approx((1 + 0.25) + (3 + 0.25))
    assert found.edge_j == pytest.approx(found.edge_s * 1.0)  # 1e9 FLOP/s at 1e-9 J
    assert found.cloud_s == pytest.approx(0.5 + 0.125)


def test_costs_of_two_layers_are_those_that_a_hand_computes():
    _, cut, *_ = costs.split_costs(TWO_LAYERS)
    # A multiplication and an addition for each of 32 features, and its bias; 99 for 3 scores.
    assert [part.flops for part in (*cut.edge, *cut.cloud)] == [32 * 2 + 32, 2 * 96 + 3]
    # Parameters, inputs and outputs of 4 bytes.
    assert [part.moved_bytes for part in (*cut.edge, *cut.cloud)] == [
        4 * (4 + 16 + 32),
        4 * (99 + 32 + 3),
    ]
    found = latency.cost(cut, FULL)
    assert cut.sent_bytes == 128 and found.wire_bytes == 128 + 2 * 20
    edge, cloud = 208 / 1e6 + 0.25, 536 / 1e7 + 0.125
    around, bits = 0.2 + 0.5, 8 * 168
    assert found.edge_s == pytest.approx(edge) and found.cloud_s == pytest.approx(cloud)
    assert found.uplink_s == pytest.approx(around + bits / 8e6)
    assert found.latency_s == pytest.approx(edge + around + bits / 8e6 + cloud)
    assert found.latency_p95_s == pytest.approx(edge + around + bits / 2e6 + cloud)
    assert found.edge_j == pytest.approx(edge)
    assert found.uplink_j == pytest.approx(0.2 * 5 + bits * 1e-7)
    assert found.wait_j == pytest.approx((0.5 + cloud) * 3)
    assert found.tail_j == pytest.approx(5)
    parts = found.edge_j + found.uplink_j + found.wait_j + found.tail_j
    assert found.energy_j == pytest.approx(parts)


def test_the_95th_percentile_is_that_of_a_lognormal_bandwidth():
    _, cut, *_ = costs.split_costs(TWO_LAYERS)
    slow = dataclasses.replace(FULL, uplink_bits_per_s=800.0, uplink_p5_bits_per_s=200.0)
    found = latency.cost(cut, slow)
    scale = np.log(800 / 200) / 1.6448536269514722  # standard normal quantile of 95%
    bandwidths = 800 * np.exp(scale * np.random.default_rng(0).standard_normal(400_000))
    drawn = found.edge_s + 0.7 + 8 * found.wire_bytes / bandwidths + found.cloud_s
    assert found.latency_s == pytest.approx(np.median(drawn), rel=0.01)
    assert found.latency_p95_s == pytest.approx(np.quantile(drawn, 0.95), rel=0.01)


@pytest.mark.parametrize("name", profiles.names())
def test_more_bandwidth_is_never_slower_and_quantised_features_are_sooner_sent(name):
    profile = profiles.load(name)
    faster = dataclasses.replace(
        profile,
        uplink_bits_per_s=2 * profile.uplink_bits_per_s,
        uplink_p5_bits_per_s=2 * profile.uplink_p5_bits_per_s,
    )
    for cut in costs.split_costs(lenet5()):
        found, other = latency.cost(cut, profile), latency.cost(cut, faster)
        assert other.latency_s <= found.latency_s <= found.latency_p95_s
        assert other.latency_p95_s <= found.latency_p95_s
        if not cut.sent_bytes or cut.split == "cloud-only":
            continue
        whole, rounded = (
            costs.sent_bytes(cut.features, defense.describe(), dense=cut.sent_bytes)
            for defense in (NONE, QUANTIZE.at("feature", 4))
        )
        rounded_cost = latency.cost(cut, profile, rounded)
        assert rounded < whole and rounded_cost.wire_bytes < found.wire_bytes
        assert rounded_cost.latency_s < found.latency_s
        assert rounded_cost.energy_j < found.energy_j


def test_a_record_has_totals_and_parts():
    found = latency.cost(cut_of((layer(2e9),), (layer(3e12),), 100), FULL).fields()
    assert found["energy_j"] > found["tail_j"] > 0 and "latency_p95_s" in found
