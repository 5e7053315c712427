"""Scores of candidates whose releases are normal, of one covariance for all. NumPy.

Noise at the input is correlated behind the edge; directions in which it is weak tell most.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Score = Callable[[np.ndarray], np.ndarray]
"""`observed [N, F] -> scores of candidates [N, G]`."""

_SHRINKAGE = (1.0, 0.3, 0.1, 0.03, 0.01, 0.001)  # towards independent features
_FLOOR = 1e-6  # least variance of a feature, as a share of the largest


class _Axes(NamedTuple):
    """Features in units of their own spread, and along the directions in which they vary together.

    Attributes:
      centre, scale: `[F]`, of the features.
      vectors: `[F, R]`, orthonormal directions.
      values: `[R]`, the variances there.
    """

    centre: np.ndarray
    scale: np.ndarray
    vectors: np.ndarray
    values: np.ndarray

    def __call__(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scaled = (features - self.centre) / self.scale
        return scaled, scaled @ self.vectors


def scores(means: np.ndarray, deviations: np.ndarray) -> list[Score]:
    """Returns scores at several shrinkages of the covariance towards independent features.

    Args:
      means: `[G, F]`, of each candidate's releases.
      deviations: `[M, F]`, of releases from their candidate's mean.
    """
    variance = (deviations**2).mean(axis=0)
    scale = np.sqrt(np.maximum(variance, max(_FLOOR * float(variance.max()), 1e-30)))
    axes = _Axes(means.mean(axis=0), scale, *_directions(deviations / scale))
    known = axes(means)
    return [_score(axes, known, each) for each in _SHRINKAGE]


def _score(axes: _Axes, known: tuple[np.ndarray, np.ndarray], shrinkage: float) -> Score:
    """Returns minus half the squared distance to each candidate, but for each release's own term.

    The covariance is `shrinkage * identity + (1 - shrinkage) * as features vary together`.
    """
    scaled, along = known
    # The inverse: the same everywhere, less what the directions take from it.
    everywhere = 1 / shrinkage
    less = everywhere - 1 / (shrinkage + (1 - shrinkage) * axes.values)
    own = everywhere * (scaled**2).sum(axis=1) - (along**2 * less).sum(axis=1)

    def score(observed: np.ndarray) -> np.ndarray:
        seen, seen_along = axes(observed)
        return everywhere * (seen @ scaled.T) - (seen_along * less) @ along.T - own / 2

    return score


def _directions(scaled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the principal directions of rows `[M, F]`, `[F, R]`, and the variances there."""
    if scaled.shape[1] <= len(scaled):
        values, vectors = np.linalg.eigh(scaled.T @ scaled / len(scaled))
        return vectors, np.maximum(values, 0)
    values, own = np.linalg.eigh(scaled @ scaled.T / len(scaled))
    kept = values > 1e-6 * values.max()
    lengths = np.sqrt(values[kept] * len(scaled))
    return (scaled.T @ own[:, kept]) / lengths, values[kept]
