"""FLOPs are counted with and without a CPU among the devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.machine import flops
from jaxinv.measures import costs
from jaxinv.networks import lenet5
from jaxinv.studies.benchmark import flops as of_benchmarks

A, B = np.zeros((3, 5), np.float32), np.zeros((5, 7), np.float32)


@pytest.fixture
def no_cpu(monkeypatch):
    """Leaves JAX without a CPU backend, as `JAX_PLATFORMS=cuda` does."""
    devices = jax.devices()

    def found(backend=None):
        if backend == "cpu":
            raise RuntimeError("Unknown backend cpu")
        return devices

    for name in ("devices", "local_devices"):
        monkeypatch.setattr(jax, name, found)


def test_arithmetic_is_counted():
    assert flops.count(lambda a, b: a @ b, A, B) == 2 * 3 * 5 * 7
    assert flops.count(lambda a: jnp.tanh(a @ B) + 1, A) == 2 * 3 * 5 * 7 + 3 * 7
    assert flops.count(lambda a: a.T, A) == 0


def test_costs_and_benchmarks_need_no_cpu_backend(no_cpu):
    rows = {row.split: row for row in costs.split_costs(lenet5())}
    assert rows["conv1"].edge_flops == pytest.approx(2 * 25 * 24**2 * 8, rel=0.05)
    assert of_benchmarks.matrix_flops(lambda a, b: a @ b, A, B) == 2 * 3 * 5 * 7
