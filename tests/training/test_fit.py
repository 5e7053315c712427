"""The fit loop: it minimises, it is a function of its key, and a kill changes nothing."""

import os
import signal
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import Partial

from jaxinv.errors import UserError
from jaxinv.machine import devices
from jaxinv.training import fit as training
from jaxinv.training import portions

RNG = np.random.default_rng(0)
DATA = {"x": RNG.standard_normal((50, 3)).astype("f"), "y": RNG.standard_normal(50).astype("f")}


def squared(params, batch, key):
    del key
    error = batch["x"] @ params["w"] + params["b"] - batch["y"]
    return jnp.square(error).mean(), {"worst": jnp.abs(error).max()}


def noisy(params, batch, key):
    noise = 0.1 * jax.random.normal(key, batch["x"].shape)
    return squared(params, {**batch, "x": batch["x"] + noise}, None)


def start():
    return {"w": jnp.zeros(3), "b": jnp.zeros(())}


def fit(loss=noisy, params=None, data=DATA, *, seed=0, epochs=5, batch_size=8, **options):
    options = {"optimizer": optax.adam(0.05), "key": jax.random.key(seed)} | options
    params = start() if params is None else params
    return training.fit(loss, params, data, epochs=epochs, batch_size=batch_size, **options)


def assert_same(first, second):
    jax.tree.map(np.testing.assert_array_equal, first.params, second.params)
    assert first.history == second.history


def test_reaches_the_least_squares_solution():
    result = fit(squared, optimizer=optax.sgd(0.3), epochs=80, batch_size=50)
    columns = np.column_stack((DATA["x"], np.ones(50)))
    best, residual, *_ = np.linalg.lstsq(columns, DATA["y"], rcond=None)
    np.testing.assert_allclose(result.params["w"], best[:3], atol=1e-4)
    np.testing.assert_allclose(result.params["b"], best[3], atol=1e-4)
    assert result.history[-1]["loss"] == pytest.approx(residual[0] / 50, rel=1e-4)
    assert result.seconds > 0
    assert result.compile_seconds > 0


def test_history_has_a_row_an_epoch():
    result = fit(epochs=3, on_epoch=lambda params: {"b": float(params["b"])})
    assert [set(row) for row in result.history] == [{"loss", "worst", "b"}] * 3
    assert result.history[-1]["b"] == float(result.params["b"])
    assert result.history[0]["b"] != result.history[1]["b"]


def test_history_is_the_mean_over_steps():
    data = {"x": np.zeros((6, 3), "f"), "y": np.array([1, 1, 2, 2, 3, 3], "f")}
    result = fit(squared, data=data, optimizer=optax.sgd(0.0), epochs=1, batch_size=1)
    assert result.history == [{"loss": pytest.approx(28 / 6), "worst": pytest.approx(2.0)}]


def test_is_a_function_of_the_key():
    first, again, other = fit(), fit(), fit(seed=1)
    assert_same(first, again)
    assert not np.array_equal(first.params["w"], other.params["w"])


def test_an_epoch_sees_every_example_at_most_once():
    def seen(params, batch, key):
        del key
        return -(params * batch.sum(0)).sum(), {}

    sums = []
    result = fit(
        seen,
        jnp.zeros(7),
        np.eye(7, dtype="f"),
        optimizer=optax.sgd(1.0),
        batch_size=3,
        epochs=6,
        on_epoch=lambda params: sums.append(np.asarray(params)) or {},
    )
    each = np.diff(np.stack([np.zeros(7), *sums]), axis=0)
    assert np.isin(each, (0, 1)).all()
    np.testing.assert_array_equal(each.sum(1), 6)  # the seventh is left out,
    assert len({int(row.argmin()) for row in each}) > 1  # and is not always the same
    np.testing.assert_array_equal(result.params, sums[-1])


def test_every_step_has_its_own_key():
    def drift(params, batch, key):
        return params * jax.random.normal(key), {}

    values = []
    fit(
        drift,
        jnp.zeros(()),
        np.zeros((2, 1), "f"),
        optimizer=optax.sgd(1.0),
        batch_size=1,
        epochs=4,
        on_epoch=lambda params: values.append(float(params)) or {},
    )
    assert len(set(np.diff([0, *values]).round(6))) == 4


def test_a_batch_larger_than_the_data_is_all_of_it():
    small = {name: array[:5] for name, array in DATA.items()}
    assert_same(fit(data=small, batch_size=64), fit(data=small, batch_size=5))


def test_fits_whose_partials_hold_as_much_are_one_program(monkeypatch):
    lower, programs = training._run_steps.lower, []

    def lowered(*args):
        program = lower(*args)
        programs.append(program.as_text())
        return program

    monkeypatch.setattr(training, "_run_steps", SimpleNamespace(lower=lowered))

    def toward(goal, params, batch, key):
        del key
        return jnp.square(params["w"] - goal).sum() + 0 * batch["y"].sum(), {}

    goals = [np.ones(3, "f"), np.arange(3, dtype="f")]
    held = [fit(Partial(toward, goal), optimizer=optax.sgd(0.5), epochs=1) for goal in goals]
    closed = [
        fit(partial(toward, jnp.asarray(goal)), optimizer=optax.sgd(0.5), epochs=1)
        for goal in goals
    ]
    for goal, *results in zip(goals, held, closed, strict=True):
        for result in results:
            np.testing.assert_allclose(result.params["w"], goal, rtol=1e-6)
    assert programs[0] == programs[1]
    assert programs[2] != programs[3]


@pytest.fixture
def sent(monkeypatch):
    """Devices that hold 500 bytes of examples; lists the bytes of examples sent at once."""
    put, sizes = devices.put, []

    def spy(mesh, tree, *axes):
        if isinstance(tree, tuple) and tree[0].keys() == DATA.keys():  # examples and places
            sizes.append(sum(leaf.nbytes for leaf in tree[0].values()))
        return put(mesh, tree, *axes)

    monkeypatch.setattr(portions, "_most_bytes", lambda: 500)
    monkeypatch.setattr(devices, "put", spy)
    return sizes


def test_data_that_do_not_fit_are_sent_in_portions(tmp_path, sent, monkeypatch):
    """Of 800 bytes, steps of 112 and a limit of 250 at once: two steps of seven at a time."""
    for name, array in DATA.items():
        np.save(tmp_path / name, array[:49])
    maps = {name: np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in DATA}
    streamed = fit(data=maps, batch_size=7, epochs=3)
    assert sent == [224] * (1 + 3 * 4)
    monkeypatch.setattr(portions, "_most_bytes", lambda: 10_000)
    assert_same(streamed, fit(data=maps, batch_size=7, epochs=3))


def test_a_step_larger_than_the_limit_is_sent_alone(sent):
    streamed = fit(batch_size=50, epochs=2)
    assert sent == [800] * 3
    assert len(streamed.history) == 2


def test_the_limit_is_a_share_of_the_memory_where_that_is_known(monkeypatch):
    for told, most in ({"bytes_limit": 4000}, 1000), ({"bytes_in_use": 1}, 2**31), (None, 2**31):
        device = SimpleNamespace(memory_stats=lambda told=told: told)
        monkeypatch.setattr(jax, "local_devices", lambda device=device: [device])
        assert portions._most_bytes() == most


def test_the_callers_parameters_survive():
    params = start()
    fit(params=params)
    np.testing.assert_array_equal(params["w"], np.zeros(3))
    assert not params["b"].is_deleted()


def test_a_loss_that_is_not_finite():
    with pytest.raises(UserError, match="wiggle: the loss is not finite after epoch") as caught:
        fit(squared, optimizer=optax.sgd(1e9), epochs=30, description="wiggle")
    assert caught.value.exit_code == 1


def test_a_diverged_epoch_leaves_the_last_good_checkpoint(tmp_path):
    path = tmp_path / "fit.safetensors"
    schedule = optax.piecewise_constant_schedule(0.01, {10: 1e30})
    with pytest.raises(UserError, match="not finite"):
        fit(squared, optimizer=optax.sgd(schedule), epochs=9, checkpoint=path)
    whole = fit(squared, optimizer=optax.sgd(schedule), epochs=1)
    resumed = fit(squared, optimizer=optax.sgd(schedule), epochs=1, checkpoint=path)
    assert resumed.history[0] == whole.history[0]
    assert all(np.isfinite(row["loss"]) for row in resumed.history)


@pytest.mark.parametrize("epoch", [1, 2, 4])
def test_a_stopped_fit_goes_on(epoch, tmp_path):
    path = tmp_path / "deep" / "fit.safetensors"
    calls = []

    def interrupt(params):
        calls.append(params)
        if len(calls) == epoch:
            raise KeyboardInterrupt
        return {"b": float(params["b"])}

    def note(params):
        return {"b": float(params["b"])}

    optimizer = optax.adam(optax.cosine_decay_schedule(0.1, 30))
    with pytest.raises(KeyboardInterrupt):
        fit(optimizer=optimizer, checkpoint=path, on_epoch=interrupt)
    assert path.is_file() == (epoch > 1)
    undisturbed = fit(optimizer=optimizer, on_epoch=note)
    resumed = fit(optimizer=optimizer, checkpoint=path, on_epoch=note)
    assert_same(resumed, undisturbed)
    finished = fit(optimizer=optimizer, checkpoint=path, on_epoch=interrupt)  # not called again
    assert_same(finished, undisturbed)
    assert finished.seconds == resumed.seconds


def test_a_killed_fit_goes_on(tmp_path):
    path = tmp_path / "fit.safetensors"
    code = f"""
        import os, signal, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import test_fit
        rows = []
        def kill(params):
            rows.append(params)
            if len(rows) == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return {{}}
        test_fit.fit(checkpoint={str(path)!r}, on_epoch=kill)
    """
    root = Path(__file__).parent.parent.parent
    environment = os.environ | {"PYTHONPATH": str(root)}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, env=environment, timeout=600, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert_same(fit(checkpoint=path), fit())


def test_the_checkpoint_of_another_model(tmp_path):
    path = tmp_path / "fit.safetensors"
    fit(checkpoint=path, epochs=1)
    with pytest.raises(UserError, match="another model"):
        fit(checkpoint=path, params={"w": jnp.zeros(3), "b": jnp.zeros(1)})


def test_a_damaged_checkpoint_is_set_aside_and_training_begins_anew(tmp_path, capsys):
    path = tmp_path / "fit.safetensors"
    fit(checkpoint=path, epochs=1)
    whole = path.read_bytes()
    damages = (whole[:-9], whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    for number, damaged in enumerate(damages, 1):
        path.write_bytes(damaged)
        assert_same(fit(checkpoint=path), fit())
        aside = f"{path.name}.corrupt-{number}"
        assert path.with_name(aside).read_bytes() == damaged
        (line,) = capsys.readouterr().err.splitlines()
        assert str(path) in line and aside in line


def test_losses_and_gradients_are_those_of_each_row():
    rng = np.random.default_rng(0)
    params = {"w": rng.normal(size=(3, 4)).astype("f")}
    data = (rng.normal(size=(3, 5, 4)).astype("f"), np.arange(3.0, dtype="f"))

    def loss(row, x, offset):
        return jnp.mean((x @ row["w"] - offset) ** 2)

    weights = jnp.array([1.0, 2.0, -3.0])
    found = training.losses_of_each(loss, params, data)
    gradient = jax.grad(lambda p: training.losses_of_each(loss, p, data) @ weights)(params)
    for i in range(3):
        row = {"w": params["w"][i]}
        value, own = jax.value_and_grad(loss)(row, data[0][i], data[1][i])
        assert float(found[i]) == pytest.approx(float(value), rel=1e-6)
        np.testing.assert_allclose(gradient["w"][i], weights[i] * own["w"], rtol=1e-5)
