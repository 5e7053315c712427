"""Arrays on several devices: the images of a batch are divided among them. JAX.

A device computes what belongs to its own images, by the program and with the size of batch that one
device alone would have, and needs nothing of the others: the numbers are the same, to the last bit
where the device rounds alike. Devices are those of this process (`hosts` is about others).
"""

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

IMAGES, SEEDS = "images", "seeds"
"""Axes of a mesh: of a batch, and of things that are trained side by side."""

_SIZES = (64, 512)  # images that a device has of a slice

_limit: int | None = None


def count() -> int:
    """How many devices of this process are used: all, unless `use` says otherwise."""
    return min(jax.local_device_count(), _limit or jax.local_device_count())


@contextlib.contextmanager
def use(number: int) -> Iterator[None]:
    """Uses no more than so many devices, for measurements."""
    global _limit
    before, _limit = _limit, number
    try:
        yield
    finally:
        _limit = before


def mesh(*, seeds: int = 1, images: int | None = None) -> Mesh:
    """The devices in use, as `seeds` x `images`.

    Args:
      seeds: how many things are trained side by side; as many devices as divide both share them.
      images: of a batch; as many of the others as divide it share these. None for any number.
    """
    number = count()
    rows = math.gcd(seeds, number)
    columns = number // rows if images is None else math.gcd(images, number // rows)
    return _mesh(rows, columns, tuple(jax.local_devices()[: rows * columns]))


@functools.cache
def _mesh(rows: int, columns: int, devices: tuple[Any, ...]) -> Mesh:
    return Mesh(np.array(devices).reshape(rows, columns), (SEEDS, IMAGES))


def put(mesh: Mesh, tree: Any, *axes: str) -> Any:
    """A tree of arrays on the devices: divided along their first axis, or whole on each.

    Args:
      mesh: the devices.
      tree: arrays; the size of their first axis is a multiple of the number of devices.
      axes: of the mesh, along which it is divided; none for a copy on each.
    """
    if mesh.size == 1:
        return jax.tree.map(jnp.asarray, tree)
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec(*axes)))


def by_image(mesh: Mesh, function: Callable[..., Any], shared: Any, rows: Any) -> Any:
    """`function(shared, rows)`, each device on its own rows; to be called where JAX traces.

    Args:
      mesh: the devices.
      function: what one device does: from a tree of any arrays and a tree of arrays `[B, ...]` to a
        tree of arrays `[B, ...]`.
      shared: the same for all.
      rows: divided among the devices.
    """
    if mesh.size == 1:
        return function(shared, rows)
    whole, divided = PartitionSpec(), PartitionSpec(IMAGES)
    return jax.shard_map(
        function, mesh=mesh, in_specs=(whole, divided), out_specs=divided, check_vma=False
    )(shared, rows)


def exact() -> Any:
    """A context in which products have all digits of float32, on accelerators, too.

    These round to fewer by default. That is good enough for training and saves time; attacks that
    solve for an input, and what they are compared with, need the digits.
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
      function: `(*static, *shared, *rows) -> arrays [B, ...]`, one or a tree of them. It is
        compiled once for as long as it, and `static`, compare equal.
      rows: `[N, ...]`, each an array, or something that makes rows when it is indexed.
      static: hashable values.
      shared: trees of arrays that all examples share.
      sizes: how many examples a device may have of a slice: the least that does for N, else the
        largest. The last slice is filled up.

    Returns:
      NumPy arrays `[N, ...]`.
    """
    devices = mesh()
    number = len(rows[0])
    size = slice_size(number, sizes)
    shared = put(devices, tuple(shared))
    found = []
    for begin in range(0, max(number, 1), size):
        places = np.minimum(np.arange(begin, begin + size), max(number, 1) - 1)
        part = tuple(row[places] if number else _empty(row, size) for row in rows)
        made = _apply(function, tuple(static), devices, shared, put(devices, part, IMAGES))
        have = min(size, number - begin)
        found.append(jax.tree.map(lambda leaf, have=have: np.asarray(leaf)[:have], made))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *found)


def _empty(row: np.ndarray, size: int) -> np.ndarray:
    return np.zeros((size, *row.shape[1:]), row.dtype)


def slice_size(number: int, sizes: Sequence[int] = _SIZES) -> int:
    """How many of N examples `in_slices` has at once, on all devices."""
    return next((size for size in sizes if size * count() >= number), sizes[-1]) * count()


@partial(jax.jit, static_argnums=(0, 1, 2))
def _apply(function, static, devices, shared, rows):
    with exact():
        return by_image(devices, lambda own, part: function(*static, *own, *part), shared, rows)


def constrain(mesh: Mesh, tree: Any, *axes: str) -> Any:
    """`put` for a tree of arrays in a traced program."""
    if mesh.size == 1:
        return tree
    return jax.lax.with_sharding_constraint(tree, NamedSharding(mesh, PartitionSpec(*axes)))
