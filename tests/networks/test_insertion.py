"""A layer put between an edge and its cloud."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.errors import UserError
from jaxinv.networks import Layer, lenet5
from jaxinv.networks.insertion import insert

NETWORK = lenet5()
PARAMS = jax.jit(NETWORK.init)(jax.random.key(0))
IMAGES = np.random.default_rng(0).random((3, 28, 28, 1)).astype("f")
HALF = Layer(
    lambda key, x: {"bias": jnp.ones(x.shape[-1])},
    lambda params, x: x[..., ::2] + params["bias"][None, None, None, ::2],
)


def back(params, crossing):
    return jnp.repeat(crossing - params["bias"][None, None, None, ::2], 2, axis=-1)


@pytest.mark.slow
def test_the_edge_ends_with_the_layer_and_the_cloud_begins_behind_it():
    network = insert(NETWORK, "relu2", "relu2.half", HALF, back)
    params = {**PARAMS, "relu2.half": {"bias": jnp.full(16, 3.0)}}
    edge, cloud = network.split("relu2.half")
    host, rest = NETWORK.split("relu2")
    features = np.asarray(host.apply(PARAMS, IMAGES))
    crossing = np.asarray(edge.apply(params, IMAGES))
    np.testing.assert_allclose(crossing, features[..., ::2] + 3, rtol=1e-6)
    expected = rest.apply(PARAMS, np.repeat(features[..., ::2], 2, axis=-1))
    np.testing.assert_allclose(cloud.apply(params, crossing), expected, atol=1e-5)
    np.testing.assert_allclose(network.apply(params, IMAGES), expected, atol=1e-5)
    assert network.mean == NETWORK.mean


def test_its_parameters_begin_by_its_own_rule():
    network = insert(NETWORK, "relu2", "relu2.half", HALF, back)
    params = jax.jit(network.init)(jax.random.key(1))
    assert set(params) == {*PARAMS, "relu2.half"}
    np.testing.assert_array_equal(params["relu2.half"]["bias"], 1)
    assert set(network.split("relu2.half")[1].select(params)) == {"relu2.half", "fc1", "fc2", "fc3"}


@pytest.mark.parametrize("name", ["conv1", "Conv1", "no name"])
def test_a_name_that_is_taken_or_not_allowed_is_refused(name):
    with pytest.raises(UserError, match=name):
        insert(NETWORK, "relu2", name, HALF, back)


def test_there_is_such_a_cut():
    with pytest.raises(UserError, match="split=relu9"):
        insert(NETWORK, "relu9", "half", HALF, back)
