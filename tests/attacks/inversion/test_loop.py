from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxinv.attacks.inversion import loop as optimize
from jaxinv.attacks.inversion.objectives import Objective
from jaxinv.attacks.inversion.solvers import FirstOrder, Lbfgs, LevenbergMarquardt, Result
from jaxinv.machine import devices
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


def test_products_have_all_digits_whatever_the_default():
    seen = []

    def objective(params, observed, done):
        seen.append(jax.config.jax_default_matmul_precision)
        return make_quadratic()(params, observed, done)

    with jax.default_matmul_precision("bfloat16"):
        minimize(objective, observed_rows(2), steps=1)
    assert set(seen) == {"highest"}


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


def test_programs_that_were_compiled_before_give_the_same():
    make, observed = make_quadratic(), observed_rows(7)
    params, start = {"scale": np.float32(2)}, np.zeros((7, 2), np.float32)
    programs = optimize.compile_programs(make, params, observed, start, SGD, chunk=3)
    expected = minimize(make, observed, steps=9)
    for steps in (9, 5, 9):  # the number of steps is no part of them
        found = optimize.minimize(
            make, params, observed, start, SGD, steps=steps, chunk=3, programs=programs
        )
        assert found.compile_seconds == programs.seconds
        np.testing.assert_array_equal(found.steps, np.full(7, steps))
    np.testing.assert_array_equal(found.x, expected.x)


def test_buffers_are_given_away_and_the_result_is_the_same():
    make, observed, solver = make_quadratic(), observed_rows(3), FirstOrder(optax.adam(0.1))
    params, start = {"scale": np.float32(2)}, np.zeros((3, 2), np.float32)
    programs = optimize.compile_programs(make, params, observed, start, solver, chunk=3)
    places, _ = programs.begin(params, None, start, observed)
    copy = jax.tree.map(np.array, places)
    found = programs.advance(params, places, 5, 9)
    assert places.x.is_deleted() and all(
        leaf.is_deleted() for leaf in jax.tree.leaves(places.state)
    )
    keeping = jax.jit(optimize._advance.__wrapped__, static_argnums=(0, 1, 2))
    expected = keeping(make, solver, devices.mesh(), params, copy, 5, 9)
    assert np.abs(expected.x).min() > 0
    jax.tree.map(np.testing.assert_array_equal, found, expected)


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


SOLVERS = {"sgd": SGD, "lbfgs": Lbfgs(), "lm": LevenbergMarquardt()}


@pytest.mark.parametrize("name", SOLVERS)
def test_an_image_that_diverges_leaves_the_others_alone(name):
    observed = observed_rows(7)
    expected = minimize(make_quadratic(), observed, steps=20, solver=SOLVERS[name])
    broken = observed.copy()
    broken[1] = np.nan
    found = minimize(make_quadratic(), broken, steps=20, solver=SOLVERS[name])
    rest = [0, 2, 3, 4, 5, 6]
    np.testing.assert_allclose(found.x[rest], expected.x[rest], rtol=1e-6)
    np.testing.assert_array_equal(found.steps[rest], expected.steps[rest])
    np.testing.assert_array_equal(found.result[rest], expected.result[rest])
    assert not np.isfinite(found.x[1]).any()
    assert not np.isfinite(found.objective[1])
    assert found.result[1] == Result.DIVERGED
    assert found.steps[1] == 1


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


class Countdown(NamedTuple):
    """Adds one to an image until it has been moved as often as it asks, and ends it as it asks."""

    def init(self, objective, x):
        return jnp.zeros(len(x), jnp.int32)

    def step(self, objective, x, state):
        need, code = objective.residual(x).T
        result = jnp.where(state + 1 >= need, code, Result.STEPS).astype(jnp.int32)
        return x + 1, state + 1, result


class Wishes(NamedTuple):
    """Inputs as a dictionary: after how many steps an image ends, and how."""

    need: np.ndarray
    code: np.ndarray
    settled: float = 0.0

    def __len__(self):
        return len(self.need)

    def __getitem__(self, indices):
        rows = {"need": self.need[indices], "code": self.code[indices]}
        return rows | {"settled": np.full(len(indices), self.settled, np.float32)}


def wishes(params, inputs, done):
    del params
    return Objective(
        lambda x: jnp.stack([inputs["need"], inputs["code"]], axis=1),
        lambda x: 100 * x[:, 0],
        settled=done >= inputs["settled"],
    )


NEED = np.array([3, 90, 1, 7, 100, 2, 2, 5, 1, 40, 3, 8], np.float32)
CODE = np.array([1, 1, 2, 1, 0, 1, 2, 1, 1, 3, 2, 1], np.float32)


def count_down(*, need=NEED, code=CODE, settled=0.0, steps=100, chunk=3, **options):
    start = np.arange(len(need), dtype=np.float32)[:, None]
    inputs = Wishes(need, code, settled)
    return optimize.minimize(
        wishes, None, inputs, start, Countdown(), steps=steps, chunk=chunk, **options
    )


@pytest.mark.parametrize("chunk", [1, 3, 12, 20])
def test_every_image_ends_by_itself_and_is_reported_so(chunk):
    found = count_down(chunk=chunk)
    np.testing.assert_array_equal(found.steps, NEED)
    np.testing.assert_array_equal(found.result, CODE)
    np.testing.assert_array_equal(found.x[:, 0], np.arange(12) + NEED)
    np.testing.assert_array_equal(found.objective, NEED**2 + CODE**2 + 100 * found.x[:, 0])


def test_steps_are_the_most_that_any_image_gets():
    found = count_down(steps=30)
    np.testing.assert_array_equal(found.steps, np.minimum(NEED, 30))
    np.testing.assert_array_equal(found.result, np.where(NEED > 30, Result.STEPS, CODE))


def moments_of_a_greedy_queue(need, places):
    """After how many steps all is done, if every place takes the next image when it is free."""
    free = np.zeros(places)
    for steps in need:
        free[free.argmin()] += steps
    return free.max()


def test_an_image_that_ends_hands_its_place_to_the_next():
    seen = []
    count_down(watch=seen.append)
    expected = moments_of_a_greedy_queue(NEED, 3)
    assert len(seen) == expected  # a snapshot a step
    assert expected < 0.4 * np.ceil(12 / 3) * 100
    assert all(snapshot.indices.shape == (3,) for snapshot in seen)


def test_a_watcher_sees_the_progress_of_every_image():
    seen = []
    copies = []

    def watch(snapshot):
        seen.append(snapshot)
        copies.append([np.array(value) for value in snapshot])

    found = count_down(watch=watch)
    for snapshot, copy in zip(seen, copies, strict=True):
        # What was seen is not overwritten by what comes.
        for value, expected in zip(snapshot, copy, strict=True):
            np.testing.assert_array_equal(value, expected)
    for image in range(12):
        steps, values = [], []
        for snapshot in seen:
            (place,) = np.nonzero(snapshot.indices == image)
            assert len(place) <= 1
            steps.extend(snapshot.steps[place])
            values.extend(snapshot.x[place, 0])
        np.testing.assert_array_equal(steps, 1 + np.arange(NEED[image]))
        np.testing.assert_array_equal(values, image + np.array(steps))
        assert values[-1] == found.x[image, 0]
    assert (np.diff([snapshot.seconds for snapshot in seen]) >= 0).all()
    assert seen[-1].seconds == found.seconds
    assert -1 in seen[-1].indices  # the last image is alone


@pytest.mark.parametrize("every", [1, 7, 1000])
def test_a_watcher_changes_nothing(every):
    expected = count_down()
    found = count_down(watch=lambda snapshot: None, watch_every=every)
    for name in ("x", "objective", "steps", "result"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_an_image_goes_on_while_its_objective_changes():
    # Settled after half of the steps, seen at the start of a step: the first such is the 51st.
    found = count_down(settled=0.5)
    diverged = CODE == Result.DIVERGED
    np.testing.assert_array_equal(found.steps, np.where(diverged, NEED, np.maximum(NEED, 51)))
    np.testing.assert_array_equal(found.result, CODE)
    never = count_down(settled=2.0, steps=20)
    np.testing.assert_array_equal(never.steps, np.full(12, 20))
    np.testing.assert_array_equal(never.result, np.zeros(12))


def test_the_bar_is_full_at_the_end_however_early_images_end(monkeypatch):
    class Recorded(optimize.Progress):
        totals, moved = [], []

        def __init__(self, total, description):
            super().__init__(total, description)
            self.totals.append(total)

        def advance(self, amount):
            super().advance(amount)
            self.moved.append(amount)

    monkeypatch.setattr(optimize, "Progress", Recorded)
    count_down()
    assert Recorded.totals == [12 * 100] == [sum(Recorded.moved)]
    assert min(Recorded.moved) > 0


def slopes(params, inputs, done):
    """A minimum at `params` in a plain that steps are too long for, the steeper the more so."""
    del done
    return Objective(lambda x: jnp.arctan(inputs[:, None] * (x - params)), no_penalty, (-3, 3))


def test_an_image_ends_as_if_it_were_alone_whoever_had_its_place_before():
    steepness = np.array([0.5, 9, 3, 1, 5, 7, 2], np.float32)
    start = np.linspace(-2, 2, 14, dtype=np.float32).reshape(7, 2)
    solver = LevenbergMarquardt()

    def found(rows, chunk):
        inputs, begin = steepness[rows], start[rows]
        target = np.float32(1)
        return optimize.minimize(slopes, target, inputs, begin, solver, steps=90, chunk=chunk)

    alone = [found(slice(i, i + 1), 1) for i in range(7)]
    many = found(slice(None), 2)
    np.testing.assert_array_equal(many.result, np.full(7, Result.CONVERGED))
    np.testing.assert_array_equal(many.steps, [one.steps[0] for one in alone])
    np.testing.assert_allclose(many.x, [one.x[0] for one in alone], atol=1e-4)
    np.testing.assert_allclose(many.x, np.ones((7, 2)), atol=1e-3)
    assert len(set(many.steps)) > 2


@pytest.mark.parametrize("make_network", [lenet5, cifar_cnn])
def test_chunk_size_is_bounded(make_network, monkeypatch):
    edge, _ = make_network().split("relu2" if make_network is lenet5 else "relu32")
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
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
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    monkeypatch.setattr(optimize, "_CPU_ELEMENTS", 10)
    assert optimize.chunk_size(lenet5(), 100) == 1
