"""FLOPs of programs, and the peak of the devices. JAX."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr

from jaxinv.attacks.whitebox.stage import Problem
from jaxinv.machine import devices, flops
from jaxinv.networks.convolution import computed_as

_PEAK_SIZE = {"cpu": 1024}  # rows and columns; of accelerators:
_PEAK_SIZE_ACCELERATOR = 8192


def step_flops(problem: Problem) -> float:
    """FLOPs of one step of a solver for one image, as `matrix_flops` counts."""

    def step(start: jax.Array, inputs: Any) -> Any:
        objective = problem.make_objective(
            problem.params, inputs, jnp.zeros(len(start), jnp.float32)
        )
        state = problem.solver.init(objective, start)
        return problem.solver.step(objective, start, state)

    one = np.arange(1)
    return matrix_flops(step, problem.start[one], problem.inputs[one])


def matrix_flops(function: Callable[..., Any], *args: Any) -> float:
    """FLOPs of the matrix products and convolutions of a function, each counted by the compiler.

    A loop of known length counts as often as it runs, one of unknown length once; of branches the
    dearest counts.

    Args:
      function: pure; traced here, with convolutions as the network defines them.
      args: trees of arrays, whose shapes alone matter.
    """
    # A function of its own: what was traced in another form is not taken for it.
    with computed_as("lax"):
        closed = jax.make_jaxpr(lambda *given: function(*given))(*args)
    return _count(closed.jaxpr)


def _count(jaxpr: Jaxpr) -> float:
    total = 0.0
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        if name in ("dot_general", "conv_general_dilated"):
            values: list[Any] = [operand.aval for operand in equation.invars]
            shapes = [jax.ShapeDtypeStruct(value.shape, value.dtype) for value in values]
            total += flops.count(partial(equation.primitive.bind, **params), *shapes)
        elif name == "cond":
            total += max(_count(branch.jaxpr) for branch in params["branches"])
        else:
            times = params["length"] if name == "scan" else 1
            inner = [value for value in params.values() if isinstance(value, ClosedJaxpr | Jaxpr)]
            total += times * sum(
                _count(one.jaxpr if isinstance(one, ClosedJaxpr) else one) for one in inner
            )
    return total


class MatrixPeak:
    """Rate of a large matrix product on some devices together, the best of all tries.

    Args:
      count: of devices, each with a product of its own.
      size: rows and columns; by default what is large for the device.
    """

    def __init__(self, count: int, size: int | None = None):
        platform = jax.default_backend()
        size = size or _PEAK_SIZE.get(platform, _PEAK_SIZE_ACCELERATOR)
        with devices.use(count):
            mesh = devices.mesh()
            rng = np.random.default_rng(0)
            left, right = (rng.standard_normal((size, size), np.float32) for _ in range(2))
            rows = devices.put(mesh, np.tile(left, (mesh.size, 1)), devices.IMAGES)
            right = devices.put(mesh, right)
        self._flops = 2.0 * size**3 * mesh.size
        self._args = right, rows
        # `exact` is what attacks compute with; `rounded`, the device's default, what trains.
        self._programs = {}
        for name, precision in (("exact", "highest"), ("rounded", "default")):
            with jax.default_matmul_precision(precision):
                product = jax.jit(partial(devices.by_image, mesh, lambda b, a: a @ b))
                self._programs[name] = product.lower(*self._args).compile()
        self._best = dict.fromkeys(self._programs, 0.0)
        self.measure()

    def measure(self) -> None:
        """Tries again."""
        for name, program in self._programs.items():
            for _ in range(3):
                began = time.perf_counter()
                jax.block_until_ready(program(*self._args))
                rate = self._flops / (time.perf_counter() - began)
                self._best[name] = max(self._best[name], rate)

    @property
    def flops_per_s(self) -> dict[str, float]:
        """`exact`, with all digits of float32, and `rounded`, as the device does by default."""
        return dict(self._best)
