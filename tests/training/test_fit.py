"""The fit loop: it minimises, it is a function of its key, and a kill changes nothing."""

import json
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
from jaxinv.machine import devices, memory
from jaxinv.store import checkpoints
from jaxinv.training import fit as training
from jaxinv.training import identity

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


def identity_of(loss):
    optimizer, params = optax.adam(0.05), start()
    state = params, optimizer.init(params)
    step, batch = partial(training._updated, optimizer), {k: v[:8] for k, v in DATA.items()}
    given = (Partial(loss), state, DATA, batch, jax.random.key(0))
    return identity.of_training(step, *given, {"epochs": 5})


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

    monkeypatch.setattr(memory, "step", lambda: 500)
    monkeypatch.setattr(devices, "put", spy)
    return sizes


def test_data_that_do_not_fit_are_sent_in_portions(tmp_path, sent, monkeypatch):
    """For 800 bytes, steps of 112 and a limit of 250 at once: two steps of seven at a time."""
    for name, array in DATA.items():
        np.save(tmp_path / name, array[:49])
    maps = {name: np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in DATA}
    streamed = fit(data=maps, batch_size=7, epochs=3)
    assert sent == [224] * (1 + 3 * 4)
    monkeypatch.setattr(memory, "step", lambda: 10_000)
    assert_same(streamed, fit(data=maps, batch_size=7, epochs=3))


def test_a_step_larger_than_the_limit_is_sent_alone(sent):
    streamed = fit(batch_size=50, epochs=2)
    assert sent == [800] * 3
    assert len(streamed.history) == 2


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
    history = json.loads(checkpoints.read(path)[1]["history"])
    assert history[0] == whole.history[0]
    assert all(np.isfinite(row["loss"]) for row in history)


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


OTHERS = {
    "seed": {"seed": 1},
    "program": {"optimizer": optax.adam(0.06)},
    "program, start, epochs": {"optimizer": optax.adam(lambda step: 0.1 / (step + 1)), "epochs": 6},
    "program ": {"loss": squared},
    "data": {"data": {**DATA, "y": -DATA["y"]}},
    "start": {"params": {"w": jnp.ones(3), "b": jnp.zeros(())}},
    "program, start": {"params": {"w": jnp.zeros(3), "b": jnp.zeros(1)}},
    "program, batch_size": {"batch_size": 9},
    "epochs": {"epochs": 4},
}


@pytest.mark.parametrize("differs", OTHERS)
def test_the_checkpoint_of_another_training_makes_way(tmp_path, capsys, differs):
    path = tmp_path / "fit.safetensors"
    options = {"optimizer": optax.adam(0.05), "epochs": 5}
    first = fit(checkpoint=path, **options)
    assert_same(fit(checkpoint=path, **options), first)
    assert capsys.readouterr().err == ""
    whole = path.read_bytes()
    options |= OTHERS[differs]
    assert_same(fit(checkpoint=path, **options), fit(**options))
    assert path.with_name(f"{path.name}.other-1").read_bytes() == whole
    said = f"{path} is of another training (other {differs.strip()}) and is now"
    assert capsys.readouterr().err == f"{said} {path.name}.other-1.\n"


@pytest.mark.parametrize("text", [None, "", "null", "3", "[1]", "{", '{"seed": null}'])
def test_a_checkpoint_that_does_not_tell_its_training_makes_way(tmp_path, capsys, text):
    path = tmp_path / "fit.safetensors"
    first = fit(checkpoint=path, epochs=1)
    arrays, metadata = checkpoints.read(path)
    told = {} if text is None else {"identity": text}
    checkpoints.save(path, arrays, metadata={"history": metadata["history"], **told})
    assert_same(fit(checkpoint=path, epochs=1), first)
    assert "of another training" in capsys.readouterr().err


UNREADABLE = [
    *({"history": text} for text in ("null", "3", "[]", "[3]", "x", '[{"loss": null}]', "[{}]")),
    *({"history": '[{"loss": NaN}]'}, {"seconds": "null"}, {"seconds": "NaN"}, {"seconds": "-1"}),
]


@pytest.mark.parametrize("told", UNREADABLE)
def test_a_checkpoint_whose_history_cannot_be_read_is_set_aside(tmp_path, capsys, told):
    path = tmp_path / "fit.safetensors"
    first = fit(checkpoint=path, epochs=1)
    arrays, metadata = checkpoints.read(path)
    checkpoints.save(path, arrays, metadata={**metadata, **told})
    assert_same(fit(checkpoint=path, epochs=1), first)
    assert "its history is not readable" in capsys.readouterr().err


def test_what_a_loss_holds_identifies_a_training(tmp_path, capsys):
    """Arrays in a `Partial` are no part of the program; those closed over are."""
    path = tmp_path / "fit.safetensors"

    def toward(goal, params, batch, key):
        del batch, key
        return jnp.square(params["w"] - goal).sum(), {}

    for kind in (Partial, partial):
        for goal in (jnp.ones(3), jnp.arange(3.0)):
            loss = kind(toward, goal)
            assert_same(fit(loss, checkpoint=path, epochs=2), fit(loss, epochs=2))
    assert len(capsys.readouterr().err.splitlines()) == 3


def test_a_training_is_the_same_in_another_process():
    code = "import test_fit; print(test_fit.identity_of(test_fit.noisy))"
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    if precision := jax.config.jax_default_matmul_precision:
        environment["JAX_DEFAULT_MATMUL_PRECISION"] = precision
    environment["PYTHONPATH"] = f"{Path(__file__).parents[2]}:{Path(__file__).parent}"
    said = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert said.strip() == str(identity_of(noisy))


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


@pytest.mark.parametrize("steps", [5, 6, 7, 13])
def test_epochs_that_no_step_is_left_for_are_not_begun(steps):
    """50 examples are 6 steps of 8."""
    expected = fit(epochs=training.epochs_of(steps, 50, 8), steps=steps)
    assert_same(fit(epochs=9, steps=steps), expected)


@pytest.mark.parametrize("size", [7, 20, 64])
def test_steps_are_as_many_whatever_the_number_of_examples(size):
    """A weight of slope 1 and rate 1 counts them."""
    trained = training.fit(
        lambda params, batch, key: (params["w"] + 0 * batch.mean(), {}),
        {"w": jnp.float32(0)},
        np.ones((size, 1), np.float32),
        optimizer=optax.sgd(1.0),
        epochs=training.epochs_of(13, size, 4),
        steps=13,
        batch_size=4,
        key=jax.random.key(0),
    )
    assert float(trained.params["w"]) == -13
    assert np.isfinite(trained.history[-1]["loss"])
