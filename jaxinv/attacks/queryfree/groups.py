"""Groups of a cloud's outputs, which stand for classes where nothing is labelled. JAX, NumPy.

An output belongs to each group by a share, which has a gradient: so features that a shadow makes
can be summed up by group as those of a stream are.
"""

import math
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array
from scipy.cluster.vq import kmeans2

from jaxinv.machine import devices
from jaxinv.networks import Network, Params

MOST = 10
"""Number of groups, at most."""

_SEEN = 2000  # outputs that are grouped, at most
_BYTES = 2**28  # of these outputs, and of the features that they are of
_ROUNDS = 30  # of k-means
_SHARPNESS = 2.0  # of shares, beside the scatter of outputs around their own centre
_LEAST = 1e-3  # scatter, beside that around one centre of all


class Groups(NamedTuple):
    """Groups of outputs.

    Attributes:
      centres: `[K, P]`, of flattened outputs.
      scatter: mean squared distance of outputs from the centre next to them.
    """

    centres: np.ndarray
    scatter: float

    def shares(self, outputs: Array) -> Array:
        """Computes by how much outputs `[B, ...]` belong to each group, `[B, K]` of sum 1."""
        origin = self.centres.mean(axis=0, keepdims=True)
        rows, centres = outputs.reshape(len(outputs), -1) - origin, self.centres - origin
        # Of the squared distances, the squared norm of a row is the same beside every centre.
        nearness = 2 * rows @ centres.T - (centres**2).sum(axis=1)[None]
        return jax.nn.softmax(_SHARPNESS * nearness / self.scatter)


def found(cloud: Network, params: Params, features: Any) -> Groups:
    """Finds groups of a cloud's outputs by k-means.

    Args:
      cloud: the part of the network that the attacker runs.
      params: its parameters.
      features: `[N, *cloud.input_shape]`, by index; the first tell the groups.
    """
    values = max(math.prod(shape) for shape in (cloud.input_shape, cloud.output_shape))
    seen = features[np.arange(min(_SEEN, len(features), max(MOST, _BYTES // (4 * values))))]
    own = cloud.select(params)
    outputs = devices.in_slices(_outputs, seen, static=(cloud,), shared=(own,))
    return of(outputs.reshape(len(seen), -1))


def of(rows: np.ndarray) -> Groups:
    """Groups outputs `[N, P]`; where they are all alike there is one group."""
    around = float(((rows - rows.mean(axis=0)) ** 2).sum(axis=1).mean())
    if not around:
        return Groups(rows[:1], 1.0)
    seed = np.random.default_rng(0)
    centres, labels = kmeans2(rows, min(MOST, len(rows)), iter=_ROUNDS, minit="++", seed=seed)
    scatter = float(((rows - centres[labels]) ** 2).sum(axis=1).mean())
    return Groups(centres[np.unique(labels)], max(scatter, _LEAST * around))


def _outputs(cloud: Network, params: Params, features: Array) -> Array:
    return cloud.apply(params, features)
