"""Distance correlation, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from behind import apply, normal

from jaxinv.defenses import NOPEEK, Lesson, distance_correlation

correlation = jax.jit(distance_correlation)


def by_numpy(x, y):
    """Szekely, Rizzo & Bakirov 2007, float64."""

    def centred(values):
        flat = np.asarray(values, np.float64).reshape(len(values), -1)
        distance = np.linalg.norm(flat[:, None] - flat[None], axis=-1)
        return distance - distance.mean(0) - distance.mean(1)[:, None] + distance.mean()

    a, b = centred(x), centred(y)
    return np.sqrt((a * b).mean() / np.sqrt((a * a).mean() * (b * b).mean()))


def test_distance_correlation_is_numpys():
    x = normal(40, 4, 4, 1)
    y = np.tanh(x.reshape(40, -1)[:, :5]) + 0.3 * normal(40, 5, seed=1)
    assert float(correlation(x, y)) == pytest.approx(by_numpy(x, y), abs=1e-3)


def test_distance_correlation_of_the_same_and_of_independent_ones():
    x, other = normal(400, 3), normal(400, 3, seed=1)
    assert float(correlation(x, x)) == pytest.approx(1, abs=1e-3)
    assert float(correlation(x, 5 - 3 * x[:, ::-1])) == pytest.approx(1, abs=1e-3)
    assert float(correlation(x, other)) < 0.2
    assert float(correlation(x, x**2)) > 1.5 * float(correlation(x, other))


def test_distance_correlation_has_a_gradient_everywhere():
    x = jnp.asarray(normal(6, 3))
    for y in (x, jnp.zeros((6, 2)), jnp.ones((6, 2))):
        assert np.isfinite(jax.jit(jax.grad(distance_correlation, argnums=1))(x, y)).all()


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize(("size", "shift"), [(1e-4, 0.0), (300.0, 0.0), (1.0, 30.0)])
def test_distance_correlation_does_not_depend_on_the_size_of_features(dtype, size, shift):
    x = normal(40, 4, 4, 1)
    y = (np.tanh(x.reshape(40, -1)[:, :5]) * size + shift).astype(dtype)
    found = correlation(x, y)
    assert found.dtype == jnp.float32
    assert float(found) == pytest.approx(by_numpy(x, y), abs=2e-3)


def test_distance_correlation_of_features_that_are_all_zero_is_none():
    assert float(correlation(normal(9, 3), np.zeros((9, 2), "f"))) == pytest.approx(0, abs=1e-5)


def test_nopeek_is_trained_in():
    x = normal(50)
    np.testing.assert_array_equal(apply(NOPEEK, x, 5.0), x)
    images, features = normal(20, 4, 4, 1), normal(20, 5, seed=1)
    lesson = Lesson(images, np.zeros(20, "i"), features, features, features, {})
    found = float(NOPEEK.training.loss(lesson, {}, jnp.float32(5)))
    assert found == pytest.approx(5 * by_numpy(images, features), abs=1e-2)
