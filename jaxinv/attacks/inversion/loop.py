"""The one input-optimisation loop: any objective, any solver, any number of images. JAX.

Images are attacked in chunks of one size, all by the same compiled program, with the loop inside;
the number of steps is an argument and not part of the program. An image that ends early hands its
place to the next one, so it costs nothing more. Every device has a chunk of its own, and loops by
itself; every host has a share of the images. What is known about the originals never enters.
"""

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxinv.attacks.inversion import starts
from jaxinv.attacks.inversion.objectives import Objective
from jaxinv.attacks.inversion.solvers import Result, Solver
from jaxinv.defenses import Rows
from jaxinv.machine import devices, hosts
from jaxinv.machine.progress import Progress
from jaxinv.networks import Network

# How many images one chunk has: as many as have this number of activations, within bounds. On CPU
# the best chunk is one that stays in the cache, and it has that size however few images there are:
# a matrix product of another size is rounded otherwise, and a few hundred steps turn the last bit
# into a visible difference. An accelerator wants many at once, and no more than there are.
_CPU_ELEMENTS, _CPU_LARGEST = 4_000_000, 50
_ACCELERATOR_ELEMENTS, _ACCELERATOR_LARGEST = 200_000_000, 4096

MakeObjective = Callable[[Any, Any, Array], Objective]


class Inputs(Protocol):
    """Inputs of each of N images, by index: an array, or something that makes arrays."""

    def __len__(self) -> int: ...

    def __getitem__(self, indices: np.ndarray) -> Any:
        """A tree of arrays `[len(indices), ...]` for the chosen images."""


class Minimum(NamedTuple):
    """End of an optimisation.

    Attributes:
      x: `[N, ...]` NumPy, the last iterate.
      objective: `[N]` NumPy, its value there.
      steps: `[N]` NumPy, how many were taken.
      result: `[N]` NumPy, of `solvers.Result`: why no more were taken.
      seconds: wall time of the steps.
      compile_seconds: wall time of tracing and compiling.
      start: `[N, ...]` NumPy, where each began.
      flat: `[N]` NumPy bool, whether the data term is flat there; False where nobody asked.
    """

    x: np.ndarray
    objective: np.ndarray
    steps: np.ndarray
    result: np.ndarray
    seconds: float
    compile_seconds: float
    start: np.ndarray
    flat: np.ndarray


class Snapshot(NamedTuple):
    """View of an optimisation in work, for a watcher.

    Attributes:
      indices: `[B]`, which images are being worked on; -1 where a place is idle.
      steps: `[B]`, that were taken for each.
      x: `[B, ...]`, the iterates.
      seconds: wall time of all steps so far.
    """

    indices: np.ndarray
    steps: np.ndarray
    x: np.ndarray
    seconds: float


class Programs(NamedTuple):
    """Programs of `minimize`, compiled for one size of chunk and for the devices in use.

    Attributes:
      begin, advance, exchange, evaluate: put images in their places, take steps with them, replace
        those that have ended, and evaluate the objective.
      seconds: wall time of tracing and compiling them.
    """

    begin: Any
    advance: Any
    exchange: Any
    evaluate: Any
    seconds: float


class _Places(NamedTuple):
    """The images in work: iterates, the state of the solver, steps and `Result`; all `[B, ...]`."""

    x: Array
    state: Any
    steps: Array
    result: Array
    inputs: Any


def chunk_size(network: Network, num_images: int) -> int:
    """Returns how many images a device attacks at once: as many as are fast, in bounded memory.

    On CPU it does not depend on the number of images, so that neither does the result.

    Args:
      network: the part of a network that the attack differentiates through.
      num_images: how many there are.
    """
    elements = max(1, sum(math.prod(shape) for shape in network.shapes.values()))
    if jax.default_backend() == "cpu":
        return max(1, min(_CPU_LARGEST, _CPU_ELEMENTS // elements))
    share = -(-num_images // (devices.count() * hosts.count()))
    return max(1, min(share, _ACCELERATOR_LARGEST, _ACCELERATOR_ELEMENTS // elements))


def minimize(
    make_objective: MakeObjective,
    params: Any,
    inputs: Inputs,
    start: np.ndarray,
    solver: Solver,
    elsewhere: np.ndarray | None = None,
    *,
    steps: int,
    chunk: int,
    description: str = "attack",
    watch: Callable[[Snapshot], None] | None = None,
    watch_every: int = 1,
    programs: Programs | None = None,
) -> Minimum:
    """Minimises an objective per image.

    Args:
      make_objective: `(params, inputs [B, ...], done [B]) -> Objective`, pure; `done`, the share of
        steps that are behind an image, lets a term fade in or out. An image whose solver says
        `CONVERGED` or `STALLED` is left there only if its `done` no longer changes the objective.
      params: what the objective of every image needs; a tree of arrays.
      inputs: what belongs to each image, N of them, such as the features that the attacker saw;
        asked for when an image's turn comes.
      start: `[N, ...]`, the first iterate of each image.
      solver: the method.
      elsewhere: `[K, ...]`, K >= 0, other starts in order. An image begins at the first of all at
        which its data term is not flat (`Objective.is_flat`), at its own if there is none. None
        does not ask.
      steps: at most, for each image.
      chunk: images at once, B; if there are fewer, they are padded to it.
      description: shown before the progress bar.
      watch: is shown the iterates in work, for a picture of the convergence; it changes nothing.
      watch_every: after how many steps.
      programs: what `compile_programs` makes of the same arguments, to run it several times;
        compiled here if None.

    Raises:
      ValueError: there are no images.
    """
    count = len(inputs)
    if not count:
        raise ValueError("There are no images to optimise.")
    run = partial(
        _minimize,
        make_objective,
        params,
        solver=solver,
        elsewhere=elsewhere,
        steps=steps,
        chunk=chunk,
        description=description,
        watch=watch,
        watch_every=watch_every,
        programs=programs,
    )
    if hosts.count() == 1 or watch:
        return run(inputs, start)
    mine = np.array_split(np.arange(count), hosts.count())[hosts.index()]
    found = run(Rows(inputs, mine), start[mine]) if len(mine) else None
    parts = [Minimum(*part) for part in hosts.gather(found) if part is not None]
    x, objective, taken, result, seconds, compiling, began_at, flat = zip(*parts, strict=True)
    return Minimum(
        x=np.concatenate(x),
        objective=np.concatenate(objective),
        steps=np.concatenate(taken),
        result=np.concatenate(result),
        # As long as the slowest took.
        seconds=max(seconds),
        compile_seconds=max(compiling),
        start=np.concatenate(began_at),
        flat=np.concatenate(flat),
    )


def compile_programs(
    make_objective: MakeObjective,
    params: Any,
    inputs: Inputs,
    start: np.ndarray,
    solver: Solver,
    elsewhere: np.ndarray | None = None,
    *,
    chunk: int,
) -> Programs:
    """Compiles what `minimize` runs; see there for the arguments."""
    mesh = devices.mesh()
    size = chunk * mesh.size
    began = time.perf_counter()
    with devices.exact():
        first = np.arange(size) % len(inputs)
        example = devices.put(mesh, (start[first], inputs[first]), devices.IMAGES)
        params, elsewhere = devices.put(mesh, (params, elsewhere))
        begin = _begin.lower(make_objective, solver, mesh, params, elsewhere, *example).compile()
        places, _ = begin.out_info
        advance = _advance.lower(make_objective, solver, mesh, params, places, 1, 1).compile()
        mask = devices.put(mesh, np.zeros(size, bool), devices.IMAGES)
        exchange = _exchange.lower(places, places, mask).compile()
        evaluate = _evaluate.lower(make_objective, mesh, params, places).compile()
    return Programs(begin, advance, exchange, evaluate, time.perf_counter() - began)


def _minimize(
    make_objective,
    params,
    inputs,
    start,
    *,
    solver,
    elsewhere,
    steps,
    chunk,
    description,
    watch,
    watch_every,
    programs,
) -> Minimum:
    """`minimize` for the images of this host."""
    count = len(inputs)
    compiled = programs or compile_programs(
        make_objective, params, inputs, start, solver, elsewhere, chunk=chunk
    )
    begin, advance, exchange, evaluate, _ = compiled
    mesh = devices.mesh()
    size = chunk * mesh.size
    params, elsewhere = devices.put(mesh, (params, elsewhere))

    def put(tree: Any) -> Any:
        return devices.put(mesh, tree, devices.IMAGES)

    found = np.empty((count, *start.shape[1:]), np.float32)
    values, taken = np.empty(count, np.float32), np.zeros(count, np.int64)
    results = np.zeros(count, np.int64)
    began_at, flat = np.empty_like(found), np.zeros(count, bool)
    indices = np.full(size, -1)
    # Devices take turns, so that each has as many images.
    turns = np.arange(size).reshape(mesh.size, chunk).T.ravel()
    waiting, seconds = 0, 0.0
    with Progress(steps * count, description) as progress:
        while True:
            # Idle places are refilled; at first, if there are too few images, with copies of one.
            idle = turns[indices[turns] < 0]
            if waiting < count and len(idle):
                new = np.arange(waiting, min(waiting + len(idle), count))
                waiting += len(new)
                indices[idle[: len(new)]] = new
                rows = np.where(indices < 0, new[0], indices)
                fresh, flat_there = begin(params, elsewhere, *put((start[rows], inputs[rows])))
                began_at[rows], flat[rows] = np.asarray(fresh.x), np.asarray(flat_there)
                if len(idle) == size:
                    places = fresh
                else:
                    places = exchange(places, fresh, put(np.isin(indices, new)))
            working = indices >= 0
            if not working.any():
                break
            # Often enough for places to be refilled, seldom enough to cost nothing.
            number = progress.segment(-(-steps // 8))
            if watch:
                number = watch_every
            began = time.perf_counter()
            before = taken[indices[working]].sum()
            places = advance(params, places, number, steps)
            result, done = (np.asarray(a) for a in (places.result, places.steps))
            seconds += time.perf_counter() - began
            taken[indices[working]] = done[working]
            if watch:
                watch(Snapshot(indices.copy(), done, np.asarray(places.x), seconds))
            ended = working & ((result != Result.STEPS) | (done >= steps))
            if ended.any():
                value, x = np.asarray(evaluate(params, places)), np.asarray(places.x)
                rows = indices[ended]
                found[rows], values[rows] = x[ended], value[ended]
                results[rows] = result[ended]
                indices[ended] = -1
            saved = (steps - done[ended]).sum()
            progress.advance(int(done[working].sum() - before + saved))
            progress.show(f"{np.count_nonzero(indices >= 0)} of {count} images in work")
    return Minimum(found, values, taken, results, seconds, compiled.seconds, began_at, flat)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _begin(make_objective, solver, mesh, params, elsewhere, x, inputs):
    def begin(shared, rows):
        params, elsewhere = shared
        x, inputs = rows
        zeros = jnp.zeros(len(x), jnp.int32)
        objective = make_objective(params, inputs, jnp.zeros(len(x), x.dtype))
        x = objective.project(x)
        flat = zeros > 0
        if elsewhere is not None:
            x, flat = starts.first_with_a_slope(objective, x, elsewhere)
        return _Places(x, solver.init(objective, x), zeros, zeros, inputs), flat

    return devices.by_image(mesh, begin, (params, elsewhere), (x, inputs))


@partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=(4,))
def _advance(make_objective, solver, mesh, params, places, number, steps):
    def advance(shared, places):
        params, number, steps = shared

        def active(places):
            return (places.result == Result.STEPS) & (places.steps < steps)

        def step(carry):
            i, places = carry
            moving = active(places)
            done = (places.steps / steps).astype(places.x.dtype)
            objective = make_objective(params, places.inputs, done)
            x, state, result = solver.step(objective, places.x, places.state)
            finite = jnp.isfinite(x).all(axis=tuple(range(1, x.ndim)))
            result = jnp.where(finite, result, Result.DIVERGED)
            # A minimum of an objective that still changes is not the end.
            settled = objective.settled | (result == Result.DIVERGED)
            result = jnp.where(settled, result, Result.STEPS)
            new = _Places(x, state, places.steps + 1, result, places.inputs)
            return i + 1, _select(moving, new, places)

        _, places = jax.lax.while_loop(
            lambda carry: (carry[0] < number) & active(carry[1]).any(), step, (0, places)
        )
        return places

    return devices.by_image(mesh, advance, (params, number, steps), places)


@partial(jax.jit, donate_argnums=(0,))
def _exchange(places, fresh, mask):
    return _select(mask, fresh, places)


def _select(mask, new, old):
    def choose(a, b):
        return jnp.where(mask.reshape(-1, *(1,) * (a.ndim - 1)), a, b)

    return jax.tree.map(choose, new, old)


@partial(jax.jit, static_argnums=(0, 1))
def _evaluate(make_objective, mesh, params, places):
    def value(params, places):
        return make_objective(params, places.inputs, jnp.ones_like(places.x, shape=len(places.x)))(
            places.x
        )

    return devices.by_image(mesh, value, params, places)
