"""Choices that an attacker makes on images of its own before it attacks. NumPy.

Most of its images teach (a covariance, an inverse map, a correction). The last are held out: some
tell how far a lesson can be trusted, and on the very last, the trial images, settings are chosen.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from jaxinv.attacks.attack import EdgeKnown
from jaxinv.attacks.learned import inverse
from jaxinv.attacks.learned.queries import divide
from jaxinv.defenses import NONE, Release
from jaxinv.measures import quality
from jaxinv.networks import Network
from jaxinv.unit_space import Images

# Trials, and attacks that a correction learns from, may cost so many activations of the edge,
# within bounds of images.
_TRIAL_ACTIVATIONS, _LEAST_TRIALS = 3_000_000, 8
_TAUGHT_ACTIVATIONS, TAUGHT = 40_000_000, (200, 4000)


class Lessons(NamedTuple):
    """Images of an attacker, divided, `[N, H, W, C]` each.

    Attributes:
      taught: images to learn from.
      held: images held out, to tell errors by.
      trial: images held out, to choose settings by.
      num_queries: number of queries for learning a map.
    """

    taught: Images
    held: np.ndarray
    trial: np.ndarray
    num_queries: int


def divide_lessons(known: EdgeKnown, most_trials: int) -> Lessons:
    """Divides images as a black-box attacker does, so that the two can share an inverse map."""
    taught, held, num_queries = divide(known.images, inverse.NUM_QUERIES)
    rest = np.asarray(held)
    bounds = (min(_LEAST_TRIALS, most_trials), most_trials)
    count = min(affordable(known.edge, _TRIAL_ACTIVATIONS, bounds), -(-len(rest) // 2))
    cut = len(rest) - count
    return Lessons(taught, rest[:cut], rest[cut:], num_queries)


def affordable(edge: Network, activations: int, bounds: tuple[int, int]) -> int:
    """Returns how many images may be attacked for a lesson, within bounds."""
    each = max(1, sum(math.prod(shape) for shape in edge.shapes.values()))
    return max(bounds[0], min(bounds[1], activations // each))


def taught_by_attacks(edge: Network) -> int:
    """Returns how many images a correction may learn from: each of them is attacked."""
    return affordable(edge, _TAUGHT_ACTIVATIONS, TAUGHT)


def undefended(known: EdgeKnown, images: Images) -> Release:
    """Returns the features of images of one's own, by index."""
    return Release(known.edge, known.params, images, NONE, jax.random.key(0))


class Chosen(NamedTuple):
    """Weights that do best on trial images of L defenses.

    Attributes:
      options: `[L]`, numbers of the options.
      quality: `[L]`, mean PSNR in dB on the trial images.
      images: `[L N, H, W, C]`, found with them.
    """

    options: np.ndarray
    quality: np.ndarray
    images: np.ndarray


def choose(
    attack: Callable[[np.ndarray | None, np.ndarray], np.ndarray],
    options: np.ndarray,
    means: np.ndarray | None,
    trial: np.ndarray,
) -> Chosen:
    """Tries every option on the trial images of every defense, in one batch.

    Args:
      attack: `(means [O L N, H, W, C], weights [O L, 2, 2]) -> images [O L N, H, W, C]`.
      options: `[O, L, 2, 2]`, weights as `RmleSettings.weights`.
      means: `[L N, H, W, C]`, where to start; None without an estimate.
      trial: `[N, H, W, C]`, the originals, the same for each defense.
    """
    count, members = options.shape[:2]
    tiled = None if means is None else np.tile(means, (count, 1, 1, 1))
    found = attack(tiled, options.reshape(-1, 2, 2))
    images = found.reshape(count, members, *trial.shape)
    scores = quality.scores(trial, images).reshape(count, members)
    best, each = scores.argmax(axis=0), np.arange(members)
    return Chosen(best, scores[best, each], images[best, each].reshape(-1, *trial.shape[1:]))
