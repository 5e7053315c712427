"""Curves of trainings, for TensorBoard."""

import events
import jax.numpy as jnp
import numpy as np
import optax
from jax import random

from jaxinv.machine import tracking
from jaxinv.training.fit import fit


def squared(params, batch, key):
    del key
    error = batch["x"] @ params["w"] - batch["y"]
    return jnp.square(error).mean(), {"worst": jnp.abs(error).max()}


def test_each_training_has_its_curves_by_step_however_often_it_is_begun(tmp_path):
    chance = np.random.default_rng(0)
    data = {"x": chance.standard_normal((50, 3)), "y": chance.standard_normal(50)}
    data = {name: values.astype("f") for name, values in data.items()}

    def trained(name):
        return fit(
            squared,
            {"w": jnp.zeros(3)},
            data,
            optimizer=optax.sgd(0.1),
            epochs=2,
            steps=9,
            batch_size=8,
            key=random.key(0),
            checkpoint=tmp_path / "work" / f"{name}.safetensors",
            description="some/thing",
        )

    with tracking.writing_to(tmp_path / "board"):
        trained("a")
        trained("b")
        (tmp_path / "work" / "a.safetensors").unlink()
        result = trained("a")
        trained("a")  # is done
    found = events.read(tmp_path / "board")
    assert len(found) == 2 and all(name.startswith("training/some-thing-") for name in found)
    for curves in found.values():
        assert [step for step, _ in curves["worst"]] == [6, 9]
        losses = [row["loss"] for row in result.history]
        np.testing.assert_allclose([value for _, value in curves["loss"]], losses, rtol=1e-6)
