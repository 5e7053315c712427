"""Statistics among parameters, by which BatchNorm normalises in evaluation. JAX.

They are arrays like any others of a network, and no gradient trains them: each is the mean or the
variance of what a layer is given in training.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax

STATISTICS = "batch_stats"
"""Name of the collection that holds them in the variables of a Linen module."""

_MEAN, _VARIANCE = "mean", "var"  # names within a layer's part of the collection


def mask(params: Any, *, names: Sequence[str] = (STATISTICS,)) -> Any:
    """Returns a tree of truth values: whether each array is a statistic, or is under a name."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: any(getattr(entry, "key", None) in names for entry in path), params
    )


def has_any(params: Any) -> bool:
    """Returns whether an array of parameters is a statistic."""
    return any(jax.tree.leaves(mask(params)))


def pooled(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the statistics of several batches of one size as those of all of them.

    A layer's variance counts how far its means lie apart in the batches.

    Args:
      found: parameters with the statistics of each batch; what is no statistic is alike in all.
    """
    return {
        name: value
        if not isinstance(value, Mapping)
        else (_pooled_statistics if name == STATISTICS else pooled)([each[name] for each in found])
        for name, value in found[0].items()
    }


def _pooled_statistics(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Pools a collection, whatever its nesting; what is no mean or variance stays the first's."""
    first, count = found[0], len(found)
    if set(first) == {_MEAN, _VARIANCE}:
        mean = sum(each[_MEAN] for each in found) / count
        apart = sum((each[_MEAN] - mean) ** 2 for each in found) / count
        return {_MEAN: mean, _VARIANCE: sum(each[_VARIANCE] for each in found) / count + apart}
    return {
        name: _pooled_statistics([each[name] for each in found])
        if isinstance(value, Mapping)
        else value
        for name, value in first.items()
    }
