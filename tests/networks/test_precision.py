"""Half-precision and 64-bit networks: what crosses, derivatives, and numeric modes."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxinv.errors import UserError
from jaxinv.networks import from_function, from_module, sequence

HALVES = (jnp.bfloat16, jnp.float16)
X = np.random.default_rng(0).random((4, 6, 6, 1), np.float32)


def network(dtype=None, **options):
    layers = [
        ("conv", nn.Conv(4, (3, 3), dtype=dtype, **options)),
        ("relu", nn.relu),
        ("flat", lambda x: x.reshape(len(x), -1)),
        ("fc", nn.Dense(3, dtype=dtype, **options)),
    ]
    return sequence(layers, (6, 6, 1), mean=0.5, std=0.5)


@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision_crosses_as_float32(dtype):
    made = network(dtype)
    params = made.init(jax.random.key(0))
    edge, cloud = made.split("relu")
    features = edge.apply(params, X)
    assert features.dtype == jnp.float32
    assert edge.wire.dtypes == (dtype,)
    np.testing.assert_array_equal(features, features.astype(dtype).astype(jnp.float32))
    np.testing.assert_array_equal(cloud.apply(params, features), made.apply(params, X))
    assert made.apply(params, X).dtype == jnp.float32


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("size", [1e-4, 300.0])
def test_half_precision_has_derivatives_of_float32(dtype, size):
    params = network().init(jax.random.key(0))

    def slopes(dtype):
        layers = [("conv", nn.Conv(4, (3, 3), dtype=dtype)), ("relu", nn.relu)]
        made = sequence([*layers, ("sized", lambda x: size * x)], (6, 6, 1), mean=0.5, std=0.5)

        def misfit(params, x):  # in units of what is observed, as attacks have it
            return (((made.apply(params, x) - size) / (100 * size)) ** 2).mean()

        return jax.jit(jax.grad(misfit, argnums=(0, 1)))(params, jnp.asarray(X))

    plain, half = slopes(None), slopes(dtype)
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(half), strict=True):
        assert b.dtype == jnp.float32
        np.testing.assert_allclose(b, a, atol=0.02 * float(np.abs(a).max()))


@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision_is_a_rounding_of_the_wide_network(dtype):
    made = network(dtype)
    params = made.init(jax.random.key(0))
    edge, _ = made.split("relu")
    wide = edge.wide.apply(params, X)
    assert edge.wide is edge.wide and wide.dtype == jnp.float32
    features = edge.apply(params, X)
    step = float(jnp.finfo(dtype).eps) * float(jnp.abs(features).max())
    assert 0 < float(jnp.abs(features - wide).max()) < 4 * step
    assert not np.array_equal(wide, wide.astype(dtype).astype(jnp.float32))
    plain = network()
    assert plain.wide is plain
    # The device's parameters are rounded, for everybody.
    known = jax.tree.map(lambda leaf: leaf.astype(dtype).astype(jnp.float32), params)
    exact = plain.split("relu")[0].apply(known, X)
    np.testing.assert_allclose(wide, exact, atol=1e-6)


@pytest.mark.parametrize("dtype", HALVES)
def test_a_wide_network_goes_on_before_its_rectifier(dtype):
    made = network(dtype)
    params = made.init(jax.random.key(0))
    edge = made.split("relu")[0].wide
    before = edge.before_rectifier()
    assert before.is_wide
    found = np.maximum(before.apply(params, X), 0)
    np.testing.assert_array_equal(found, edge.apply(params, X))


def test_half_precision_is_linearized_once():
    made = network(jnp.bfloat16)
    params, x = made.init(jax.random.key(0)), jnp.asarray(X)
    y, push = jax.linearize(lambda x: made.apply(params, x), x)
    np.testing.assert_array_equal(y, made.apply(params, x))
    pull = jax.linear_transpose(push, x)
    one, other = jnp.ones_like(x), jnp.ones_like(y)
    np.testing.assert_allclose((push(one) * other).sum(), (pull(other)[0] * one).sum(), rtol=1e-4)


class Convolved(eqx.Module):
    conv: eqx.nn.Conv2d

    def __call__(self, x):
        return jax.nn.relu(self.conv(x.transpose(2, 0, 1)))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", HALVES)
def test_modules_that_hold_half_precision(dtype):
    module = Convolved(eqx.nn.Conv2d(1, 4, 3, dtype=dtype, key=jax.random.key(0)))
    made, params = from_module(module, (6, 6, 1))
    assert made.wire.dtypes == (dtype,)
    assert made.apply(params, X).dtype == jnp.float32

    def convolve(kernel, x):  # jax.lax asks for one type
        return jax.lax.conv(x.transpose(0, 3, 1, 2), kernel, (1, 1), "VALID")

    of_function, kernel = from_function(convolve, jnp.ones((4, 1, 3, 3), dtype), (6, 6, 1))
    assert of_function.wire.dtypes == (dtype,)
    assert of_function.apply(kernel, X).shape == (4, 4, 4, 4)

    linear = nnx.Linear(6, 4, rngs=nnx.Rngs(0), dtype=dtype, param_dtype=dtype)
    mixed = sequence([("a", linear), ("b", nn.tanh)], (6,))
    assert mixed.apply(mixed.init(jax.random.key(0)), X[:, 0, :, 0]).dtype == jnp.float32


@pytest.mark.parametrize("given", [np.float64, np.float16, jnp.bfloat16])
def test_parameters_and_images_of_another_type_are_taken(given):
    made = network()
    params = made.init(jax.random.key(0))
    other = jax.tree.map(lambda leaf: np.asarray(leaf).astype(given), params)
    wanted = made.apply(params, X)
    atol = 0.05 if given != np.float64 else 1e-6
    np.testing.assert_allclose(made.apply(other, X.astype(given)), wanted, atol=atol)


@pytest.mark.slow
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("dtype", [None, jnp.bfloat16])
def test_networks_keep_the_numeric_mode_that_they_were_made_in(first, dtype):
    with jax.enable_x64(first):
        made = network(dtype)
        params = made.init(jax.random.key(0))
        cuts, wanted = made.all_cuts, made.apply(params, X)
    with jax.enable_x64(not first):
        assert made.all_cuts == cuts
        edge, cloud = made.split("relu")
        features = jax.jit(edge.apply)(params, X)
        assert features.dtype == jnp.float32
        np.testing.assert_allclose(cloud.apply(params, features), wanted, atol=1e-6)
        slope = jax.grad(lambda x: edge.apply(params, x).sum())(jnp.asarray(X))
        assert np.isfinite(slope).all() and slope.dtype == jnp.float32


def test_both_modes_find_the_same_numbers():
    found = []
    for mode in (False, True):
        with jax.enable_x64(mode):
            made = network()
            params = made.init(jax.random.key(0))
            found.append((made.apply(params, X.astype(np.float64)), made.fingerprint))
    assert found[0][0].dtype == found[1][0].dtype == jnp.float32
    np.testing.assert_allclose(found[0][0], found[1][0], atol=1e-6)
    assert found[0][1] == found[1][1]


def test_double_precision_needs_its_mode():
    with jax.enable_x64(True):
        made = network(jnp.float64, param_dtype=jnp.float64)
        params = made.init(jax.random.key(0))
        edge, cloud = made.split("relu")
        features = edge.apply(params, X)
        assert features.dtype == jnp.float64
        assert edge.wire.bytes == 8 * 6 * 6 * 4
        np.testing.assert_array_equal(cloud.apply(params, features), made.apply(params, X))
    with jax.enable_x64(False), pytest.raises(UserError, match="float64: it needs 64-bit mode"):
        made.apply(params, X)
