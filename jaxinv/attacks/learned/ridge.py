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
_HELD, _MOST_HELD = 8, 1000  # one image of so many is held out, and at most so many are
_FEW = 80  # of fewer images one of two is held out
_JUDGED = 256  # pixels by which a penalty is chosen
_FIRST, _FACTOR, _RUNGS = 0.01, 4.0, 8  # the first penalty, a step, and the most steps either way
_BETTER = 0.999  # a step must lower the error to this share, or the search ends
_LARGEST = 100  # of the power of two that is the size of features, either way

Scale = tuple[np.ndarray, np.ndarray]
"""The middle of the features `[L, M]` of each member of a family, and their size `[L]`."""


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
    of the pool's family; L is 1 without a family. A penalty on the weights is chosen on images held
    out, and the map is then fitted to all. Offsets have none.
    """
    scale = _scale(pool)
    each: list[tuple[Array, ...]] = [(jnp.int32(which),) for which in range(pool.members)] or [()]
    groups = [tuple(each[i : i + _AT_ONCE]) for i in range(0, len(each), _AT_ONCE)]
    found = [one for some in groups for one in _maps(pool, scale, some)]
    weights, offsets = [], []
    for (slopes, offset), middle, unit in zip(found, *scale, strict=True):
        weights.append(slopes / unit)
        offsets.append(offset - middle @ weights[-1])
    return jnp.asarray(np.stack(weights), jnp.float32), jnp.asarray(np.stack(offsets), jnp.float32)


@np.errstate(over="ignore", invalid="ignore")  # sums that are not finite have no solution
def _maps(
    pool: Pool | Pairs, scale: Scale, some: tuple[tuple[Array, ...], ...]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns slopes `[M, D]` and offset `[D]` for some members, of features that are scaled."""
    shape = grids.coarse(pool.images.shape[1:], math.prod(pool.feature_shape))
    columns = np.unique(np.linspace(0, math.prod(shape) - 1, _JUDGED).astype(int))
    step, count = _slice(pool), len(pool.images)
    every = 2 if count < _FEW else max(_HELD, -(-count // _MOST_HELD))
    is_held = np.arange(count) % every == every - 1

    def slices(places: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
        for i in range(0, len(places), step):
            yield tuple(np.asarray(array[places[i : i + step]]) for array in pool.batch)

    def add(totals: Any, more: Any) -> Any:
        if totals is None:
            return jax.tree.map(lambda new: np.array(new, np.float64), more)
        for total, new in zip(jax.tree.leaves(totals), jax.tree.leaves(more), strict=True):
            total += np.asarray(new)  # large: in place
        return totals

    def asked(rows: tuple[np.ndarray, ...]) -> list[tuple[Array, Array]]:
        return _examples(shape, pool.queries, *rows, scale, some)

    taught: Any = None
    for rows in slices(np.flatnonzero(~is_held)):
        taught = add(taught, _moments(asked(rows)))
    held: Any = None
    judges: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in some]
    for rows in slices(np.flatnonzero(is_held)):
        examples = asked(rows)
        held = add(held, _moments(examples))
        for judge, (features, pixels) in zip(judges, examples, strict=True):
            judge.append((np.asarray(features), np.asarray(pixels)[:, columns]))
    found = []
    for i, (gram, cross) in enumerate(taught):
        penalty = _FIRST
        if judges[i]:
            known, wanted = map(np.concatenate, zip(*judges[i], strict=True))
            penalty = _penalty(gram, cross[:, columns], known, wanted)
            gram += held[i][0]
            cross += held[i][1]
        found.append(_solved(gram, cross, penalty) or _mean(gram, cross))
    return found


def _penalty(gram: np.ndarray, cross: np.ndarray, known: np.ndarray, wanted: np.ndarray) -> float:
    """Returns the penalty whose map errs least on images that it was not fitted to.

    The search goes from the first penalty up, and then down, as long as the error falls.

    Args:
      gram: `[M + 1, M + 1]`, products of features and of a column of ones, summed over images.
      cross: `[M + 1, D]`, products of these and of pixels.
      known: `[N, M + 1]`, features of images held out, with ones.
      wanted: `[N, D]`, their pixels.
    """

    @functools.cache
    def error(rung: int) -> float:
        found = _solved(gram, cross, _FIRST * _FACTOR**rung) if abs(rung) <= _RUNGS else None
        if found is None:
            return math.inf
        return float(np.mean((known[:, :-1] @ found[0] + found[1] - wanted) ** 2))

    best = next((rung for rung in range(_RUNGS) if math.isfinite(error(rung))), _RUNGS)
    for way in (1, -1):
        while error(best + way) < _BETTER * error(best):
            best += way
    return _FIRST * _FACTOR**best


def _solved(
    gram: np.ndarray, cross: np.ndarray, penalty: float
) -> tuple[np.ndarray, np.ndarray] | None:
    """Solves ridge regression for one penalty, from sums over images.

    Args:
      gram: as of `_penalty`.
      cross: as of `_penalty`.
      penalty: in units of the mean variance of features, for each image.

    Returns:
      Slopes `[M, D]` and offset `[D]`; None where there is no solution: features never change, or
      rounding is more than what they tell.
    """
    count = gram[-1, -1]
    mean, pixels = gram[-1, :-1] / count, cross[-1] / count
    covariance = gram[:-1, :-1] - np.outer(count * mean, mean)
    covariance[np.diag_indices(len(mean))] += penalty * np.trace(covariance) / len(mean)
    crossed = cross[:-1] - np.outer(count * mean, pixels)
    try:
        factor = scipy.linalg.cho_factor(covariance, overwrite_a=True)
        slopes = scipy.linalg.cho_solve(factor, crossed)
    except (scipy.linalg.LinAlgError, ValueError):  # ValueError: some are not finite
        return None
    return slopes, pixels - mean @ slopes


def _mean(gram: np.ndarray, cross: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns slopes of zero, and the mean image."""
    return np.zeros((len(gram) - 1, cross.shape[1])), cross[-1] / gram[-1, -1]


def _scale(pool: Pool | Pairs) -> Scale:
    """Returns the middle of features, and the power of two that is the size of what remains.

    Products of what remains are near 1, and float32 holds them.
    """
    features = pool.features(_SAMPLE)
    features = features.reshape(max(1, pool.members), -1, math.prod(pool.feature_shape))
    features = features.astype(np.float64)
    middle = features.mean(axis=1).astype(np.float32)
    spread = np.sqrt(np.mean((features - middle[:, None]) ** 2, axis=(1, 2)))
    power = np.round(np.log2(spread, where=spread > 0, out=np.zeros_like(spread)))
    return middle, (2.0 ** np.clip(power, -_LARGEST, _LARGEST)).astype(np.float32)


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
def _examples(
    shape: tuple[int, int, int],
    queries: Queries | Answers,
    batch: Array,
    places: Array,
    scale: tuple[Array, Array],
    some: tuple[tuple[Array, ...], ...],
) -> list[tuple[Array, Array]]:
    """Asks for some members in one program, whose compiler sees their one edge.

    Returns, for each, scaled features with a column of ones `[N, M + 1]`, and pixels `[N, D]`.
    """
    pixels = shrunk(batch, shape).reshape(len(batch), -1)
    found = []
    for which in some:
        every = (jnp.broadcast_to(number, len(places)) for number in which)
        features = queries.plain(batch, places, *every).reshape(len(batch), -1)
        middle, unit = (own[which[0] if which else 0] for own in scale)
        ones = jnp.ones((len(batch), 1), features.dtype)
        found.append((jnp.concatenate([(features - middle[None]) / unit, ones], axis=1), pixels))
    return found


@jax.jit
def _moments(examples: list[tuple[Array, Array]]) -> list[tuple[Array, Array]]:
    """Sums products over examples, for each member.

    Penalties can be weak: no device rounds the products.

    Args:
      examples: features with a column of ones `[N, M + 1]`, and pixels `[N, D]`.

    Returns:
      `[M + 1, M + 1]` of the features, and `[M + 1, D]` of these and the pixels.
    """
    product = partial(jnp.matmul, precision="highest")
    return [(product(own.T, own), product(own.T, pixels)) for own, pixels in examples]
