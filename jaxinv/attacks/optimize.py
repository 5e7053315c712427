"""The one input-optimisation loop: any objective, any solver, any number of images. JAX.

Images are attacked in chunks of one size, each by the same compiled program; the last is padded
with copies of its last image. Steps run inside compiled loops, whose number of steps is an argument
and not part of the program. What is known about the originals never enters.
"""

import math
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxinv.attacks.objectives import Objective
from jaxinv.attacks.solvers import Solver
from jaxinv.networks import Network, Params
from jaxinv.progress import Progress

# How many images one chunk has: as many as have this number of activations, within bounds. On CPU
# the best chunk is one that stays in the cache, and it has that size however few images there are:
# a matrix product of another size is rounded otherwise, and a few hundred steps turn the last bit
# into a visible difference. An accelerator wants many at once, and no more than there are.
_CPU_ELEMENTS, _CPU_LARGEST = 4_000_000, 50
_ACCELERATOR_ELEMENTS, _ACCELERATOR_LARGEST = 200_000_000, 4096

MakeObjective = Callable[[Params, Array, Array | float], Objective]


class Observed(Protocol):
    """Features `[N, ...]`, by index: a NumPy array, or a `defenses.Release` that makes them."""

    def __len__(self) -> int: ...

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        """Features `[len(indices), ...]` of the chosen images."""


class Minimum(NamedTuple):
    """Where an optimisation ended.

    Attributes:
      x: `[N, ...]` NumPy, the last iterate.
      objective: `[N]` NumPy, its value there.
      seconds: wall time of the steps.
      compile_seconds: wall time of tracing and compiling.
    """

    x: np.ndarray
    objective: np.ndarray
    seconds: float
    compile_seconds: float


def chunk_size(network: Network, num_images: int) -> int:
    """How many images to attack at once: as many as are fast, in bounded memory.

    On CPU it does not depend on the number of images, so that neither does the result.

    Args:
      network: the part of a network that the attack differentiates through.
      num_images: how many there are.
    """
    elements = max(1, sum(math.prod(shape) for shape in network.shapes.values()))
    if jax.default_backend() == "cpu":
        return max(1, min(_CPU_LARGEST, _CPU_ELEMENTS // elements))
    return max(1, min(num_images, _ACCELERATOR_LARGEST, _ACCELERATOR_ELEMENTS // elements))


def minimize(
    make_objective: MakeObjective,
    params: Params,
    observed: Observed,
    start: np.ndarray,
    solver: Solver,
    *,
    steps: int,
    chunk: int,
    description: str = "attack",
) -> Minimum:
    """Minimises an objective per image, chunk by chunk.

    Args:
      make_objective: `(params, observed [B, ...], done) -> Objective`, pure; `done`, the share of
        steps that are behind, lets a term fade in or out.
      params: what the objective needs besides the observation.
      observed: `[N, ...]`, what the attacker saw of each image; asked for chunk by chunk.
      start: `[N, ...]`, the first iterate of each image.
      solver: the method.
      steps: how many.
      chunk: images at once, B; if there are fewer, they are padded to it.
      description: shown before the progress bar.
    """
    count = len(observed)
    params = jax.tree.map(jnp.asarray, params)
    began = time.perf_counter()
    shapes = (jnp.asarray(_take(start, 0, chunk)), jnp.asarray(_take(observed, 0, chunk)))
    init = _init.lower(make_objective, solver, params, *shapes).compile()
    state = jax.eval_shape(partial(_init, make_objective, solver), params, *shapes)
    advance = _advance.lower(make_objective, solver, params, *shapes, state, 0, 0, 1).compile()
    evaluate = _evaluate.lower(make_objective, params, *shapes).compile()
    compile_seconds = time.perf_counter() - began

    results, values, seconds = [], [], 0.0
    with Progress(steps * math.ceil(count / chunk), description) as progress:
        for begin in range(0, count, chunk):
            progress.show(f"image {min(begin + chunk, count)}/{count}")
            v = jnp.asarray(_take(observed, begin, chunk))
            x = jnp.asarray(_take(start, begin, chunk))
            began = time.perf_counter()
            state = init(params, x, v)
            for first_step, number in progress.segments(steps):
                x, state = advance(params, x, v, state, first_step, number, steps)
                x.block_until_ready()
            seconds += time.perf_counter() - began
            values.append(np.asarray(evaluate(params, x, v)))
            results.append(np.asarray(x))
    found, value = np.concatenate(results)[:count], np.concatenate(values)[:count]
    return Minimum(found, value, seconds, compile_seconds)


def _take(rows: Observed, begin: int, size: int) -> np.ndarray:
    """Rows `begin .. begin + size - 1`; beyond the end, the last row again."""
    return rows[np.minimum(np.arange(begin, begin + size), len(rows) - 1)]


@partial(jax.jit, static_argnums=(0, 1))
def _init(make_objective, solver, params, x, observed):
    return solver.init(make_objective(params, observed, 0.0), x)


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=(3, 5))
def _advance(make_objective, solver, params, x, observed, state, first, number, steps):
    def step(i, carry):
        return solver.step(make_objective(params, observed, i / steps), *carry)

    return jax.lax.fori_loop(first, first + number, step, (x, state))


@partial(jax.jit, static_argnums=0)
def _evaluate(make_objective, params, x, observed):
    return make_objective(params, observed, 1.0)(x)
