"""Time and energy of a cut."""

import flax.linen as nn
import jax
import pytest

from jaxinv.measures import costs, latency, profiles
from jaxinv.networks import sequence


def test_time_and_energy_are_sums_of_their_parts():
    profile = profiles.Profile("mine", "", "", 1e9, 1e-9, 8e6, 1e-7, 0.5, 1e12)
    cut = costs.CutCost("cut", 2e9, 3e12, 0, 0, 0, (1,), 1_000_000)
    found = latency.cost(cut, profile)
    assert (found.edge_s, found.uplink_s, found.cloud_s) == pytest.approx((2, 1.5, 3))
    assert (found.edge_j, found.uplink_j) == pytest.approx((2, 0.8))
    assert (found.latency_s, found.energy_j) == pytest.approx((6.5, 2.8))
    assert latency.cost(cut, profile, 500_000).uplink_s == pytest.approx(1)
    alone = cut._replace(sent_bytes=0, cloud_flops=0)
    assert latency.cost(alone, profile).latency_s == pytest.approx(2)  # nobody is waited for


def test_edges_are_measured():
    network = sequence([("double", lambda x: 2 * x), ("fc", nn.Dense(3))], (4, 4, 1))
    params = network.init(jax.random.key(0))
    found = latency.measure_edges(network, params, batch=4, repeats=2)
    assert list(found) == list(network.cuts)
    assert all(0 < seconds < 1 for seconds in found.values())
