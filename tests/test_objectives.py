import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.attacks.objectives import (
    Objective,
    difference,
    rectified_difference,
    total_variation,
)


def images(*shape):
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def variation_by_loops(image, beta):
    """Eq. 1b as it is printed, pixel by pixel; a neighbour beyond the border counts as equal."""
    height, width, channels = image.shape
    total = 0.0
    for c in range(channels):
        for i in range(height):
            for j in range(width):
                below = image[min(i + 1, height - 1), j, c]
                right = image[i, min(j + 1, width - 1), c]
                squared = (below - image[i, j, c]) ** 2 + (right - image[i, j, c]) ** 2
                total += squared ** (beta / 2)
    return total


@pytest.mark.parametrize("beta", [1.0, 1.5, 2.0])
@pytest.mark.parametrize("channels", [1, 3])
def test_total_variation_is_equation_1b(beta, channels):
    x = images(3, 6, 5, channels)
    expected = [variation_by_loops(image.astype(np.float64), beta) for image in x]
    np.testing.assert_allclose(total_variation(jnp.asarray(x), beta=beta), expected, rtol=1e-3)


def test_total_variation_without_smoothing_is_exact():
    x = images(2, 6, 5, 3)
    expected = [variation_by_loops(image.astype(np.float64), 1) for image in x]
    np.testing.assert_allclose(total_variation(jnp.asarray(x), eps=1e-12), expected, rtol=1e-6)


@pytest.mark.parametrize("beta", [1.0, 2.0])
def test_a_constant_image_has_no_variation_and_a_zero_gradient(beta):
    x = jnp.full((2, 5, 4, 3), 0.3)
    assert np.abs(total_variation(x, beta=beta)).max() < 1e-6
    gradient = jax.grad(lambda x: total_variation(x, beta=beta).sum())(x)
    np.testing.assert_array_equal(gradient, np.zeros(x.shape))


def test_difference_is_flat_and_signed():
    features, observed = images(2, 3, 4, 5), np.ones((2, 3, 4, 5), np.float32)
    found = difference(jnp.asarray(features), jnp.asarray(observed))
    np.testing.assert_array_equal(found, (features - observed).reshape(2, 60))


def test_rectified_difference_by_hand():
    # In turn: open, open, closed as it should be, to be opened, to be closed, at its edge.
    before = jnp.array([[[2.0, 0.5], [-1.0, -3.0], [0.25, 0.0]]])
    observed = jnp.array([[[1.5, 0.5], [0.0, 2.0], [0.0, 0.0]]])
    expected = [[0.5, 0.0, 0.0, -5.0, 0.25, 0.0]]
    np.testing.assert_array_equal(rectified_difference(before, observed), expected)


def test_rectified_difference_moves_a_rectifier_that_should_be_open():
    before, observed = jnp.array([[-3.0]]), jnp.array([[2.0]])
    squared = jax.grad(lambda z: jnp.sum(rectified_difference(z, observed) ** 2))
    plain = jax.grad(lambda z: jnp.sum(difference(jax.nn.relu(z), observed) ** 2))
    assert squared(before) == pytest.approx(-10)
    assert plain(before) == 0


def test_an_objective_is_the_squared_residual_and_the_penalty_of_each_image():
    objective = Objective(lambda x: x * jnp.array([[1.0, 2.0]]), lambda x: 10 * x[:, 0])
    np.testing.assert_allclose(objective(jnp.array([[1.0, 1.0], [2.0, 0.5]])), [15.0, 25.0])


def test_project_moves_to_the_nearest_point_of_the_box():
    x = jnp.array([[-1.0, 0.25, 3.0]])
    boxed = Objective(lambda x: x, lambda x: x[:, 0], (0.0, 1.0))
    np.testing.assert_array_equal(boxed.project(x), [[0, 0.25, 1]])
    per_channel = Objective(
        lambda x: x, lambda x: x[:, 0], (jnp.array([[-0.5, 0.5, 0]]), jnp.array([[0, 1, 2.0]]))
    )
    np.testing.assert_array_equal(per_channel.project(x), [[-0.5, 0.5, 2]])
    free = Objective(lambda x: x, lambda x: x[:, 0])
    np.testing.assert_array_equal(free.project(x), x)
