"""Networks of series and rows put on a grid."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from jaxinv.errors import UsageError
from jaxinv.networks import from_linen
from jaxinv.networks.placing import on_grid


class Net(nn.Module):
    """Convolutions in time."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(3, (3,), name="conv")(x))
        return nn.Dense(2, name="head")(x.reshape(len(x), -1))


@pytest.fixture(scope="module")
def network():
    module = Net()
    variables = module.init(jax.random.key(0), np.zeros((1, 6, 2), np.float32))
    return from_linen(module, variables, (6, 2), mean=[1, 2], std=[3, 4])


def test_a_grid_changes_neither_outputs_nor_names_of_cuts(network):
    network, params = network
    placed = on_grid(network, (6, 1, 2))
    x = np.random.default_rng(0).random((4, 6, 2), np.float32)
    np.testing.assert_array_equal(
        placed.apply(params, x.reshape(4, 6, 1, 2)), network.apply(params, x)
    )
    assert placed.cuts == network.cuts == ("conv", "relu", "head")
    assert placed.input_shape == (6, 1, 2) and placed.mean == network.mean
    assert placed.split("conv")[0].is_affine


def test_a_grid_has_as_many_values(network):
    with pytest.raises(UsageError) as caught:
        on_grid(network[0], (1, 1, 5))
    assert "expected as many values as the network takes, [6, 2]" in str(caught.value)
