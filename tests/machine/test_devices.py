"""One device or several: the same numbers."""

import os
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import Partial

from jaxinv import defenses, networks
from jaxinv.attacks.whitebox import rmle as whitebox
from jaxinv.attacks.whitebox.settings import RmleSettings
from jaxinv.errors import UsageError, UserError
from jaxinv.machine import devices
from jaxinv.measures import linkage, quality
from jaxinv.networks import max_pool
from jaxinv.training.fit import fit, for_each, losses_of_each

COUNT = 4


def _network():
    layers = [
        ("conv", nn.Conv(4, (3, 3))),
        ("relu", nn.relu),
        ("pool", max_pool),
        ("flat", lambda x: x.reshape(len(x), -1)),
        ("fc", nn.Dense(12)),
    ]
    network = networks.sequence(layers, (12, 12, 1), mean=(0.5,), std=(0.5,))
    return network, network.init(jax.random.key(0))


def _images(count):
    rng = np.random.default_rng(0)
    rows = rng.random((count, 3, 3, 1), np.float32)
    return rows.repeat(4, axis=1).repeat(4, axis=2)


def attacked(count=11):
    """Reconstructions by several attacks, of more images than one device has at once."""
    network, params = _network()
    edge, _ = network.split("relu")
    images = _images(count)
    noise = defenses.GAUSSIAN.at("feature", 0.1)
    release = defenses.Release(edge, params, images, noise, jax.random.key(1))
    found = {"features": release[np.arange(count)]}
    solvers = {"amsgrad": 30, "adam": 30, "lbfgs": 5, "lm": 2}
    for solver, steps in solvers.items():
        settings = RmleSettings(solver=solver, steps=steps, learning_rate=0.05)
        answer = whitebox.invert(edge, params, release, settings, chunk=2)
        found |= {solver: answer.images, f"{solver} objective": answer.info["objective"]}
    return found


def trained(seeds):
    """Parameters of one or several networks after some steps."""
    network, params = _network()
    images = _images(24)
    data = {"images": images, "labels": np.arange(24) % 12}

    def loss_of_one(params, images, labels, key):
        images += 0.01 * jax.random.normal(key, images.shape)
        logits = network.apply(params, images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def one(held, params, batch, key):
        images = batch["images"] + 0.01 * jax.random.normal(held["key"], batch["images"].shape)
        return loss_of_one(params, held["scale"] * images, batch["labels"], key), {}

    def several(params, batch, key):
        rows = [
            jnp.broadcast_to(leaf, (seeds, *leaf.shape))
            for leaf in (batch["images"], batch["labels"])
        ]
        keys = jax.random.split(key, seeds)
        return losses_of_each(loss_of_one, params, (*rows, keys)).sum(), {}

    held = {"key": jax.random.key(3), "scale": np.float32(0.9)}
    optimizer = optax.adam(1e-3)
    if seeds > 1:
        params = jax.tree.map(lambda leaf: jnp.stack([leaf] * seeds), params)
        optimizer = for_each(optimizer)
    done = fit(
        Partial(one, held) if seeds == 1 else several,
        params,
        data,
        optimizer=optimizer,
        epochs=4,
        batch_size=8,
        key=jax.random.key(2),
        seeds=seeds,
    )
    return {"loss": np.array([row["loss"] for row in done.history]), **_flat(done.params)}


def _flat(params):
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def judged():
    originals = _images(21)
    noisy = originals + 0.1 * np.random.default_rng(1).standard_normal(originals.shape)
    measured = quality.evaluate(originals, noisy.astype("f"), chunk_size=4)
    right = linkage.reidentified(noisy, originals, chunk_size=4)
    return {**measured._asdict(), "reidentified": right}


def compare(exact, close):
    """Runs in a process with several devices: everything on one of them and on all."""
    assert devices.count() == COUNT
    for name in (*exact, *close):
        make, *given = name.split(":")
        values = [int(value) for value in given]
        everywhere = globals()[make](*values)
        with devices.use(1):
            alone = globals()[make](*values)
        assert everywhere.keys() == alone.keys()
        for key, value in alone.items():
            where = f"{name} {key}"
            assert np.isfinite(value).all(), where
            if name in exact:
                np.testing.assert_array_equal(everywhere[key], value, where)
            else:
                np.testing.assert_allclose(
                    everywhere[key], value, rtol=1e-5, atol=1e-5, err_msg=where
                )


@pytest.mark.slow
def test_four_devices_have_the_numbers_of_one():
    code = (
        "import test_devices; test_devices.compare(exact=['judged'], "
        "close=['attacked', 'trained:1', 'trained:4', 'trained:2'])"
    )
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={COUNT}"
    env = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    here = Path(__file__).parent
    env["PYTHONPATH"] = os.pathsep.join(
        [str(here), str(here.parent), str(here.parent.parent), env.get("PYTHONPATH", "")]
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize(
    ("given", "fault", "told"),
    [
        ("cuda", AssertionError(), "here; expected cpu, or nothing"),
        ("tpu,cpu", RuntimeError("no tpu\n(set JAX_PLATFORMS='' to choose)"), "here (no tpu"),
        (
            "none such",
            RuntimeError("Backend 'x' is not known (set JAX_PLATFORMS='')"),
            "not known)",
        ),
    ],
)
def test_a_platform_that_is_not_here_is_one_line(monkeypatch, given, fault, told):
    def refuse():
        raise fault

    monkeypatch.setattr(jax, "devices", refuse)
    monkeypatch.setenv("JAX_PLATFORMS", given)
    with pytest.raises(UsageError, match="^JAX_PLATFORMS=") as caught:
        devices.start()
    message = str(caught.value)
    assert message.startswith(f"JAX_PLATFORMS={given}: there is no such device here")
    assert told in message and "\n" not in message and "set JAX_PLATFORMS" not in message
    monkeypatch.setenv("JAX_PLATFORMS", "")
    with pytest.raises(UserError, match="JAX starts no device"):
        devices.start()


def test_devices_share_what_divides():
    """Seeds first, then images; what does not divide is done by fewer, or by each."""
    shapes = {}
    for seeds, images in ((1, None), (1, 8), (3, 8), (4, 6)):
        shapes[seeds, images] = dict(devices.mesh(seeds=seeds, images=images).shape)
    count = devices.count()
    assert shapes[1, None] == {"seeds": 1, "images": count}
    if count == 1:
        assert set(map(str, shapes.values())) == {"{'seeds': 1, 'images': 1}"}


@pytest.mark.parametrize("number", [0, 1, 3, 4, 5, 13])
def test_slices_are_as_at_once(number):
    rng = np.random.default_rng(0)
    x, y = rng.random((number, 2), np.float32), np.arange(number, dtype=np.float32)
    traced = []

    def function(times, shared, x, y):
        traced.append(x.shape)
        return {"sum": times * jnp.sum(x, axis=1) + y, "all": x + shared["one"]}

    found = devices.in_slices(
        function, x, y, static=(3,), shared=({"one": np.float32(1)},), sizes=(2, 4)
    )
    np.testing.assert_allclose(found["sum"], 3 * x.sum(1) + y, rtol=1e-6)
    np.testing.assert_array_equal(found["all"], x + 1)
    assert len(traced) == 1  # one program, however many slices
    assert traced[0][0] == (2 if number <= 2 * devices.count() else 4)


def test_products_of_a_slice_have_all_digits_whatever_the_default():
    def function(x):
        assert jax.config.jax_default_matmul_precision == "highest"
        return x

    with jax.default_matmul_precision("bfloat16"):
        devices.in_slices(function, np.zeros((3, 2), np.float32))


def test_rows_of_a_slice_are_made_when_their_turn_comes():
    asked = []

    class Lazy:
        shape = (5,)

        def __len__(self):
            return 5

        def __getitem__(self, indices):
            asked.append(indices.tolist())
            return np.asarray(indices, np.float32)

    found = devices.in_slices(jnp.negative, Lazy(), sizes=(2,))
    np.testing.assert_array_equal(found, -np.arange(5.0))
    assert max(map(len, asked)) == 2 * devices.count()
