"""The obstacle between a white-box attacker and an image: the solver, the prior, or nothing. JAX.

The attacker goes on from what it found, with the data term alone. Where features stay unexplained
the solver is in the way. Where they are explained, and some direction in which the image could
change leaves no trace in them, many images have these features: which of them it was only a prior
can tell. Where every direction shows, the features determine the image, and the cut hides nothing.

A grey level is 1/255. Features stay unexplained where noise of one grey level changes them less
than what is left. A direction shows where one grey level along it changes them by more than
they are rounded. This tells about the neighbourhood of an image, and nothing of others far off.
"""

import enum
import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxinv.attacks.attack import Features
from jaxinv.attacks.whitebox.settings import RmleSettings
from jaxinv.attacks.whitebox.stage import Stage, run_stage
from jaxinv.networks import Network, Params

IMAGES = 4
"""Images that are looked into, at most."""

_GREY = 1 / 255
_AT_ONCE = 32  # directions
_MOST_INPUTS = 4096  # of an image whose directions are counted and whose solver goes on
_INPUTS = 2**25  # squared inputs of all images together, at most
_MOST_DERIVATIVES = 2**28  # of the Jacobian of an image whose directions are counted
_BLOCK = 2**22  # derivatives in float64 at once
_SETTINGS = RmleSettings("lm", steps=40, cg_steps=30)


class Obstacle(enum.Enum):
    """The solver, the prior or nothing; unknown where that cannot be told."""

    SOLVER = "solver"
    PRIOR = "prior"
    NOTHING = "nothing"
    UNKNOWN = "unknown"


class Diagnosis(NamedTuple):
    """Facts about K reconstructions.

    Attributes:
      misfit: `[K]`, length of the unexplained features by that of all features.
      levels: `[K]`, grey levels of noise that change the features as much.
      shown: `[K]`, number of directions that show; more cannot where it is a bound; -1 unknown.
      inputs: number of directions, that is, of an image's values.
      obstacles: `[K]`.
    """

    misfit: np.ndarray
    levels: np.ndarray
    shown: np.ndarray
    inputs: int
    obstacles: list[Obstacle]

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of a record."""
        counted = {each.value: self.obstacles.count(each) for each in Obstacle}
        shown = [None if count < 0 else int(count) for count in self.shown]
        return {
            "obstacles": {
                "counts": counted,
                "misfit": self.misfit.tolist(),
                "levels": self.levels.tolist(),
                "directions": self.inputs,
                "shown": shown,
            }
        }


def diagnose(edge: Network, params: Params, features: Features, found: np.ndarray) -> Diagnosis:
    """Tells what stands between the attacker and the first images; no original is looked at.

    Args:
      edge: the part of the network on the device.
      params: its parameters.
      features: `[N, *edge.output_shape]`, undefended, as they crossed.
      found: `[N, *edge.input_shape]` in unit space, what an attack made of them.
    """
    count = _number_of_images(edge, len(found))
    observed = np.asarray(features[np.arange(count)])
    images = np.clip(np.where(np.isfinite(found[:count]), found[:count], 0.5), 0, 1)
    selected = edge.select(params)
    misfit, levels = _left(edge, selected, images, observed)
    small = math.prod(edge.input_shape) <= _MOST_INPUTS
    if small and (levels > 1).any():
        images = _gone_on(edge, params, observed, images)
        misfit, levels = _left(edge, selected, images, observed)
    pairs = zip(images, observed, strict=True)
    shown = np.array([shown_directions(edge, selected, *pair) for pair in pairs])
    facts = zip(levels, shown, strict=True)
    obstacles = [
        _obstacle(float(left), int(seen), images[0].size, has_gone_on=small) for left, seen in facts
    ]
    return Diagnosis(misfit, levels, shown, images[0].size, obstacles)


def shown_directions(edge: Network, params: Params, image: np.ndarray, features: np.ndarray) -> int:
    """Counts the directions in which a change of an image shows in its features.

    It is the rank of the Jacobian, of rectifiers that are open, as float32 tells it.

    Args:
      edge: the part of the network on the device.
      params: its parameters, of the edge alone.
      image: `[H, W, C]` in unit space.
      features: `[...]`, of it.

    Returns:
      The number. Of images with more values than can be decomposed the number of features that are
      not zero, which bounds it, if there are fewer than values; else -1.
    """
    inputs = image.size
    open_ = int((features != 0).sum()) if edge.before_rectifier() else features.size
    if inputs > _MOST_INPUTS or inputs * features.size > _MOST_DERIVATIVES:
        return open_ if open_ < inputs else -1
    values = _singular_values(np.asarray(_jacobian(edge, params, image)))
    if not values.any():
        return 0
    one_grey = _GREY * math.sqrt(inputs)
    eps = _eps(features)
    rounding = eps * float(np.linalg.norm(features.astype(np.float64))) / one_grey
    return int((values > max(rounding, values.max() * eps * max(inputs, features.size))).sum())


def _singular_values(rows: np.ndarray) -> np.ndarray:
    """Computes those of `[D, M]` that can differ from zero, by the smaller of its Gram matrices."""
    rows = rows if len(rows) <= rows.shape[1] else rows.T
    step = max(1, _BLOCK // max(1, len(rows)))
    gram = np.zeros((len(rows), len(rows)))
    for begin in range(0, rows.shape[1], step):
        block = rows[:, begin : begin + step].astype(np.float64)
        gram += block @ block.T
    return np.sqrt(np.maximum(np.linalg.eigvalsh(gram), 0))


def _obstacle(levels: float, shown: int, inputs: int, *, has_gone_on: bool) -> Obstacle:
    if not levels <= 1:
        return Obstacle.SOLVER if has_gone_on else Obstacle.UNKNOWN
    if shown < 0:
        return Obstacle.UNKNOWN
    return Obstacle.PRIOR if shown < inputs else Obstacle.NOTHING


def _number_of_images(edge: Network, count: int) -> int:
    squared = min(math.prod(edge.input_shape), _MOST_INPUTS) ** 2
    return max(1, min(count, IMAGES, _INPUTS // squared))


def _gone_on(edge: Network, params: Params, observed: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Lowers the data term alone, from images that were found."""
    weights = np.broadcast_to(_SETTINGS.weights, (len(images), 2, 2))
    made = run_stage(edge, params, observed, Stage(_SETTINGS), images, weights).images
    return np.where(np.isfinite(made), made, images)


def _left(
    edge: Network, params: Params, images: np.ndarray, observed: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Measures the unexplained features, by the length of all and by grey levels of noise."""
    key = jax.random.key(0)
    noise = _GREY * np.asarray(jax.random.rademacher(key, images.shape, np.float32))
    made = [np.asarray(_features(edge, params, each)) for each in (images, images + noise)]
    flat = [each.reshape(len(images), -1).astype(np.float64) for each in (*made, observed)]
    here, beside, seen = flat
    left, change, whole = (
        np.linalg.norm(each, axis=1) for each in (here - seen, beside - here, seen)
    )
    whole = np.maximum(whole, np.finfo(np.float32).tiny)
    rounding = _eps(observed) * whole
    return left / whole, np.maximum(left - 4 * rounding, 0) / np.maximum(change, rounding)


def _eps(features: np.ndarray) -> float:
    """Returns the rounding of features, relative to their size."""
    return float(jnp.finfo(features.dtype).eps)


@partial(jax.jit, static_argnums=0)
def _features(edge: Network, params: Params, images: Array) -> Array:
    return edge.wide.apply(params, images)


@partial(jax.jit, static_argnums=0)
def _jacobian(edge: Network, params: Params, image: Array) -> Array:
    """Computes the derivative `[D, M]` of the features by each value of an image `[H, W, C]`."""
    size = image.size
    rows = -(-size // _AT_ONCE) * _AT_ONCE
    directions = jnp.eye(rows, size).reshape(-1, _AT_ONCE, *image.shape)

    def push(tangents: Array) -> Array:
        # Directions are a batch: convolutions in a loop have no rule for a further axis.
        batch = jnp.broadcast_to(image[None], tangents.shape)
        _, change = jax.jvp(partial(edge.wide.apply, params), (batch,), (tangents,))
        return change.reshape(_AT_ONCE, -1)

    return jax.lax.map(push, directions).reshape(rows, -1)[:size]
