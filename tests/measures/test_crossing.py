"""Crossings at cuts: arrays, bytes, work so far, and bottlenecks."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from jaxinv.errors import UserError
from jaxinv.measures import crossing
from jaxinv.networks import from_linen, lenet5


class Skip(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(2, (3, 3), strides=2, name="conv")(x)
        return nn.Dense(2, name="head")(nn.relu(x + nn.Conv(2, (3, 3), name="branch")(x)))


VARIABLES = Skip().init(jax.random.key(0), jnp.zeros((1, 6, 6, 1)))
NETWORK, PARAMS = from_linen(Skip(), VARIABLES, (6, 6, 1))


def test_arrays_bytes_and_parameters_of_a_cut():
    by_name = {each.name: each for each in crossing.crossings(NETWORK, NETWORK.all_cuts)}
    conv, branch = by_name["conv"].fields, by_name["branch"].fields
    assert conv["arrays"] == [{"shape": [3, 3, 2], "dtype": "float32"}]
    assert (conv["bytes"], conv["bytes_int8"], conv["params"]) == (72, 18, 20)
    assert conv["kind"] == "single" and conv["default"]
    assert branch["arrays"] == conv["arrays"] * 2 and branch["kind"] == "several"
    assert not branch["default"] and branch["bytes"] == 144
    flops = [each.flops for each in by_name.values()]
    assert flops == sorted(flops) and conv["flops"] > 0


def test_a_bottleneck_is_smaller_than_all_before_and_no_larger_than_the_next():
    assert crossing.bottlenecks(10, [20, 8, 8, 4, 6, 4, 2]) == [
        *(False, True, False, True, False, False, False)
    ]
    found = crossing.crossings(lenet5(), lenet5().cuts)
    assert [each.name for each in found if each.is_bottleneck] == ["fc1", "fc2"]


def test_edge_and_cloud_are_compared_with_the_network():
    compared, apart = crossing.compare(NETWORK, PARAMS, NETWORK.all_cuts)
    assert compared == len(NETWORK.all_cuts) and apart < 1e-6
    with pytest.raises(UserError, match="At conv edge and cloud give another output"):
        crossing._apart(jnp.ones(2), jnp.array([1.0, 1.1]), "conv")
