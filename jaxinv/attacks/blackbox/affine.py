"""Exact recovery behind an affine edge, from queries of its weights. JAX, NumPy.

Where each feature sees a window of the image, as behind convolutions, a few hundred queries tell
all weights, whatever the size of the image (`windows`). Elsewhere it is a query for each value.
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import numpy as np
from jax import Array
from jax.tree_util import Partial

from jaxinv.attacks.blackbox import systems, windows
from jaxinv.attacks.learned.queries import drawn
from jaxinv.defenses import Query
from jaxinv.machine import devices

_TOLERANCE = 1e-4  # of features, beside their length, which an affine map has to explain
_PROBES = 2  # queries that tell most edges from affine ones, beside that of the black image
_MOST_ERROR = 1e-2  # of pixels of the known image: its solution is as good as the edge allows


Probe = tuple[np.ndarray, np.ndarray]  # a known image `[D]`, and the answer `[M]`


class AffineAttempt(NamedTuple):
    """Attempt at an affine edge.

    Attributes:
      system: tells images from features; None where the edge is another or leaves them ambiguous.
      weights: number of queries that asked for its weights; 0 if not asked.
      probes: number of queries besides.
      found: what the queries tell of the edge, in words.
    """

    system: systems.System | None
    weights: int
    probes: int
    found: str

    @property
    def queries(self) -> int:
        return self.weights + self.probes


def ask(
    query: Query,
    features: np.ndarray,
    image_shape: tuple[int, ...],
    *,
    key: Array,
    num_queries: int,
) -> AffineAttempt:
    """Queries the weights of an edge, unless that cannot help.

    Two probes reveal most edges that are not affine. Without queries for these, observed features
    that look rectified do.

    Args:
      query: the release, as a function.
      features: `[n, ...]`, some of those observed.
      image_shape: `(H, W, C)`.
      key: of a defense's draws.
      num_queries: at most so many.
    """
    size, values = math.prod(image_shape), math.prod(features.shape[1:])
    if values < size:
        return AffineAttempt(None, 0, 0, "sends fewer values than an image has")
    asker = _Asker(
        query if isinstance(query, Partial) else Partial(query), image_shape, key, num_queries
    )
    grids = _grids(image_shape, values)
    single = values * size <= systems.MOST_VALUES and num_queries > size
    if not single and not (grids and num_queries >= 2 + _PROBES + windows.CODES * grids[0].count):
        return AffineAttempt(None, 0, 0, _lacking(size, values, num_queries))
    probes = not single or num_queries > size + _PROBES
    if not probes and features.min() >= 0 and (features == 0).mean() > 0.01:
        return AffineAttempt(None, 0, 0, "looks rectified")
    black = np.zeros((1, *image_shape), np.float32)
    offset = asker.images(black)[0]
    if not probes:
        return _from_impulses(asker, offset, None)
    image = np.random.default_rng(0).random((1, *image_shape), np.float32)
    whole, half = asker.images(np.concatenate([image, image / 2]))
    probe = image.reshape(-1), whole
    bent = np.linalg.norm(half - (whole + offset) / 2)
    if not bent <= _TOLERANCE * np.linalg.norm(whole - offset):
        return AffineAttempt(None, 0, _PROBES + 1, "not affine")
    for each in grids:
        if not asker.can_try(each, values):
            break
        weight = windows.weight(each, asker.coded(each, offset), offset)
        if weight is not None and _explains(weight, offset, probe):
            return _attempt(weight, offset, asker.asked - _PROBES, probe)
    return _from_impulses(asker, offset, probe)


def _grids(shape: tuple[int, ...], values: int) -> list[windows.Grids]:
    """Returns the grids that cost less than a query for each value, and fit into memory."""
    height, width, channels = shape
    every = [windows.Grids((height, width, channels), each) for each in windows.SPACINGS]
    most = min(math.prod(shape) / windows.CODES, windows.MOST_ANSWERS / values)
    return [grids for grids in every if grids.count < most]


@dataclasses.dataclass
class _Asker:
    """Asks, and counts what it has asked."""

    query: Partial
    shape: tuple[int, ...]
    key: Array
    budget: int
    asked: int = 0

    def places(self, number: int) -> np.ndarray:
        """Counts queries, and gives them the places that decide a defense's draws."""
        self.asked += number
        return np.arange(self.asked - number, self.asked, dtype=np.int32)

    def images(self, images: np.ndarray) -> np.ndarray:
        return np.asarray(_flat(self.query, self.key, images, self.places(len(images))))

    def coded(self, grids: windows.Grids, offset: np.ndarray) -> windows.Ask:
        def ask(numbers: np.ndarray, codes: np.ndarray) -> np.ndarray:
            rows = (each.astype(np.int32) for each in (numbers, codes))
            answers = devices.in_slices(
                _codes,
                self.places(len(numbers)),
                *rows,
                static=(grids,),
                shared=(self.query, self.key),
            )
            return answers - offset

        return ask

    @property
    def left(self) -> int:
        return self.budget - self.asked

    def can_try(self, grids: windows.Grids, values: int) -> bool:
        """Returns whether a trial of coded grids leaves enough for these, or for single values."""
        size, trial = math.prod(self.shape), windows.CODES + 1
        single = size if size <= self.left and size * values <= systems.MOST_VALUES else 0
        return self.left >= trial + max(single, windows.CODES * (grids.count - 1))


def _explains(weight: systems.Weight, offset: np.ndarray, probe: Probe) -> bool:
    """Returns whether weights tell the answer to an image that they were not made of."""
    image, answer = probe
    wanted = answer - offset
    left = np.linalg.norm(image[None] @ weight - wanted)
    return bool(left <= _TOLERANCE * np.linalg.norm(wanted))


def _from_impulses(asker: _Asker, offset: np.ndarray, probe: Probe | None) -> AffineAttempt:
    """Asks for each value of an image by itself."""
    size, values, probes = math.prod(asker.shape), len(offset), _PROBES if probe else 0
    if asker.left < size or values * size > systems.MOST_VALUES:
        lacking = _lacking(size, values, asker.left)
        return AffineAttempt(None, asker.asked - probes, probes, lacking)
    weight = devices.in_slices(
        _impulses,
        asker.places(size),
        np.arange(size, dtype=np.int32),
        static=(tuple(asker.shape),),
        shared=(asker.query, asker.key),
    )
    weight -= offset
    if probe:
        # The rounding of the offset is in every weight, and would add up.
        image, answer = probe
        slip = (answer - offset - image @ weight) / (image.sum() - 1)
        weight, offset = weight + slip, offset - slip
    return _attempt(weight, offset, asker.asked - probes, probe)


def _lacking(size: int, values: int, left: int) -> str:
    if values * size > systems.MOST_VALUES:
        return f"its {values:,} x {size:,} weights are too many to be kept"
    return f"its weights would take {size:,} queries, {left:,} were left"


@jax.jit
def _flat(query: Query, key: Array, images: Array, places: Array) -> Array:
    """Answers `[N, M]`."""
    with devices.exact():
        return drawn(query, key, images, places).reshape(len(images), -1)


def _impulses(
    shape: tuple[int, ...], query: Query, key: Array, places: Array, values: Array
) -> Array:
    """Answers to images of which one value is 1 and all others 0."""
    images = jax.nn.one_hot(values, math.prod(shape), dtype=np.float32).reshape(-1, *shape)
    return _flat(query, key, images, places)


def _codes(
    grids: windows.Grids, query: Query, key: Array, places: Array, numbers: Array, codes: Array
) -> Array:
    """Answers to codes of grids."""
    return _flat(query, key, grids.images(numbers, codes), places)


def _attempt(
    weight: systems.Weight, offset: np.ndarray, asked: int, probe: Probe | None
) -> AffineAttempt:
    """Prepares to solve for images, and tries it on the one that is known."""
    probes = _PROBES if probe else 0
    try:
        system = systems.factorised(weight, offset)
        if probe and not _finds(system, *probe):
            raise systems.UnsolvedError(systems.AMBIGUOUS)
    except systems.UnsolvedError as error:
        return AffineAttempt(None, asked, probes, str(error))
    return AffineAttempt(system, asked, probes, "affine")


def _finds(system: systems.System, image: np.ndarray, answer: np.ndarray) -> bool:
    """Returns whether the solution for a known image is that image."""
    found = system.solve(answer[None])
    return found is not None and bool(np.sqrt(np.mean((found - image) ** 2)) < _MOST_ERROR)
