"""Gaussian priors, in both forms, against dense matrices in float64."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft

from jaxinv.attacks.inversion import priors
from jaxinv.networks import sequence
from jaxinv.networks.convolution import computed_as

SHAPE = (5, 4, 3)  # odd, not square, in colour: 20 frequencies, 60 values
SIZE = 60


@pytest.fixture
def cosine_form(monkeypatch):
    """Every image but the smallest is taken as too large for a full matrix."""

    def forget():
        # The size is looked at while a function is traced.
        priors._outer.clear_cache()
        priors._pulled_back.clear_cache()

    monkeypatch.setattr(priors, "DENSE_PIXELS", 8)
    forget()
    yield
    forget()


def transform(shape):
    """The cosine transform of an image as a matrix, `[frequencies and channels, H W C]`."""
    size = int(np.prod(shape))
    each = np.eye(size).reshape(size, *shape)
    return scipy.fft.dctn(each, axes=(1, 2), norm="ortho").reshape(size, size).T


def block_diagonal(blocks):
    count, width, _ = blocks.shape
    matrix = np.zeros((count, width, count, width))
    matrix[np.arange(count), :, np.arange(count)] = blocks
    return matrix.reshape(count * width, count * width)


def random_blocks(count, width, seed):
    """Positive definite matrices `[count, width, width]`, none of them near singular."""
    draws = np.random.default_rng(seed).normal(size=(count, width, 2 * width))
    return draws @ draws.swapaxes(1, 2) / (2 * width) + 0.1 * np.eye(width)


def made(form, *, rank=None):
    """A prior, and its covariance and curvature as matrices over pixels, float64."""
    count, width = (1, SIZE) if form == "dense" else (20, 3)
    covariance, curvature = (random_blocks(count, width, seed) for seed in (0, 1))
    if rank is not None:  # an edge that does not see everything
        curvature = curvature[:, :, :rank] @ curvature[:, :rank]
    basis = np.eye(SIZE) if form == "dense" else transform(SHAPE)
    mean = np.random.default_rng(2).random(SHAPE)
    noisy = covariance + 1e-3 * np.eye(width)
    matrices = (basis.T @ block_diagonal(blocks) @ basis for blocks in (noisy, curvature))
    return priors.gaussian(mean, covariance, curvature), *matrices


def images(count, shape=SHAPE, seed=3):
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype(np.float32)


def times(matrices, x):
    """Matrices `[B, D, D]` or `[D, D]`, times images."""
    return (matrices @ x.reshape(len(x), -1, 1).astype(np.float64)).reshape(x.shape)


both_forms = pytest.mark.parametrize("form", ["dense", "cosine"])


@pytest.mark.parametrize("size", [1, 2, 5, 28])
def test_cosines_are_those_of_scipy_and_orthonormal(size):
    expected = scipy.fft.dct(np.eye(size), axis=0, norm="ortho")
    found = priors.cosines(size)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(found @ found.T, np.eye(size), atol=1e-6)


@both_forms
def test_precision_is_the_inverse_of_the_covariance(form):
    prior, covariance, _ = made(form)
    x = images(4)
    expected = times(np.linalg.inv(covariance), x)
    np.testing.assert_allclose(prior.precision_times(x), expected, atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(prior.covariance_times(x), times(covariance, x), atol=1e-5)
    back = prior.covariance_times(prior.precision_times(x))
    np.testing.assert_allclose(back, x, atol=1e-4)


@both_forms
def test_solve_inverts_the_weighted_sum_of_each_image(form):
    prior, covariance, curvature = made(form)
    x = images(4)
    data, weight = np.array([0, 1, 0.01, 100]), np.array([1, 0.01, 1, 1])
    sums = 2 * data[:, None, None] * curvature
    sums += weight[:, None, None] * np.linalg.inv(covariance)
    expected = np.linalg.solve(sums, x.reshape(4, -1, 1)).reshape(x.shape)
    found = prior.solve(x, jnp.asarray(data), jnp.asarray(weight))
    scale = np.abs(expected).max(axis=(1, 2, 3), keepdims=True)
    np.testing.assert_allclose(found / scale, expected / scale, atol=1e-4)


@both_forms
def test_the_basis_makes_precision_the_identity_and_curvature_diagonal(form):
    prior, _, _ = made(form)
    width = prior.mean.size if form == "dense" else 3
    curvature = random_blocks(len(prior.basis), width, 1)
    basis = np.asarray(prior.basis, np.float64)
    precision = basis.swapaxes(1, 2) @ prior.precision @ basis
    np.testing.assert_allclose(precision, np.eye(width)[None].repeat(len(basis), 0), atol=1e-4)
    bent = basis.swapaxes(1, 2) @ curvature @ basis
    expected = np.eye(width) * np.asarray(prior.curvature)[:, None]
    np.testing.assert_allclose(bent, expected, atol=1e-3)


@both_forms
def test_what_the_edge_does_not_see_has_no_curvature_and_the_prior_decides(form):
    prior, covariance, curvature = made(form, rank=2)
    assert prior.curvature.min() >= 0
    values, vectors = np.linalg.eigh(curvature)
    assert values[0] < 1e-9
    # A direction that the edge does not see comes back as the prior alone has it.
    unseen = np.linalg.inv(covariance) @ vectors[:, 0]
    x = unseen.reshape(1, *SHAPE).astype(np.float32)
    found = prior.solve(x, jnp.ones(1), jnp.ones(1))
    np.testing.assert_allclose(found[0].ravel(), vectors[:, 0], atol=1e-3)


def test_noise_bounds_the_precision_of_what_never_varies():
    nothing = np.zeros((1, 6, 6))
    prior = priors.gaussian(np.zeros((3, 2, 1)), nothing, nothing)
    x = images(2, (3, 2, 1))
    np.testing.assert_allclose(prior.precision_times(x), 1000 * x, rtol=1e-4)


def test_second_moment_is_the_mean_outer_product():
    samples = images(2300, (3, 2, 1)) + 1  # more than two slices; not centred
    flat = samples.reshape(2300, 6).astype(np.float64)
    found = priors.second_moment(samples)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, [flat.T @ flat / 2300], rtol=1e-5)


def test_second_moment_in_frequencies_keeps_the_channels_apart_from_them(cosine_form):
    samples = images(40) + 0.3
    waves = scipy.fft.dctn(samples.astype(np.float64), axes=(1, 2), norm="ortho")
    waves = waves.reshape(40, 20, 3)
    expected = np.einsum("nfi,nfj->fij", waves, waves) / 40
    np.testing.assert_allclose(priors.second_moment(samples), expected, atol=1e-4, rtol=1e-5)


def stationary_samples(seed):
    """Samples whose second moment is exactly block diagonal in frequencies."""
    roots = np.linalg.cholesky(random_blocks(20, 3, seed))
    columns = transform(SHAPE).reshape(20, 3, SIZE)
    samples = np.einsum("fci,fcd->fid", roots, columns) * np.sqrt(SIZE)
    return samples.reshape(SIZE, *SHAPE).astype(np.float32)


def test_both_forms_agree_where_frequencies_are_independent(cosine_form, monkeypatch):
    def prior():
        moments = (priors.second_moment(stationary_samples(seed)) for seed in (4, 5))
        return priors.gaussian(np.zeros(SHAPE), *moments)

    cosine = prior()
    monkeypatch.setattr(priors, "DENSE_PIXELS", SIZE)
    priors._outer.clear_cache()
    dense = prior()
    assert cosine.precision.shape == (20, 3, 3)
    assert dense.precision.shape == (1, SIZE, SIZE)
    x, data, weight = images(3), jnp.array([0.1, 1, 10]), jnp.array([1, 0.5, 2])
    for name, arguments in (
        ("precision_times", ()),
        ("covariance_times", ()),
        ("solve", (data, weight)),
    ):
        one, other = (getattr(prior, name)(x, *arguments) for prior in (cosine, dense))
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=2e-4, err_msg=name)


@pytest.mark.parametrize(
    ("shape", "blocks"),
    [
        ((28, 28, 1), (1, 784, 784)),
        ((32, 32, 3), (1, 3072, 3072)),
        ((64, 64, 1), (1, 4096, 4096)),
        ((65, 64, 1), (4160, 1, 1)),
        ((37, 37, 3), (1369, 3, 3)),
        ((224, 224, 3), (50176, 3, 3)),
    ],
)
def test_the_form_is_chosen_by_the_number_of_values(shape, blocks):
    samples = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    assert jax.eval_shape(priors._outer, samples).shape == blocks


def test_a_large_image_needs_no_large_matrix():
    samples = images(3, (96, 80, 3))
    moment = priors.second_moment(samples)
    prior = priors.gaussian(samples[0], moment, np.ones_like(moment))
    assert max(array.size for array in prior) == 96 * 80 * 3 * 3
    back = prior.covariance_times(prior.precision_times(samples))
    np.testing.assert_allclose(back, samples, atol=2e-2)


def small_edge(shape):
    """An edge whose Jacobian is another for every image."""
    layers = [("conv", nn.Conv(3, (3, 3), strides=2)), ("relu", nn.relu)]
    edge = sequence(layers, shape)
    return edge, edge.init(jax.random.key(0))


def exact_curvature(edge, params, x):
    with computed_as("lax"):  # in our forms derivatives are not mapped
        jacobian = jax.vmap(jax.jacfwd(lambda one: edge.apply(params, one[None])[0].ravel()))(x)
    flat = np.asarray(jacobian, np.float64).reshape(len(x), -1, x[0].size)
    return np.einsum("nmi,nmj->ij", flat, flat) / len(x)


def assert_estimates(expected, draws):
    """The mean of independent draws is the expected value, within their own statistical error."""
    mean, error = draws.mean(0), draws.std(0) / np.sqrt(len(draws))
    assert np.linalg.norm(mean - expected) < 2 * np.linalg.norm(error)
    # The error is small enough for this to mean something.
    assert np.linalg.norm(error) < 0.1 * np.linalg.norm(expected)


def test_mean_curvature_is_that_of_the_jacobian():
    edge, params = small_edge((5, 4, 1))
    x = images(50, (5, 4, 1))
    keys = jax.random.split(jax.random.key(1), 25)
    draws = np.array([priors.mean_curvature(edge, params, x, key) for key in keys])
    assert draws.shape == (25, 1, 20, 20)
    assert_estimates(exact_curvature(edge, params, x)[None], draws)


def test_mean_curvature_in_frequencies_is_that_of_the_jacobian(cosine_form):
    edge, params = small_edge(SHAPE)
    x = images(60)
    keys = jax.random.split(jax.random.key(1), 4)
    draws = np.array([priors.mean_curvature(edge, params, x, key) for key in keys])
    waves = transform(SHAPE) @ exact_curvature(edge, params, x) @ transform(SHAPE).T
    expected = waves.reshape(20, 3, 20, 3)[np.arange(20), :, np.arange(20)]
    assert draws.shape == (4, 20, 3, 3)
    assert_estimates(expected, draws)
