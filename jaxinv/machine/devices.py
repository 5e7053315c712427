"""Arrays on several devices of this process, which divide the images of a batch. JAX.

A device computes its own images, by the program and the batch size of one device alone, without the
other devices. So the numbers are the same, to the last bit where devices round alike.
"""

import contextlib
import functools
import math
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxinv.errors import UsageError, UserError
from jaxinv.machine import footprint, memory

IMAGES, SEEDS = "images", "seeds"
"""Axes of a mesh: images of a batch, and models trained side by side."""

_PLATFORMS = ("JAX_PLATFORMS", "JAX_PLATFORM_NAME")
_SIZES = (64, 512)  # images of a slice on one device, at most

_limit: int | None = None


def start() -> None:
    """Starts JAX's devices, if they are not in use yet: what is wrong with them is said at once.

    Raises:
      UsageError: the environment's `JAX_PLATFORMS` names a device that is not here.
      UserError: no device starts for another reason.
    """
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # AssertionError: CUDA without its plugin
        why = " ".join(str(error).split()).partition(" (set JAX_PLATFORMS")[0][:200]
        told = f" ({why})" if why else ""
        for name in _PLATFORMS:
            if given := os.environ.get(name):
                raise UsageError(
                    f"{name}={given}: there is no such device here{told}; expected cpu, or "
                    "nothing for the best there is."
                ) from error
        raise UserError(f"JAX starts no device{told}.") from error


def count() -> int:
    """Returns the number of devices in use: all of this process, or fewer inside `use`."""
    return min(jax.local_device_count(), _limit or jax.local_device_count())


@contextlib.contextmanager
def use(number: int) -> Iterator[None]:
    """Limits the number of devices in use, for measurements."""
    global _limit
    before, _limit = _limit, number
    try:
        yield
    finally:
        _limit = before


def mesh(*, seeds: int = 1, images: int | None = None) -> Mesh:
    """Returns the devices in use, as `seeds` x `images`.

    Args:
      seeds: number of models trained side by side; their axis has the most devices that divide it.
      images: of a batch; its axis has the most remaining devices that divide it. None for any.
    """
    number = count()
    rows = math.gcd(seeds, number)
    columns = number // rows if images is None else math.gcd(images, number // rows)
    return _mesh(rows, columns, tuple(jax.local_devices()[: rows * columns]))


@functools.cache
def _mesh(rows: int, columns: int, devices: tuple[Any, ...]) -> Mesh:
    return Mesh(np.array(devices).reshape(rows, columns), (SEEDS, IMAGES))


def put(mesh: Mesh, tree: Any, *axes: str) -> Any:
    """Sends a tree of arrays to the devices: divided along their first axis, or whole to each.

    Args:
      mesh: the devices.
      tree: arrays; the size of their first axis is a multiple of the number of devices.
      axes: of the mesh, along which the arrays are divided; none for a copy on each.
    """
    if mesh.size == 1:
        return jax.tree.map(jnp.asarray, tree)
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec(*axes)))


def by_image(mesh: Mesh, function: Callable[..., Any], shared: Any, rows: Any) -> Any:
    """Computes `function(shared, rows)`, each device its own rows; for use inside a program.

    Args:
      mesh: the devices.
      function: from a tree of any arrays and a tree of arrays `[B, ...]` to a tree of arrays
        `[B, ...]`.
      shared: arrays that are the same for all devices.
      rows: arrays divided among the devices.
    """
    if mesh.size == 1:
        return function(shared, rows)
    whole, divided = PartitionSpec(), PartitionSpec(IMAGES)
    return jax.shard_map(
        function, mesh=mesh, in_specs=(whole, divided), out_specs=divided, check_vma=False
    )(shared, rows)


def exact() -> Any:
    """Returns a context in which products have all digits of float32, also on accelerators.

    Accelerators round to fewer digits by default. That is enough for training and saves time;
    attacks that solve for an input, and the bounds beside them, need all digits.
    """
    return jax.default_matmul_precision("highest")


def in_slices(
    function: Callable[..., Any],
    *rows: Any,
    static: Sequence[Any] = (),
    shared: Sequence[Any] = (),
    sizes: Sequence[int] = _SIZES,
) -> Any:
    """Applies a pure function to N examples: slice by slice, in one compiled program.

    Args:
      function: `(*static, *shared, *rows) -> arrays [B, ...]`, one or a tree of them. Calls with
        equal `function` and `static` share one compiled program.
      rows: `[N, ...]`, each an array, or an object that returns rows when it is indexed.
      static: hashable values.
      shared: trees of arrays that all examples share.
      sizes: examples of a slice on one device: the least that holds N, else the largest; fewer
        where such a slice holds more than `memory.step`. The last slice is filled up.

    Returns:
      NumPy arrays `[N, ...]`.

    Raises:
      UserError: there is no memory for these.
    """
    devices = mesh()
    number = len(rows[0])
    shared = put(devices, tuple(shared))
    size, shapes = _slice(function, tuple(static), devices, shared, rows, sizes)
    each = sum(math.prod(leaf.shape[1:]) * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
    memory.check(f"{number:,} examples", number * each, "lower their number")
    found = jax.tree.map(lambda leaf: np.empty((number, *leaf.shape[1:]), leaf.dtype), shapes)
    for begin in range(0, number, size):
        places = np.minimum(np.arange(begin, begin + size), number - 1)
        part = tuple(row[places] for row in rows)
        made = _apply(function, tuple(static), devices, shared, put(devices, part, IMAGES))
        jax.tree.map(partial(_write, begin), found, made)
    return found


def _write(begin: int, found: np.ndarray, made: Array) -> None:
    rows = found[begin : begin + len(made)]
    rows[:] = np.asarray(made)[: len(rows)]


def slice_size(number: int, sizes: Sequence[int] = _SIZES) -> int:
    """Returns how many of N examples `in_slices` computes at once, at most, on all devices."""
    return next((size for size in sizes if size * count() >= number), sizes[-1]) * count()


def _slice(
    function: Callable[..., Any],
    static: tuple[Any, ...],
    devices: Mesh,
    shared: Any,
    rows: Sequence[Any],
    sizes: Sequence[int],
) -> tuple[int, Any]:
    """Returns how many examples are computed at once, and the shapes of their results."""

    def traced(size: int) -> tuple[int, Any]:
        shapes = tuple(footprint.shape_of(row, size) for row in rows)
        program = _apply.trace(function, static, devices, shared, shapes)
        given = sum(math.prod(shape.shape) * shape.dtype.itemsize for shape in shapes)
        return given + footprint.peak(program.jaxpr.jaxpr), program.out_info

    limit, wanted = memory.step() * devices.size, slice_size(len(rows[0]), sizes)
    size = footprint.rows_within(limit, wanted, lambda size: traced(size)[0], multiple=devices.size)
    return size, traced(size)[1]


@partial(jax.jit, static_argnums=(0, 1, 2))
def _apply(function, static, devices, shared, rows):
    with exact():
        return by_image(devices, lambda own, part: function(*static, *own, *part), shared, rows)


def constrain(mesh: Mesh, tree: Any, *axes: str) -> Any:
    """Does as `put`, for a tree of arrays inside a program."""
    if mesh.size == 1:
        return tree
    return jax.lax.with_sharding_constraint(tree, NamedSharding(mesh, PartitionSpec(*axes)))
