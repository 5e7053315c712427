import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize

from jaxinv.attacks.inversion.objectives import Objective, dot
from jaxinv.attacks.inversion.priors import gaussian
from jaxinv.attacks.inversion.solvers import FirstOrder, Lbfgs, LevenbergMarquardt, Result
from jaxinv.training.amsgrad import amsgrad


def no_penalty(x):
    return jnp.zeros(len(x))


def path(solver, objective, x, steps):
    """The iterates `[steps + 1, B, ...]`, the results `[steps, B]` and the states."""
    step = jax.jit(lambda x, state: solver.step(objective, x, state))
    iterates, results, states = [x], [], [solver.init(objective, x)]
    for _ in range(steps):
        x, state, result = step(x, states[-1])
        iterates.append(x)
        results.append(result)
        states.append(state)
    iterates = np.array(iterates)
    np.testing.assert_array_equal(objective.project(jnp.asarray(iterates)), iterates)
    return iterates, np.array(results), states


def run(solver, objective, x, steps):
    return path(solver, objective, x, steps)[0][-1]


def first_end(results):
    """The number of the step that ended each image, and how; of those that go on, the last."""
    ended = results != Result.STEPS
    last = np.where(ended.any(0), ended.argmax(0), len(results) - 1)
    return last + 1, np.take_along_axis(results, last[None], 0)[0]


def test_first_order_stays_in_the_box():
    aim = jnp.array([[-3.0, 0.25, 4.0]])
    objective = Objective(lambda x: x - aim, no_penalty, (0.0, 1.0))
    found = run(FirstOrder(optax.sgd(0.2)), objective, jnp.full((1, 3), 0.5), 30)
    np.testing.assert_allclose(found, [[0, 0.25, 1]], atol=1e-5)


@pytest.mark.parametrize("count", [1, 4])
def test_first_order_moves_an_image_as_if_it_were_alone(count):
    objective = Objective(lambda x: x, no_penalty)
    found = run(FirstOrder(optax.sgd(0.1)), objective, jnp.ones((count, 2)), 1)
    np.testing.assert_allclose(found, np.full((count, 2), 0.8), rtol=1e-6)


SHAPE = (3, 2, 1)
both = pytest.mark.parametrize("solver", [LevenbergMarquardt(), Lbfgs()], ids=["lm", "lbfgs"])


def linear(count=4, rows=9, size=6):
    """Another linear least-squares problem for each image: `[B, rows, size]` and `[B, rows]`."""
    rng = np.random.default_rng(0)
    matrices = rng.normal(size=(count, rows, size))
    return matrices, 3 * rng.normal(size=(count, rows))


def linear_residual(matrices, aims):
    matrices, aims = jnp.asarray(matrices, jnp.float32), jnp.asarray(aims, jnp.float32)
    return lambda x: jnp.einsum("bmd,bd->bm", matrices, x.reshape(len(x), -1)) - aims


def least_squares_with_prior(weight):
    """Linear least squares with a Gaussian prior, and its solution in closed form."""
    matrices, aims = linear()
    rng = np.random.default_rng(1)
    draws = rng.normal(size=(6, 12))
    covariance, curvature = draws @ draws.T / 12, np.einsum("bmi,bmj->ij", matrices, matrices) / 4
    mean = rng.normal(size=SHAPE).astype(np.float32)
    prior = gaussian(mean, covariance[None], curvature[None])
    objective = Objective(
        linear_residual(matrices, aims),
        no_penalty,
        prior=prior,
        prior_mean=prior.mean[None],
        prior_weight=jnp.asarray(weight, jnp.float32),
    )
    precision = np.linalg.inv(covariance + 1e-3 * np.eye(6)) * weight[:, None, None] / 6
    hessian = 2 * np.einsum("bmi,bmj->bij", matrices, matrices) + precision
    target = 2 * np.einsum("bmi,bm->bi", matrices, aims) + precision @ mean.ravel()
    return objective, np.linalg.solve(hessian, target[..., None]).reshape(4, *SHAPE)


def test_levenberg_marquardt_solves_a_linear_problem_with_a_prior_in_two_steps():
    objective, expected = least_squares_with_prior(np.array([0.0, 1.0, 30.0, 1000.0]))
    found = run(LevenbergMarquardt(), objective, jnp.zeros((4, *SHAPE)), 2)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    # The prior matters, or the test would not test it.
    without, _ = least_squares_with_prior(np.zeros(4))
    alone = run(LevenbergMarquardt(), without, jnp.zeros((4, *SHAPE)), 2)
    assert (np.abs(alone - expected).max(axis=(1, 2, 3))[1:] > 0.01).all()


def test_one_product_is_enough_where_every_edge_has_the_curvature_of_the_prior():
    matrices, aims = linear()
    matrices[:] = matrices[0]
    curvature = matrices[0].T @ matrices[0]
    prior = gaussian(np.zeros(SHAPE), np.eye(6)[None] * np.arange(1, 7), curvature[None])
    residual = linear_residual(matrices, aims)
    weight = jnp.array([0.1, 1.0, 10.0, 100.0])
    objective = Objective(residual, no_penalty, prior=prior, prior_weight=weight)
    solver = LevenbergMarquardt(cg_steps=1, damping=1e-7)
    found = run(solver, objective, jnp.zeros((4, *SHAPE)), 1)
    gradient = jax.grad(lambda x: objective(x).sum())
    left, before = gradient(found), gradient(jnp.zeros((4, *SHAPE)))
    assert (dot(left, left) < 1e-8 * dot(before, before)).all()


def test_the_weight_of_a_prior_that_is_not_there_means_nothing():
    residual = linear_residual(*linear())
    start = jnp.zeros((4, 6))
    expected = run(LevenbergMarquardt(), Objective(residual, no_penalty), start, 1)
    weighted = Objective(residual, no_penalty, prior_weight=1e3)
    np.testing.assert_allclose(run(LevenbergMarquardt(), weighted, start, 1), expected, atol=1e-5)


def test_levenberg_marquardt_minimises_a_penalty_too():
    # (x - a)^2 + 3 x^2 / 2 has its minimum at 2 a / 5.
    aim = jnp.array([[1.0, -2.0, 5.0]])
    objective = Objective(lambda x: x - aim, lambda x: 1.5 * dot(x, x))
    found = run(LevenbergMarquardt(), objective, jnp.zeros((1, 3)), 3)
    np.testing.assert_allclose(found, 0.4 * aim, rtol=1e-4)


def boxed_linear(count=8):
    """Linear least squares in a box, and its solutions by scipy, with many pixels at a bound."""
    matrices, aims = linear(count)
    solved = [
        scipy.optimize.lsq_linear(a, b, (-0.5, 1), tol=1e-12)
        for a, b in zip(matrices, aims, strict=True)
    ]
    active = np.array([found.active_mask for found in solved])
    assert (np.count_nonzero(active, axis=1) > 0).all()
    assert np.count_nonzero(active == 0) > 5
    expected, least = np.array([found.x for found in solved]), [2 * found.cost for found in solved]
    return Objective(linear_residual(matrices, aims), no_penalty, (-0.5, 1.0)), expected, least


@pytest.mark.parametrize(
    "solver", [LevenbergMarquardt(tolerance=1e-7), Lbfgs()], ids=["lm", "lbfgs"]
)
def test_linear_least_squares_in_a_box_end_where_scipy_ends(solver):
    objective, expected, least = boxed_linear()
    iterates, results, _ = path(solver, objective, jnp.zeros((8, 6)), 80)
    end, _ = first_end(results)
    found = iterates[end, np.arange(8)]
    np.testing.assert_allclose(objective(found), least, rtol=1e-4)
    np.testing.assert_allclose(found, expected, atol=0.01)


def valleys(steepness):
    """Rosenbrock's function for each image: its curved valley is as narrow as it is steep."""
    steepness = jnp.asarray(steepness, jnp.float32)

    def residual(x):
        return jnp.stack([steepness * (x[:, 1] - x[:, 0] ** 2), 1 - x[:, 0]], axis=1)

    return Objective(residual, no_penalty)


def test_images_of_different_difficulty_converge_each_in_its_own_time():
    steepness, start = [0.1, 3.0, 10.0, 30.0], jnp.array([[-1.2, 1.0]] * 4)
    together, results, _ = path(LevenbergMarquardt(), valleys(steepness), start, 100)
    ends, how = first_end(results)
    np.testing.assert_array_equal(how, [Result.CONVERGED] * 4)
    np.testing.assert_allclose(together[ends, range(4)], np.ones((4, 2)), atol=1e-3)
    assert len(set(ends)) > 1
    for i in range(4):
        alone, results, _ = path(
            LevenbergMarquardt(), valleys(steepness[i : i + 1]), start[:1], 100
        )
        assert first_end(results)[0] == ends[i]
        np.testing.assert_allclose(alone[: ends[i] + 1, 0], together[: ends[i] + 1, i], atol=1e-3)


@both
def test_the_objective_never_rises(solver):
    # Undamped, a step on the arctangent from beyond 1.4 goes farther than it came from.
    objective = Objective(lambda x: jnp.arctan(4 * x), no_penalty, (-50.0, 50.0))
    iterates, *_ = path(solver, objective, jnp.array([[0.1], [1.0], [3.0]]), 30)
    values = np.array([objective(jnp.asarray(x)) for x in iterates])
    assert (np.diff(values, axis=0) <= 0).all()
    np.testing.assert_allclose(values[-1], np.zeros(3), atol=1e-6)


def test_a_step_that_does_not_help_is_damped_more_and_one_that_helps_less():
    objective = Objective(lambda x: jnp.arctan(4 * x), no_penalty)
    start = jnp.array([[3.0], [0.1]])
    iterates, results, states = path(LevenbergMarquardt(damping=1e-3), objective, start, 1)
    assert iterates[1, 0] == iterates[0, 0]
    assert abs(iterates[1, 1]) < 0.2 * iterates[0, 1]
    np.testing.assert_allclose(states[1].damping, [4e-3, 3e-4], rtol=1e-6)
    np.testing.assert_array_equal(results, [[Result.STEPS] * 2])


def test_an_exact_fit_has_converged():
    matrices, _ = linear()
    aims = np.einsum("bmd,bd->bm", matrices, np.ones((4, 6)))
    objective = Objective(linear_residual(matrices, aims), no_penalty)
    _, results, _ = path(LevenbergMarquardt(exact=1e-6), objective, jnp.zeros((4, 6)), 12)
    ends, how = first_end(results)
    np.testing.assert_array_equal(how, [Result.CONVERGED] * 4)
    assert (ends < 8).all()


def test_an_image_at_its_minimum_in_the_box_stays_there_and_ends():
    # The second image is held at the bounds by an aim outside; the first is free to move.
    aim = jnp.array([[0.5, 0.5], [-1.0, 2.0]])
    objective = Objective(lambda x: x - aim, lambda x: jnp.ones(len(x)), (0.0, 1.0))
    start = jnp.array([[0.0, 1.0], [0.0, 1.0]])
    iterates, results, _ = path(LevenbergMarquardt(), objective, start, 20)
    _, how = first_end(results)
    np.testing.assert_array_equal(how, [Result.CONVERGED] * 2)
    np.testing.assert_allclose(iterates[-1, 0], aim[0], atol=1e-3)
    np.testing.assert_array_equal(iterates[:, 1], np.broadcast_to(start[1], (21, 2)))


@both
def test_an_image_that_no_step_improves_stalls(solver):
    # The derivative that is announced has the wrong sign.
    @jax.custom_jvp
    def wrong(x):
        return x

    wrong.defjvp(lambda primals, tangents: (primals[0], -tangents[0]))
    objective = Objective(lambda x: wrong(x) + 10, no_penalty)
    iterates, results, _ = path(solver, objective, jnp.array([[1.0, 2.0]]), 20)
    assert first_end(results)[1] == [Result.STALLED]
    np.testing.assert_array_equal(iterates, np.broadcast_to(iterates[0], iterates.shape))


@both
def test_features_that_are_not_finite_make_only_their_own_image_diverge(solver):
    matrices, aims = linear()
    start = jnp.zeros((4, 6))
    expected = run(solver, Objective(linear_residual(matrices, aims), no_penalty), start, 4)
    aims[1, 3] = np.nan
    broken = Objective(linear_residual(matrices, aims), no_penalty)
    iterates, results, _ = path(solver, broken, start, 4)
    assert results[0, 1] == Result.DIVERGED
    rest = [0, 2, 3]
    assert (results[:, rest] != Result.DIVERGED).all()
    np.testing.assert_allclose(iterates[-1][rest], expected[rest], atol=1e-5)


def test_lbfgs_finds_the_minimum_that_scipy_finds():
    # A quadratic with a condition of 1e3, free, and in a box where half of the pixels are held.
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(3, 20, 20)))[0]
    roots = np.sqrt(np.geomspace(1, 1e3, 20))[None, :, None] * turn
    aims = 3 * rng.normal(size=(3, 20))
    residual = linear_residual(roots, aims)
    for box in (None, (-0.3, 0.4)):
        objective = Objective(residual, no_penalty, box)
        found = run(Lbfgs(), objective, jnp.zeros((3, 20)), 120)
        for x, matrix, aim in zip(found, roots, aims, strict=True):
            expected = scipy.optimize.minimize(
                lambda x, a=matrix, b=aim: np.sum((a @ x - b) ** 2),
                np.zeros(20),
                jac=lambda x, a=matrix, b=aim: 2 * a.T @ (a @ x - b),
                method="L-BFGS-B",
                bounds=None if box is None else [box] * 20,
                options={"ftol": 1e-13, "gtol": 1e-9, "maxiter": 2000},
            )
            value = np.sum((matrix @ x - aim) ** 2)
            assert value == pytest.approx(expected.fun, rel=1e-3, abs=1e-3)


SOLVERS = {
    "sgd": FirstOrder(optax.sgd(0.01)),
    "adam": FirstOrder(optax.adam(optax.cosine_decay_schedule(0.1, 100))),
    "amsgrad": FirstOrder(amsgrad(0.1)),
    "lbfgs": Lbfgs(memory=3),
    "lm": LevenbergMarquardt(cg_steps=3),
}


@pytest.mark.parametrize("name", SOLVERS)
def test_the_state_of_an_image_moves_with_it(name):
    solver = SOLVERS[name]
    matrices, aims = linear()
    objective = Objective(linear_residual(matrices, aims), no_penalty)
    iterates, results, states = path(solver, objective, jnp.zeros((4, 6)), 4)
    assert results.dtype == np.int32
    for old, new in zip(*(jax.tree.leaves(state) for state in states[::4]), strict=True):
        assert len(old) == 4
        assert (old.shape, old.dtype) == (new.shape, new.dtype)
    # After three steps, two of the images go on elsewhere, in the other order.
    rows = np.array([2, 0])
    moved = Objective(linear_residual(matrices[rows], aims[rows]), no_penalty)
    state = jax.tree.map(lambda a: a[rows], states[3])
    step = jax.jit(lambda x, state: solver.step(moved, x, state))
    found, _, result = step(iterates[3, rows], state)
    np.testing.assert_allclose(found, iterates[4, rows], atol=1e-5)
    np.testing.assert_array_equal(result, results[3, rows])
