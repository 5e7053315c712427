"""The best linear map from features to images, by ridge regression on queries. JAX, NumPy.

Where it would have too many weights, it maps to coarse images, of which each pixel is a mean.
"""

import functools
import math
from collections.abc import Iterator
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
_EVERY, _MOST_HELD = 8, 1000  # one image of so many is held out, up to so many
_FEW = 80  # of fewer images than so many half are held out
_JUDGED = 256  # pixels by which a penalty is chosen
_USUAL, _RUNG, _RUNGS = 0.01, 4.0, 8  # penalties that are tried, from the first up and down
_BETTER = 0.999  # of an error, or the penalty before is kept
_ROUNDING = 1e-6  # of float32 sums


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
    of the pool's family; L is 1 without a family. A penalty on the weights, in units of the mean
    variance of features, is chosen on images held out, and the map is then fitted to all. Offsets
    have none.
    """
    scale = middle, unit = _scale(pool)
    shape = grids.coarse(pool.images.shape[1:], math.prod(pool.feature_shape))
    step = _slice(pool)
    count = len(pool.images)
    held = np.arange(count) % _EVERY == _EVERY - 1
    if count < _FEW:
        held = np.arange(count) % 2 == 1
    held &= np.cumsum(held) <= _MOST_HELD
    rest, held = np.flatnonzero(~held), np.flatnonzero(held)

    def rows_of(places: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
        for i in range(0, len(places), step):
            yield tuple(np.asarray(array[places[i : i + step]]) for array in pool.batch)

    def sums(places: np.ndarray, some: tuple[Any, ...]) -> Any:
        found: Any = None
        for rows in rows_of(places):
            own = _moments(shape, pool.queries, *rows, scale, some)
            if found is None:
                found = jax.tree.map(lambda new: np.zeros(new.shape), own)
            for total, new in zip(jax.tree.leaves(found), jax.tree.leaves(own), strict=True):
                total += np.asarray(new)  # large: in place
        return found

    def solutions(some: tuple[Any, ...]) -> list[np.ndarray]:
        moments, strengths = sums(rest, some), [_USUAL] * len(some)
        if len(held):
            parts = [_known(shape, pool.queries, *rows, scale, some) for rows in rows_of(held)]
            for i, (gram, cross) in enumerate(moments):
                known, wanted = map(np.concatenate, zip(*(part[i] for part in parts), strict=True))
                strengths[i] = _strength(gram, cross, known, wanted)
                gram += known.T @ known
                cross += known.T @ wanted
        pairs = zip(moments, strengths, strict=True)
        found = [_solved(gram, cross, strength) for (gram, cross), strength in pairs]
        return [
            np.concatenate([slopes / unit, [offset - middle @ slopes / unit]])
            for slopes, offset in found
        ]

    each: list[tuple[Array, ...]] = [(jnp.int32(which),) for which in range(pool.members)] or [()]
    groups = [tuple(each[i : i + _AT_ONCE]) for i in range(0, len(each), _AT_ONCE)]
    weights = np.stack([one for some in groups for one in solutions(some)]).astype(np.float32)
    return jnp.asarray(weights[:, :-1]), jnp.asarray(weights[:, -1])


def _strength(gram: np.ndarray, cross: np.ndarray, known: np.ndarray, wanted: np.ndarray) -> float:
    """Returns the penalty whose map errs least on images that it was not fitted to.

    Args:
      gram: `[M + 1, M + 1]`, products of features and of a column of ones, summed over images.
      cross: `[M + 1, D]`, products of these and of pixels.
      known: `[N, M + 1]`, of images held out.
      wanted: `[N, D]`, their pixels.
    """
    columns = np.unique(np.linspace(0, cross.shape[1] - 1, _JUDGED).astype(int))
    cross, wanted = cross[:, columns], wanted[:, columns]

    @functools.cache
    def error(rung: int) -> float:
        if abs(rung) > _RUNGS:
            return math.inf
        try:
            slopes, offset = _solved(gram, cross, _USUAL * _RUNG**rung)
        except scipy.linalg.LinAlgError:  # too weak for sums of float32 products
            return math.inf
        return float(np.mean((known[:, :-1] @ slopes + offset - wanted) ** 2))

    best = 0
    for way in (1, -1):
        while error(best + way) < _BETTER * error(best):
            best += way
    return _USUAL * _RUNG**best


def _solved(gram: np.ndarray, cross: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns slopes `[M, D]` and offset `[D]` of a penalty, from sums over images.

    Raises:
      LinAlgError: the penalty is too weak for features that repeat each other.
    """
    count = gram[-1, -1]
    mean, pixels = gram[-1, :-1] / count, cross[-1] / count
    covariance = gram[:-1, :-1] - count * np.outer(mean, mean)
    # Features that are the same in all images have a variance of rounding errors.
    variance = max(np.trace(covariance), _ROUNDING * np.trace(gram)) / len(mean)
    covariance[np.diag_indices(len(mean))] += strength * variance
    crossed = cross[:-1] - count * np.outer(mean, pixels)
    slopes = scipy.linalg.solve(covariance, crossed, assume_a="pos", overwrite_a=True)
    return slopes, pixels - mean @ slopes


def _scale(pool: Pool | Pairs) -> tuple[np.ndarray, float]:
    """Returns the middle of features, and the power of two that is the size of what remains.

    Products of what remains are near 1, and float32 holds them.
    """
    features = pool.features(_SAMPLE)
    features = features.reshape(len(features), -1)
    largest = float(np.abs(features).max(initial=0)) or 1.0
    middle = (features / largest).mean(axis=0, dtype=np.float64)
    square = np.mean((features / largest - middle) ** 2)
    unit = float(2.0 ** np.round(np.log2(largest * np.sqrt(square)))) if square else 1.0
    return np.asarray(middle * largest, np.float32), unit


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
def _known(
    shape: tuple[int, int, int],
    queries: Queries | Answers,
    batch: Array,
    places: Array,
    scale: tuple[Array, Array],
    some: tuple[Any, ...],
) -> list[tuple[Array, Array]]:
    """Returns, for several members, features with a column of ones, and pixels."""
    pixels = shrunk(batch, shape).reshape(len(batch), -1)
    found = []
    for which in some:
        every = (jnp.broadcast_to(number, len(places)) for number in which)
        features = queries.plain(batch, places, *every).reshape(len(batch), -1)
        features = (features - scale[0][None]) / scale[1]
        ones = jnp.ones((len(batch), 1), features.dtype)
        found.append((jnp.concatenate([features, ones], axis=1), pixels))
    return found


@partial(jax.jit, static_argnums=0)
def _moments(
    shape: tuple[int, int, int],
    queries: Queries | Answers,
    batch: Array,
    places: Array,
    scale: tuple[Array, Array],
    some: tuple[Any, ...],
) -> list[tuple[Array, Array]]:
    """Sums products for several members in one program, whose compiler sees their one edge."""
    found = _known(shape, queries, batch, places, scale, some)
    return [(known.T @ known, known.T @ pixels) for known, pixels in found]
