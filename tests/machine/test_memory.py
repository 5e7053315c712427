"""Memory that there is, and slices that fit into it."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.errors import UsageError, UserError
from jaxinv.inputs.samples import Samples
from jaxinv.machine import devices, footprint, memory
from jaxinv.measures import quality

ROWS = jax.ShapeDtypeStruct((10, 100), np.float32)


@pytest.mark.parametrize(
    "text, size", [("4096", 4096), ("2K", 2048), ("1.5 GiB", 3 << 29), ("6g", 6 << 30)]
)
def test_the_environment_says_how_much_there_is(monkeypatch, text, size):
    monkeypatch.setenv(memory.VARIABLE, text)
    assert memory.there() == size


@pytest.mark.parametrize("text", ["much", "0", "-1G", "3X"])
def test_other_words_of_the_environment_are_refused(monkeypatch, text):
    monkeypatch.setenv(memory.VARIABLE, text)
    with pytest.raises(UsageError, match=f"{memory.VARIABLE}={text}: expected a number of bytes"):
        memory.there()


def test_a_step_holds_a_share(monkeypatch):
    monkeypatch.setenv(memory.VARIABLE, "8M")
    assert memory.step() == 1 << 20
    monkeypatch.setenv(memory.VARIABLE, "1T")
    assert memory.step() == 2 << 30


def test_a_step_holds_a_share_of_an_accelerator(monkeypatch):
    device = SimpleNamespace(memory_stats=lambda: {"bytes_limit": 80 << 30})
    monkeypatch.delenv(memory.VARIABLE, raising=False)
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    assert memory.step() == 10 << 30


def test_control_groups_leave_less(monkeypatch, tmp_path):
    group = tmp_path / "memory" / "outer" / "inner"
    group.mkdir(parents=True)
    for name, text in {"limit_in_bytes": "1000", "usage_in_bytes": "300"}.items():
        (group.parent / f"memory.{name}").write_text(text)
    (group.parent / "memory.stat").write_text("cache 200\ntotal_inactive_file 100\n")
    monkeypatch.setattr(memory, "_GROUPS", tmp_path)
    text, told = memory._text, "4:memory:/outer/inner\n1:cpu:/"
    monkeypatch.setattr(
        memory, "_text", lambda path: told if path.match("self/cgroup") else text(path)
    )
    assert memory._left_to_groups() == [800]


def test_what_does_not_fit_is_refused_in_one_line(monkeypatch):
    monkeypatch.setenv(memory.VARIABLE, "1G")
    memory.check("images=1", 1 << 30, "lower it")
    line = "images=3: takes 3.0 GiB of memory, 1.0 GiB are there; lower it."
    with pytest.raises(UserError, match=line):
        memory.check("images=3", 3 << 30, "lower it")


def test_a_footprint_counts_what_is_held_at_once():
    assert footprint.of(lambda x: x.sum(axis=1), ROWS) == 40
    assert footprint.of(lambda x: jnp.tanh(jnp.tanh(jnp.tanh(x))), ROWS) == 8000

    def kept(x):
        first = jnp.tanh(x)
        return jnp.tanh(jnp.tanh(first)) + first

    assert footprint.of(kept, ROWS) == 12000


def test_a_footprint_sees_into_loops_and_functions():
    squares = jax.jit(lambda row: jnp.outer(row, row))
    assert footprint.of(lambda x: jax.lax.map(lambda row: squares(row).sum(), x), ROWS) >= 40_000
    assert 400_000 <= footprint.of(jax.vmap(squares), ROWS) < 500_000


def test_little_memory_makes_small_slices_of_the_same_numbers(monkeypatch):
    rows, sizes = np.random.default_rng(0).random((50, 100), np.float32), []

    def products(scale, rows):
        sizes.append(len(rows))
        return scale * rows[:, :, None] * rows[:, None, :]

    whole = devices.in_slices(products, rows, shared=(np.float32(2),))
    monkeypatch.setenv(memory.VARIABLE, "5M")
    sliced = devices.in_slices(products, rows, shared=(np.float32(2),))
    np.testing.assert_array_equal(whole, sliced)
    assert sizes[0] == 64 and sizes[-1] == 8


def test_results_that_do_not_fit_are_refused_before_they_are_computed(monkeypatch):
    monkeypatch.setenv(memory.VARIABLE, "1M")
    rows = np.zeros((400, 1000), np.float32)
    with pytest.raises(UserError, match="400 examples: takes 1.53 MiB .* 1 MiB are there; lower"):
        devices.in_slices(jnp.negative, rows)


def test_images_that_do_not_fit_are_refused_before_they_are_made(monkeypatch):
    own = Samples(np.zeros((100, 8, 8, 1), np.uint8))
    monkeypatch.setenv(memory.VARIABLE, "20K")
    with pytest.raises(UserError, match="100 images at once: takes 25 KiB .* 20 KiB are there"):
        own.images  # noqa: B018
    np.testing.assert_array_equal(own.scaled[np.arange(2)], np.zeros((2, 8, 8, 1)))


def test_quality_is_the_same_in_small_slices(monkeypatch):
    rng = np.random.default_rng(0)
    originals, found = rng.random((2, 30, 24, 20, 3), np.float32)
    whole = quality.evaluate(originals, found)
    monkeypatch.setenv(memory.VARIABLE, "2M")
    sliced = quality.evaluate(originals, found)
    np.testing.assert_allclose(whole.psnr, sliced.psnr, rtol=1e-6)
    np.testing.assert_allclose(whole.ssim, sliced.ssim, atol=1e-6)
