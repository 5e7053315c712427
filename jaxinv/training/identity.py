"""Identity of a training: digests of everything that decides its outcome. JAX.

A checkpoint carries it, so that no training goes on from another one's state. Nobody lists what
counts: the traced step holds loss, network, augmentation, optimizer and schedule, with all their
numbers; the arrays that it is given hold the rest.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax import Array

from jaxinv.machine import rows
from jaxinv.networks import program
from jaxinv.store import checkpoints


def of_training(
    step: Callable[[Any, Any, Any, Array], Any],
    loss: Any,
    state: Any,
    data: Any,
    batch: Any,
    key: Array,
    counts: Mapping[str, int],
) -> dict[str, str]:
    """Returns digests of the parts of a training, by name.

    Args:
      step: `(loss, state, batch, key) -> state and more`, pure.
      loss: a `jax.tree_util.Partial` with the arrays that it holds.
      state: parameters and optimizer's state where training starts.
      data: tree of arrays `[N, ...]`.
      batch: shapes of a step's part of the data.
      key: of all randomness.
      counts: numbers of epochs and the like.
    """

    def traced(arrays: tuple[Any, Any, Any], key: Array) -> Any:
        return step(*arrays, key)

    shape = jax.ShapeDtypeStruct(key.shape, key.dtype)
    found = program.trace(traced, (loss, state, batch), shape)
    return {
        "program": program.fingerprint(found, range(len(found.equations)), found.outputs),
        "data": _digest((data, loss)),
        "start": _digest(state),
        "seed": _digest(key),
        **{name: str(count) for name, count in counts.items()},
    }


def differences(own: Mapping[str, str], text: str | None) -> list[str]:
    """Returns the names of the parts in which a checkpoint's training differs from one's own.

    Args:
      own: of `of_training`.
      text: what the checkpoint says, as JSON; None if it says nothing.
    """
    try:
        other = json.loads(text or "{}")
    except ValueError:
        other = {}
    if not isinstance(other, dict):
        other = {}
    return [name for name, part in own.items() if other.get(name) != part]


def _digest(tree: Any) -> str:
    leaves = jax.tree.leaves(tree)
    arrays = [leaf if rows.are_made(leaf) else program.as_numpy(leaf) for leaf in leaves]
    return checkpoints.fingerprint(arrays)
