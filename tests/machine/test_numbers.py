"""Lengths of any size, and numbers in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.machine.numbers import length, widened


@pytest.mark.parametrize("size", [1e-30, 1e-20, 1e-5, 1.0, 300.0, 1e20, 1e37])
def test_lengths_neither_overflow_nor_vanish(size):
    x = (np.arange(1, 7).reshape(2, 3) * size).astype(np.float32)
    wanted = np.linalg.norm(x.astype(np.float64), axis=1)
    np.testing.assert_allclose(length(jnp.asarray(x), 1), wanted, rtol=1e-6)
    gradient = jax.grad(lambda x: length(x))(jnp.asarray(x))
    np.testing.assert_allclose(gradient, x / np.linalg.norm(x.astype(np.float64)), rtol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize("value", [300.0, 1e-5])
def test_half_precision_is_summed_in_float32(dtype, value):
    x = jnp.full(1000, value, dtype)
    assert length(x) == pytest.approx(float(x[0]) * 1000**0.5, rel=1e-5)


def test_zeros_have_no_length_and_no_slope():
    assert length(jnp.zeros(4)) == 0
    np.testing.assert_array_equal(jax.grad(lambda x: length(x))(jnp.zeros(4)), 0)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32, np.uint8, bool])
def test_numbers_are_widened_to_float32(dtype):
    assert widened(jnp.ones(2, dtype)).dtype == jnp.float32
