"""The fit loop, which trains targets, inverse networks, shadows and learned priors. JAX.

Examples stay on the devices where they fit; the devices share a step's examples, or the models that
are trained side by side. Steps run inside one compiled loop. All randomness of a step is a function
of the key and the step's number, so that a killed run continues from its last checkpoint and ends
with the parameters of an undisturbed one. The first of several hosts trains.
"""

import functools
import hashlib
import inspect
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.tree_util import Partial

from jaxinv.errors import DamagedError, UserError
from jaxinv.machine import devices, hosts, tracking
from jaxinv.machine.numbers import widened
from jaxinv.machine.progress import Progress
from jaxinv.store import checkpoints, files
from jaxinv.training import identity
from jaxinv.training.portions import Portions

P = ParamSpec("P")
Batch = Any
Metrics = Mapping[str, Array]
_SECONDS_UNSAVED = 5.0  # seconds of training that a kill may cost
_IDENTITY = "identity"  # of the training, in a checkpoint's metadata

Loss = Callable[[Any, Batch, Array], tuple[Array, Metrics]]


class Fit(NamedTuple):
    """Outcome of a fit.

    Attributes:
      params: the trained parameters.
      history: one row an epoch: `loss` and the loss function's metrics, as means over the epoch's
        steps, and the numbers that `on_epoch` added.
      seconds: wall time spent in steps, before a kill and after it, without compilation.
      compile_seconds: wall time spent compiling.
    """

    params: Any
    history: list[dict[str, float]]
    seconds: float
    compile_seconds: float


def _by_the_first_host(train: Callable[P, Fit]) -> Callable[P, Fit]:
    """Trains on the first host alone, and tells the others the outcome."""

    @functools.wraps(train)
    def fit(*args: P.args, **settings: P.kwargs) -> Fit:
        def told() -> tuple[list[Any], list[dict[str, float]], float, float]:
            done = train(*args, **settings)
            return jax.tree.leaves(done.params), *done[1:]

        leaves, history, seconds, compile_seconds = hosts.first(told)
        params = inspect.signature(train).bind(*args, **settings).arguments["params"]
        leaves = [jnp.asarray(leaf) for leaf in leaves]
        found = jax.tree.unflatten(jax.tree.structure(params), leaves)
        return Fit(found, history, seconds, compile_seconds)

    return fit


@_by_the_first_host
def fit(
    loss: Loss,
    params: Any,
    data: Batch,
    *,
    optimizer: optax.GradientTransformation,
    epochs: int,
    batch_size: int,
    key: Array,
    on_epoch: Callable[[Any], Mapping[str, float]] | None = None,
    seeds: int = 1,
    steps: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    description: str = "fit",
) -> Fit:
    """Minimises the mean of a loss over shuffled batches.

    Args:
      loss: `(params, batch, key) -> (scalar, metrics)`, pure; the key is the step's own, for
        augmentation or noise. The program takes arrays in a `jax.tree_util.Partial` as arguments,
        so that losses of equal shapes share it; arrays that a function closes over are constants.
      params: where to start; any tree of arrays. Half-precision ones are trained as float32, of
        which the outcome is rounded: in their own type small steps and moments are lost.
      data: a tree of arrays with a leading axis `[N, ...]` over examples; a batch is the same tree
        with `[batch_size, ...]`. Arrays may be memory maps larger than memory.
      optimizer: any optax transformation.
      epochs: passes over the data; the last, incomplete batch of each is left out.
      batch_size: examples a step; at most N.
      key: of all randomness.
      on_epoch: `params -> numbers` to add to the epoch's row of the history.
      seeds: number of models trained side by side; if several, every leaf of parameters and
        optimizer's state is `[seeds, ...]`.
      steps: to stop after, within the last epoch; None for whole epochs.
      checkpoint: file to continue from where it exists, and to write after the first and the last
        epoch, and between them every few seconds. A damaged one, and one of a training that differs
        in anything (`identity`), is set aside with a line on stderr, and training begins anew.
      description: shown before the progress bar.

    Raises:
      UserError: the loss became non-finite, or the checkpoint cannot be opened.
    """
    size = len(jax.tree.leaves(data)[0])
    batch_size = min(batch_size, size)
    key_order, key_steps = jax.random.split(key)
    mesh = devices.mesh(seeds=seeds, images=batch_size)
    axes = (devices.SEEDS,) if seeds > 1 else ()
    # The loop gives its input buffers away: keep the caller's.
    masters = jax.tree.map(lambda leaf: jnp.array(widened(jnp.asarray(leaf))), params)
    state = (masters, jax.tree.map(jnp.array, optimizer.init(masters)))
    batch = jax.tree.map(partial(_shape_of_batch, batch_size), data)
    loss = loss if isinstance(loss, Partial) else Partial(loss)
    own: dict[str, str] = {}
    history: list[dict[str, float]] = []
    seconds = 0.0
    if checkpoint is not None:
        counts = {"epochs": epochs, "batch_size": batch_size}
        counts |= {} if steps is None else {"steps": steps}
        step = partial(_updated, optimizer)
        own = identity.of_training(step, loss, state, data, batch, key, counts)
        state, history, seconds = _resume(Path(checkpoint), state, own)
    first_epoch = len(history)
    each = size // batch_size
    last = epochs * each if steps is None else min(steps, epochs * each)
    epochs = -(-last // each)
    if first_epoch >= epochs:
        return Fit(_typed_as(params, state[0]), history, seconds, 0.0)

    portions = Portions(mesh, data, batch_size)
    metrics = jax.eval_shape(loss, params, batch, key)[1]
    zeros = devices.put(mesh, {name: jnp.zeros((), jnp.float32) for name in ("loss", *metrics)})
    held = devices.put(mesh, loss)
    state, key_steps = devices.put(mesh, state, *axes), devices.put(mesh, key_steps)
    began = time.perf_counter()
    run = _compiled(portions, key_steps, held, state, zeros, static=(optimizer, mesh, axes))
    compile_seconds = time.perf_counter() - began

    written = -np.inf
    done = first_epoch * each
    track = tracking.track(_track_name(description, checkpoint), after=done)
    with Progress(last, description, start=done) as progress, track as shown:
        for epoch in range(first_epoch, epochs):
            began = time.perf_counter()
            permutation = jax.random.permutation(jax.random.fold_in(key_order, epoch), size)
            order = np.asarray(permutation, np.int32)[: each * batch_size].reshape(each, -1)
            totals = jax.tree.map(jnp.array, zeros)
            left = min(each, last - epoch * each)
            for begin, length, part, places in portions.of_epoch(order):
                before = epoch * each + begin
                for first, count in progress.segments(min(length, max(0, left - begin))):
                    given = (part, places, key_steps, before, first, count)
                    state, totals = run(held, state, totals, *given)
                    mean = float(totals["loss"]) / (begin + first + count)
                    progress.show(f"epoch {epoch + 1}/{epochs}, loss {mean:.4f}")
            seconds += time.perf_counter() - began
            row = {name: float(total) / left for name, total in totals.items()}
            if not np.isfinite(row["loss"]):
                raise UserError(f"{description}: the loss is not finite after epoch {epoch + 1}.")
            row |= on_epoch(state[0]) if on_epoch else {}
            history.append(row)
            shown.add(row, step=min((epoch + 1) * each, last))
            due = epoch + 1 == epochs or time.monotonic() - written > _SECONDS_UNSAVED
            if checkpoint is not None and due:
                told = {"history": history, "seconds": seconds, _IDENTITY: own}
                metadata = {name: json.dumps(value) for name, value in told.items()}
                checkpoints.save(checkpoint, state, metadata=metadata)
                written = time.monotonic()
    trained = state[0] if mesh.size == 1 else jax.device_get(state[0])
    return Fit(_typed_as(params, trained), history, seconds, compile_seconds)


def _track_name(description: str, checkpoint: str | os.PathLike[str] | None) -> str:
    """Returns the name of a training on TensorBoard: its own, if it has a checkpoint."""
    name = f"training/{description.replace('/', '-')}"
    if checkpoint is None:
        return name
    own = "/".join(Path(checkpoint).parts[-2:])  # the same in every work folder
    return f"{name}-{hashlib.sha256(own.encode(errors='surrogateescape')).hexdigest()[:6]}"


def _typed_as(given: Any, trained: Any) -> Any:
    return jax.tree.map(lambda old, new: jnp.asarray(new, jnp.asarray(old).dtype), given, trained)


def _resume(
    path: Path, state: Any, own: Mapping[str, str]
) -> tuple[Any, list[dict[str, float]], float]:
    """Returns state, history and seconds of a checkpoint, or of the start where there is none."""
    if not path.is_file():
        return state, [], 0.0
    try:
        _, metadata = checkpoints.read(path)
    except DamagedError as error:
        files.set_aside(path, error.why)
        return state, [], 0.0
    if other := identity.differences(own, metadata.get(_IDENTITY)):
        files.make_way(path, f"of another training (other {', '.join(other)})")
        return state, [], 0.0
    told = _told(metadata)
    if told is None:
        files.set_aside(path, "its history is not readable")
        return state, [], 0.0
    found, _ = checkpoints.load(path, state)
    return jax.tree.map(jnp.asarray, found), *told


def _told(metadata: Mapping[str, str]) -> tuple[list[dict[str, float]], float] | None:
    """Returns the history and the seconds that a checkpoint tells; None where they cannot be so."""
    try:
        history, seconds = (json.loads(metadata[name]) for name in ("history", "seconds"))
        values = [seconds, *(value for row in history for value in (row["loss"], *row.values()))]
        readable = bool(history) and all(map(math.isfinite, values)) and seconds >= 0
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    return (history, float(seconds)) if readable else None


def _compiled(
    portions: Portions, key: Array, held: Partial, state: Any, totals: Any, *, static: Any
) -> Callable[..., tuple[Any, dict[str, Array]]]:
    """Compiles `_run_steps` for portions of examples."""
    *_, part, places = next(portions.of_epoch(portions.in_order))
    return _run_steps.lower(*static, held, state, totals, part, places, key, 0, 0, 0).compile()


def _shape_of_batch(batch_size: int, leaf: Any) -> jax.ShapeDtypeStruct:
    dtype = jax.dtypes.canonicalize_dtype(leaf.dtype)
    return jax.ShapeDtypeStruct((batch_size, *leaf.shape[1:]), dtype)


def whole_epochs(steps: int, size: int, batch_size: int) -> tuple[int, int]:
    """Returns the number of epochs nearest to a number of steps, and the steps of these epochs.

    Args:
      steps: wanted.
      size: number of examples.
      batch_size: examples a step; the last, incomplete batch of an epoch is left out.
    """
    each = size // min(batch_size, size)
    epochs = max(1, round(steps / each))
    return epochs, epochs * each


def epochs_of(steps: int, size: int, batch_size: int) -> int:
    """Returns the number of epochs that hold so many steps, the last of them in part."""
    return -(-steps // (size // min(batch_size, size)))


def one_cycle(steps: int, learning_rate: float) -> optax.GradientTransformation:
    """Returns AdamW with one cycle of the learning rate, on gradients clipped to norm 1."""
    schedule = optax.cosine_onecycle_schedule(steps, learning_rate)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def losses_of_each(loss: Callable[..., Array], params: Any, data: tuple[Any, ...]) -> Array:
    """Computes a loss for each row of parameters and data, in one program: `[S]`.

    `jax.vmap` on accelerators. On CPU one row after the other: a convolution whose kernels are
    mapped leaves the fast path, and its `canonical` form cannot be mapped at all. There the
    gradient of a row is taken with its loss, so that no row's activations are kept for later.

    Args:
      loss: `(params, *data) -> scalar`, of one row.
      params: a tree of arrays `[S, ...]`, which have gradients.
      data: trees of arrays `[S, ...]`, which have none.
    """
    return _losses_and_gradients(loss, params, data)[0]


def _losses_and_gradients(loss, params, data):
    def one(rows):
        return jax.value_and_grad(loss)(*rows)

    if jax.default_backend() == "cpu":
        return jax.lax.map(one, (params, *data))
    return jax.vmap(one)((params, *data))


def _losses_backward(loss, gradients, cotangents):
    del loss

    def scaled(leaf: Array) -> Array:
        return leaf * cotangents.reshape(-1, *(1,) * (leaf.ndim - 1))

    return jax.tree.map(scaled, gradients), None


losses_of_each.defvjp(_losses_and_gradients, _losses_backward)


def for_each(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """Returns the optimizer applied to each row of parameters `[S, ...]` by itself."""
    return optax.GradientTransformation(jax.vmap(optimizer.init), jax.vmap(optimizer.update))


def _updated(optimizer, loss, state, batch, key):
    """Computes the state after a step, and the loss and its metrics before it."""
    params, opt_state = state
    (value, metrics), grads = jax.value_and_grad(loss, has_aux=True)(params, batch, key)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return (optax.apply_updates(params, updates), opt_state), {"loss": value, **metrics}


@partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=(4, 5))
def _run_steps(optimizer, mesh, axes, loss, state, totals, data, order, key, before, first, count):
    def step(i, carry):
        state, totals = carry
        batch = jax.tree.map(lambda array: array[order[i]], data)
        batch = devices.constrain(mesh, batch, devices.IMAGES)
        step_key = jax.random.fold_in(key, before + i)
        state, found = _updated(optimizer, loss, state, batch, step_key)
        totals = {name: total + jnp.float32(found[name]) for name, total in totals.items()}
        return state, totals

    state, totals = jax.lax.fori_loop(first, first + count, step, (state, totals))
    return devices.constrain(mesh, state, *axes), devices.constrain(mesh, totals)
