"""Rectifiers: known however they are written, left out, and told from what is none."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxinv.networks import from_module, max_pool, sequence


def images(network, count=4):
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.random((count, *network.input_shape), "f"))


@jax.custom_jvp
def custom(x):
    return jnp.where(x < 0, 0, x)


custom.defjvp(lambda primals, tangents: (custom(*primals), tangents[0] * (primals[0] > 0)))

SPELLINGS = {
    "relu": nn.relu,
    "jax.nn": jax.nn.relu,
    "wrapped": lambda x: nn.relu(x),
    "jit": jax.jit(nn.relu),
    "maximum": lambda x: jnp.maximum(x, 0),
    "clip": lambda x: jnp.clip(x, 0),
    "where >": lambda x: jnp.where(x > 0, x, 0),
    "where >=": lambda x: jnp.where(x >= 0, x, jnp.zeros_like(x)),
    "where <": lambda x: jnp.where(x < 0, 0.0, x),
    "where <=": lambda x: jnp.where(x <= 0, 0, x),
    "where not": lambda x: jnp.where(~(x > 0), 0, x),
    "select": lambda x: jax.lax.select(x > 0, x, jnp.zeros_like(x)),
    "mask": lambda x: x * (x > 0),
    "float mask": lambda x: (x > 0).astype(x.dtype) * x,
    "absolute": lambda x: (x + jnp.abs(x)) / 2,
    "half": lambda x: 0.5 * (jnp.abs(x) + x),
    "minimum": lambda x: -jnp.minimum(-x, 0),
    "minus": lambda x: x - jnp.minimum(x, 0),
    "plus": lambda x: x + nn.relu(-x),
    "sign": lambda x: x * (jnp.sign(x) + 1) / 2,
    "twice": lambda x: jnp.where(x > 0, nn.relu(x), 0),
    "custom": custom,
}
CLIPPED = {
    "relu6": nn.relu6,
    "clip": lambda x: jnp.clip(x, 0, 6),
    "where": lambda x: jnp.where(x > 6, 6, jnp.where(x > 0, x, 0)),
    "pooled": lambda x: jnp.minimum(jnp.maximum(x, 0).reshape(len(x), -1, 2).max(-1), 6),
}
OTHERS = {
    "leaky": nn.leaky_relu,
    "leaky where": lambda x: jnp.where(x > 0, x, 1e-6 * x),
    "elu": nn.elu,
    "selu": nn.selu,
    "gelu": nn.gelu,
    "silu": nn.silu,
    "hard swish": nn.hard_swish,
    "hard tanh": nn.hard_tanh,
    "soft": nn.softplus,
    "step": lambda x: jnp.where(x > 0, 1.0, 0.0),
    "threshold": lambda x: jnp.where(x > 0.01, x, 0),
    "squared": lambda x: nn.relu(x) ** 2,
    "scaled": lambda x: 2 * jnp.where(x > 0, x, 0),
    "channels": lambda x: jnp.maximum(x, np.float32([[[[0, 0.1]]]])),
    "another": lambda x: jnp.where(x > 0, x[..., ::-1], 0),
    "rounded": lambda x: jnp.where(x > 0, x.astype(jnp.int32), 0).astype(jnp.float32),
    "floor": lambda x: jnp.maximum(nn.relu(x), 0.5),
    "clipped floor": lambda x: jnp.clip(nn.relu(x), 0.5, 2),
    "negative": lambda x: jnp.minimum(x, 0),
}


def between(activation):
    layers = [("affine", lambda x: x - 0.5), ("act", activation), ("pool", max_pool)]
    return sequence(layers, (4, 4, 2))


@pytest.mark.parametrize("name", SPELLINGS)
def test_rectifiers_are_known_by_their_values(name):
    network = between(SPELLINGS[name])
    before, x = network.before_rectifier(), images(network)
    result = before.apply({}, x)
    assert result.min() < 0
    np.testing.assert_array_equal(nn.relu(result), network.apply({}, x))
    assert network.rectifier_limit == np.inf
    assert [segment.kind for segment in network.segments] == ["affine", "rectifier", "max_pool"]
    edge = network.split("act")[0].before_rectifier()
    assert edge.is_affine


@pytest.mark.parametrize("name", ["where >", "minimum", "twice", "relu"])
def test_no_cut_lies_within_what_is_left_out(name):
    before = between(SPELLINGS[name]).before_rectifier()
    x = images(before)
    for cut in before.all_cuts:
        edge, cloud = before.split(cut)
        np.testing.assert_array_equal(
            cloud.apply({}, edge.apply({}, x)), before.apply({}, x), err_msg=cut
        )


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_rectifier(name):
    network = between(OTHERS[name])
    assert network.before_rectifier() is None
    assert "rectifier" not in [segment.kind for segment in network.segments][-2:]


def test_a_rectifier_with_learned_slopes_is_none():
    network = between(nn.PReLU())
    assert network.before_rectifier() is None


@pytest.mark.parametrize("name", CLIPPED)
def test_a_clipped_rectifier_has_a_limit(name):
    network = sequence([("scale", lambda x: 9 * x - 1), ("act", CLIPPED[name])], (6,))
    x = images(network)
    assert network.rectifier_limit == 6
    before = network.before_rectifier().apply({}, x)
    assert before.max() > 6 and before.shape == network.apply({}, x).shape
    np.testing.assert_array_equal(jnp.clip(before, 0, 6), network.apply({}, x))


@pytest.mark.parametrize("name", ["maximum", "where >", "mask"])
def test_half_precision_rectifiers(name):
    conv = nn.Conv(2, (3, 3), dtype=jnp.bfloat16)
    network = sequence([("conv", conv), ("act", SPELLINGS[name])], (6, 6, 1))
    params, x = network.init(jax.random.key(0)), images(network)
    result = network.before_rectifier().apply(params, x)
    np.testing.assert_array_equal(nn.relu(result), network.apply(params, x))


def test_a_rectifier_of_one_row_is_known_among_modules():
    class Own(nnx.Module):
        def __init__(self):
            self.layer = nnx.Linear(3, 4, rngs=nnx.Rngs(0))

        def __call__(self, x):
            return jnp.where((y := self.layer(x)) > 0, y, 0)

    network, _ = from_module(Own(), (3,))
    assert network.cuts == ("layer", "relu")


def test_a_part_of_what_skips_its_rectifier_skips_it_too():
    layers = [("scale", lambda x: x - 1), ("act", nn.relu), ("pool", max_pool)]
    before = sequence(layers, (4, 4, 1)).before_rectifier()
    edge, cloud = before.split("act")
    x = images(before)
    np.testing.assert_array_equal(cloud.apply({}, edge.apply({}, x)), before.apply({}, x))
