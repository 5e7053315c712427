"""The best linear map from features to images, by ridge regression on queries. JAX, NumPy.

Where it would have too many weights, it maps to coarse images, of which each pixel is a mean.
"""

import math
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jax import Array

from jaxinv.attacks.learned import grids
from jaxinv.attacks.learned.pairs import Answers, Pairs
from jaxinv.attacks.learned.queries import Pool, Queries
from jaxinv.errors import DamagedError
from jaxinv.machine import footprint, hosts, memory
from jaxinv.store import checkpoints, files

_SLICE = 500  # images at once
_SAMPLE = 100  # images whose features tell their size
_AT_ONCE = 4  # members of a family whose moments are in memory


def kept_ridge(path: Path | None, pool: Pool | Pairs) -> tuple[Array, Array]:
    """Reads the maps of `ridge`, or finds and keeps them: that can take as long as a training.

    Of several hosts the first reads the file, or makes it anew where it is damaged.

    Args:
      path: of the file; None keeps nothing.
      pool: the queries.
    """
    if path is None:
        return ridge(pool)

    def kept() -> tuple[Any, Any]:
        if path.is_file():
            try:
                arrays, _ = checkpoints.read(path)
                return arrays["weights"], arrays["offsets"]
            except DamagedError as error:
                files.set_aside(path, error.why)
        weights, offsets = ridge(pool)
        checkpoints.save(path, {"weights": weights, "offsets": offsets})
        return weights, offsets

    weights, offsets = hosts.first(kept)
    return jnp.asarray(weights), jnp.asarray(offsets)


def ridge(pool: Pool | Pairs) -> tuple[Array, Array]:
    """Finds linear maps of least squared error, with weights `[L, M, D]` and offsets `[L, D]`.

    There is one from M features to D pixel values, those of a `grids.coarse` image, for each member
    of the pool's family; L is 1 without a family.
    """

    unit = _unit(pool)

    shape = grids.coarse(pool.images.shape[1:], math.prod(pool.feature_shape))
    images, places = pool.batch
    step = _slice(pool)

    def solutions(some: tuple[Any, ...]) -> list[np.ndarray]:
        sums: Any = None
        for i in range(0, len(images), step):
            part = slice(i, i + step)
            rows = np.asarray(images[part])
            own = _moments(shape, pool.queries, rows, places[part], unit, some)
            if sums is None:
                sums = jax.tree.map(lambda new: np.zeros(new.shape), own)
            for total, new in zip(jax.tree.leaves(sums), jax.tree.leaves(own), strict=True):
                total += np.asarray(new)  # large: in place
        return [solution(gram, cross, len(images)) for gram, cross in sums]

    def solution(gram: np.ndarray, cross: np.ndarray, count: int) -> np.ndarray:
        # The more features there are beside images, the less a fit to these says of others.
        strength = max(1e-3, 0.03 * (len(gram) / count) ** 2)
        gram[np.diag_indices(len(gram))] += strength * np.trace(gram) / len(gram)
        found = scipy.linalg.solve(gram, cross, assume_a="pos")
        found[:-1] /= unit
        return np.asarray(found, np.float32)

    each: list[tuple[Array, ...]] = [(jnp.int32(which),) for which in range(pool.members)] or [()]
    groups = [tuple(each[i : i + _AT_ONCE]) for i in range(0, len(each), _AT_ONCE)]
    weights = np.stack([one for some in groups for one in solutions(some)])
    return jnp.asarray(weights[:, :-1]), jnp.asarray(weights[:, -1])


def _unit(pool: Pool | Pairs) -> float:
    """Returns the power of two that is the size of features, so that squares are near 1."""
    features = pool.features(_SAMPLE)
    largest = float(np.abs(features).max(initial=0))
    if not largest:
        return 1.0
    square = np.mean((features / largest) ** 2, dtype=np.float64)
    return float(2.0 ** np.round(np.log2(largest * np.sqrt(square))))


def _slice(pool: Pool | Pairs) -> int:
    """Returns how many images are asked at once: few where an edge holds much of each."""

    def asked(queries: Queries | Answers, rows: tuple[Array, Array]) -> Array:
        which = (jnp.zeros_like(rows[1]),) if pool.members else ()
        return queries.plain(*rows, *which)

    return footprint.batch_within(memory.TRAINING, _SLICE, asked, pool.queries, pool.batch)


def shrunk(images: Array, shape: tuple[int, int, int]) -> Array:
    """Returns images `[B, H, W, C]` as coarse ones `[B, *shape]`, of means of pixels."""
    if images.shape[1:] == shape:
        return images
    return jax.image.resize(images, (len(images), *shape), "linear", antialias=True)


def enlarged(images: Array, shape: tuple[int, int, int]) -> Array:
    """Returns coarse images `[B, h, w, C]` between whose pixels values are interpolated."""
    if images.shape[1:] == shape:
        return images
    return jax.image.resize(images, (len(images), *shape), "linear")


@partial(jax.jit, static_argnums=0)
def _moments(
    shape: tuple[int, int, int],
    queries: Queries | Answers,
    batch: Array,
    places: Array,
    unit: Array,
    some: tuple[Any, ...],
) -> list[tuple[Array, Array]]:
    """Sums products for several members in one program, whose compiler sees their one edge."""
    pixels = shrunk(batch, shape).reshape(len(batch), -1)
    found = []
    for which in some:
        every = (jnp.broadcast_to(number, len(places)) for number in which)
        features = queries.plain(batch, places, *every).reshape(len(batch), -1) / unit
        known = jnp.concatenate([features, jnp.ones((len(batch), 1), features.dtype)], axis=1)
        found.append((known.T @ known, known.T @ pixels))
    return found
