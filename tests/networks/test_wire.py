"""Wires of several arrays and of whole numbers, and constants inside of nested functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.networks import Wire, from_function

X = jnp.asarray(np.random.default_rng(0).normal(size=(5, 4)), jnp.float32)


def test_whole_numbers_survive_noise():
    wire = Wire(((3,), (3,), (2,)), (jnp.bool_, jnp.int32, jnp.float32))
    sent = [
        jnp.array([[True, False, True]]),
        jnp.array([[-2, 0, 7]]),
        jnp.array([[0.5, 1.5]]),
    ]
    for noise in (-0.3, 0.0, 0.3):
        received = wire.unravel(wire.ravel(sent) + noise)
        np.testing.assert_array_equal(received[0], sent[0])
        np.testing.assert_array_equal(received[1], sent[1])
        np.testing.assert_allclose(received[2], sent[2] + noise, atol=1e-6)
        assert [each.dtype for each in received] == list(wire.dtypes)


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.int8])
def test_whole_numbers_stay_within_their_type(dtype):
    (received,) = Wire(((3,),), (dtype,)).unravel(jnp.array([[-1e9, 3.0, 1e9]]))
    limits = jnp.iinfo(dtype)
    np.testing.assert_array_equal(received, [[limits.min, 3, limits.max]])


def masked(params, x):
    return jnp.tanh(x) * (x > 0.1) + jax.nn.one_hot(x.argmax(1), 4)


def test_a_cut_through_whole_numbers():
    network, _ = from_function(masked, {}, (4,))
    kinds = {str(kind) for cut in network.all_cuts for kind in network.split(cut)[0].wire.dtypes}
    whole = str(jnp.zeros(0, int).dtype)  # int32, or int64 in that mode
    assert {"bool", whole, "float32"} <= kinds
    wanted = network.apply({}, X)
    for cut in network.all_cuts:
        edge, cloud = network.split(cut)
        features = edge.apply({}, X)
        np.testing.assert_allclose(cloud.apply({}, features), wanted, atol=1e-6)
        noisy = features + 1e-3 * jax.random.normal(jax.random.key(0), features.shape)
        np.testing.assert_allclose(cloud.apply({}, noisy), wanted, atol=0.01)


def test_complex_numbers_do_not_cross():
    network, _ = from_function(lambda params, x: x + jnp.fft.ifft(jnp.fft.fft(x)).real, {}, (4,))
    wires = [network.split(cut)[0].wire for cut in network.all_cuts]
    assert {str(dtype) for wire in wires for dtype in wire.dtypes} == {"float32"}


def test_empty_arrays_do_not_cross():
    network, _ = from_function(lambda params, x: x + x[:, :0].sum(1, keepdims=True), {}, (4,))
    wires = [network.split(cut)[0].wire for cut in network.all_cuts]
    assert all(0 not in shape for wire in wires for shape in wire.shapes)


# --- Constants inside of functions ----------------------------------------------------------------


def scan(c):
    return lambda x: jax.lax.scan(lambda y, _: (y * c[None], None), x, None, 2)[0]


def loop(c):
    return lambda x: jax.lax.fori_loop(0, 2, lambda _, y: y * c[None], x)


def branch(c):
    return lambda x: jax.lax.cond(jnp.asarray(True), lambda y: y * c[None], lambda y: y, x)


def both(c):
    return lambda x: jax.lax.fori_loop(0, 2, lambda _, y: branch(c)(y), x)


def mapped(c):
    return lambda x: jax.lax.map(lambda row: row * c, x)


def custom(c):
    @jax.custom_jvp
    def function(x):
        return x * c[None]

    function.defjvp(lambda primals, tangents: (function(*primals), tangents[0] * c[None]))
    return function


@pytest.mark.slow
@pytest.mark.parametrize("function", [scan, loop, branch, both, mapped, custom])
@pytest.mark.parametrize("length", [3, 2000])  # JAX does not print large arrays in full
def test_constants_inside_of_functions_tell_networks_apart(function, length):
    first, second = np.ones(length, np.float32), np.ones(length, np.float32)
    second[length // 2] = 7

    def fingerprint(constant):
        make = function(constant)
        return from_function(lambda params, x: make(x), {}, (length,))[0].fingerprint

    assert fingerprint(first) == fingerprint(first.copy()) != fingerprint(second)
