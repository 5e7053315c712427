import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxinv.attacks import optimize
from jaxinv.attacks.objectives import Objective
from jaxinv.attacks.solvers import FirstOrder
from jaxinv.networks import cifar_cnn, lenet5

SGD = FirstOrder(optax.sgd(0.1))


def no_penalty(x):
    return jnp.zeros(len(x))


def make_quadratic():
    """A new function each time, so that programs of other tests are not taken for its own."""

    def quadratic(params, observed, done):
        del done
        return Objective(lambda x: params["scale"] * x - observed, no_penalty)

    return quadratic


def minimize(make, observed, *, steps=100, chunk=3, solver=SGD):
    start = np.zeros((len(observed), 2), np.float32)
    params = {"scale": np.float32(2)}
    return optimize.minimize(make, params, observed, start, solver, steps=steps, chunk=chunk)


def observed_rows(count):
    return np.random.default_rng(0).normal(size=(count, 2)).astype(np.float32)


def test_a_quadratic_is_minimised():
    observed = observed_rows(5)
    found = minimize(make_quadratic(), observed)
    np.testing.assert_allclose(found.x, observed / 2, atol=1e-5)
    np.testing.assert_allclose(found.objective, np.zeros(5), atol=1e-8)
    assert found.seconds > 0
    assert found.compile_seconds > 0


def test_the_objective_is_that_of_the_last_iterate():
    observed = observed_rows(4)
    found = minimize(make_quadratic(), observed, steps=2)
    expected = ((2 * found.x - observed) ** 2).sum(1)
    assert (expected > 1e-5).all()
    np.testing.assert_allclose(found.objective, expected, rtol=1e-4)


def test_chunks_do_not_change_the_result():
    observed = observed_rows(7)
    one, three, seven, more = (
        minimize(make_quadratic(), observed, steps=4, chunk=chunk) for chunk in (1, 3, 7, 20)
    )
    assert seven.x.shape == (7, 2)
    assert seven.objective.shape == (7,)
    for other in (one, three, more):
        np.testing.assert_allclose(other.x, seven.x, rtol=1e-6)
        np.testing.assert_allclose(other.objective, seven.objective, rtol=1e-5)


def count_traces(num_images):
    quadratic, traces = make_quadratic(), []

    def counting(params, observed, done):
        traces.append(observed.shape)
        return quadratic(params, observed, done)

    minimize(counting, observed_rows(num_images), steps=5)
    assert set(traces) == {(3, 2)}
    return len(traces)


def test_more_chunks_need_no_more_programs():
    assert count_traces(22) == count_traces(3)


def test_an_image_that_diverges_leaves_the_others_alone():
    observed = observed_rows(7)
    expected = minimize(make_quadratic(), observed)
    broken = observed.copy()
    broken[1] = np.nan
    found = minimize(make_quadratic(), broken)
    rest = [0, 2, 3, 4, 5, 6]
    np.testing.assert_allclose(found.x[rest], expected.x[rest], rtol=1e-6)
    assert not np.isfinite(found.x[1]).any()
    assert not np.isfinite(found.objective[1])


def test_done_goes_from_zero_to_below_one():
    # With unit steps along the gradient of -done * x, x ends at the sum of every done.
    def ramp(params, observed, done):
        del params
        return Objective(lambda x: 0 * (x - observed), lambda x: -done * x.sum(1))

    solver = FirstOrder(optax.sgd(1.0))
    found = minimize(ramp, np.zeros((2, 2), np.float32), steps=10, solver=solver)
    np.testing.assert_allclose(found.x, np.full((2, 2), 4.5), rtol=1e-6)
    found = minimize(ramp, np.zeros((2, 2), np.float32), steps=1, solver=solver)
    np.testing.assert_array_equal(found.x, np.zeros((2, 2)))


class Lazy:
    """Features that are made when they are asked for."""

    def __init__(self, rows):
        self.rows, self.asked = rows, []

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, indices):
        self.asked.append(list(indices))
        return self.rows[indices]


def test_features_are_asked_for_chunk_by_chunk():
    lazy = Lazy(observed_rows(7))
    found = minimize(make_quadratic(), lazy)
    np.testing.assert_allclose(found.x, lazy.rows / 2, atol=1e-5)
    assert {len(indices) for indices in lazy.asked} == {3}
    assert {index for indices in lazy.asked for index in indices} == set(range(7))


@pytest.mark.parametrize("make_network", [lenet5, cifar_cnn])
def test_chunk_size_is_bounded(make_network, monkeypatch):
    edge, _ = make_network().split("relu2" if make_network is lenet5 else "relu32")
    most = optimize.chunk_size(edge, 10**9)
    assert 1 < most <= 50
    # On CPU the program, and so its rounding, is the same however many images there are.
    assert optimize.chunk_size(edge, 1) == most
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    most = optimize.chunk_size(edge, 10**9)
    assert 50 < most <= 4096
    assert optimize.chunk_size(edge, most + 1) == most
    assert optimize.chunk_size(edge, 3) == 3


def test_chunk_size_of_an_edge_beyond_the_budget_is_one(monkeypatch):
    monkeypatch.setattr(optimize, "_CPU_ELEMENTS", 10)
    assert optimize.chunk_size(lenet5(), 100) == 1
