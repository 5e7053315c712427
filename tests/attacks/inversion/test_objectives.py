import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.attacks.inversion.objectives import (
    Objective,
    difference,
    dot,
    rectified_difference,
    total_variation,
)
from jaxinv.attacks.inversion.priors import gaussian


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


SHAPE = (3, 2, 1)


def made_prior():
    """A prior over images of six values, and its mean, precision and curvature, float64."""
    rng = np.random.default_rng(1)
    draws = rng.normal(size=(2, 6, 9))
    covariance, curvature = draws @ draws.swapaxes(1, 2) / 9
    mean = rng.normal(size=SHAPE)
    precision = np.linalg.inv(covariance + 1e-3 * np.eye(6))
    return gaussian(mean, covariance[None], curvature[None]), mean, precision, curvature


def flat(x):
    return np.asarray(x, np.float64).reshape(len(x), -1)


def test_the_gaussian_term_is_half_the_squared_mahalanobis_distance_a_value():
    prior, mean, precision, _ = made_prior()
    x, weight = images(3, *SHAPE), np.array([0.0, 1.0, 10.0])
    plain = Objective(lambda x: 2 * x.reshape(len(x), -1), lambda x: x.sum((1, 2, 3)))
    with_prior = dataclasses.replace(
        plain, prior=prior, prior_mean=prior.mean[None], prior_weight=jnp.asarray(weight)
    )
    d = flat(x - mean)
    term = weight / 2 * np.einsum("bi,ij,bj->b", d, precision, d) / 6
    np.testing.assert_allclose(plain(x), (4 * flat(x) ** 2 + flat(x)).sum(1), rtol=1e-5)
    np.testing.assert_allclose(with_prior(x), plain(x) + term, rtol=1e-4)
    np.testing.assert_array_equal(with_prior.misfit(x), plain.misfit(x))


def test_the_gaussian_term_is_zero_at_the_mean_of_each_image():
    prior, *_ = made_prior()
    x = images(3, *SHAPE)
    objective = Objective(
        lambda x: jnp.zeros((len(x), 1)),
        lambda x: jnp.zeros(len(x)),
        prior=prior,
        prior_mean=jnp.asarray(x),
        prior_weight=5.0,
    )
    np.testing.assert_array_equal(objective(x), np.zeros(3))
    assert (objective(x + 0.1) > 0.01).all()


def test_the_metric_is_the_precision_a_value():
    prior, _, precision, _ = made_prior()
    d = images(2, *SHAPE)
    objective = Objective(difference, lambda x: jnp.zeros(len(x)))
    np.testing.assert_allclose(objective.metric(d), d / 6, rtol=1e-6)
    found = dataclasses.replace(objective, prior=prior).metric(d)
    np.testing.assert_allclose(flat(found), flat(d) @ precision / 6, rtol=1e-4, atol=1e-5)


def test_precondition_undoes_the_hessian_of_an_edge_with_that_curvature():
    prior, _, _, curvature = made_prior()
    root = jnp.asarray(np.linalg.cholesky(curvature).T, jnp.float32)
    scale, weight = jnp.array([0.5, 1.0, 3.0]), jnp.array([0.1, 1.0, 2.0])
    objective = Objective(
        lambda x: scale[:, None] * (x.reshape(len(x), -1) @ root.T),
        lambda x: jnp.zeros(len(x)),
        prior=prior,
        prior_weight=weight,
        data_weight=scale**2,
    )
    x, d = jnp.zeros((3, *SHAPE), jnp.float32), jnp.asarray(images(3, *SHAPE))
    damping = jnp.array([0.0, 0.5, 4.0])

    def damped(x):
        return (objective(x) + damping / 2 * dot(x, objective.metric(x))).sum()

    _, image = jax.jvp(jax.grad(damped), (x,), (d,))
    np.testing.assert_allclose(objective.precondition(image, damping), d, rtol=1e-3, atol=1e-4)


def test_precondition_without_a_prior_does_nothing():
    d = images(2, *SHAPE)
    objective = Objective(difference, lambda x: jnp.zeros(len(x)), prior_weight=3.0)
    np.testing.assert_array_equal(objective.precondition(d, jnp.ones(2)), d)


def test_dot_is_the_inner_product_of_each_image():
    a, b = images(2, *SHAPE), 1 + images(2, *SHAPE)
    np.testing.assert_allclose(dot(a, b), (flat(a) * flat(b)).sum(1), rtol=1e-5)
