"""Scores of candidates by shadows, for an attacker who neither knows nor may query the edge."""

import math
from collections.abc import Sequence

import numpy as np

from jaxinv.attacks.attack import Features

_SURE = 1e4  # nats in a correlation of 1
_SEEN = 1000  # examples of the stream that tell how each feature varies, at most
_LEAST_SEEN, _BYTES = 50, 2**28  # examples at least; bytes of these


def scores(believed: np.ndarray, stream: Features, observed: Sequence[Features]) -> np.ndarray:
    """Correlates released features with what shadows make of candidates.

    A shadow is not the edge, and errs by no noise that is known. So features are compared in units
    of their own spread, in the stream on one side and over the candidates on the other.

    Args:
      believed: `[S, G, ...]`, features of candidates by each shadow.
      stream: features that the cloud was sent.
      observed: single releases of each input, each `[N, ...]`.

    Returns:
      `[N, G]`, sums over shadows and releases, so large that the number of a candidate's copies
      decides among equal ones alone: how likely an error of shadows is is not known.
    """
    fits = max(_LEAST_SEEN, _BYTES // (4 * math.prod(stream.shape[1:])))
    seen = _flat(stream[np.arange(min(_SEEN, fits, len(stream)))])
    every = np.arange(len(observed[0]))
    rows = np.sum([_standard(_flat(part[every]), seen) for part in observed], axis=0)
    return _SURE * np.sum([rows @ _standard(own, own).T for own in map(_flat, believed)], axis=0)


def _flat(features: np.ndarray) -> np.ndarray:
    return np.asarray(features, np.float32).reshape(len(features), -1)


def _standard(features: np.ndarray, population: np.ndarray) -> np.ndarray:
    """Returns features `[N, F]`, of mean 0 and spread 1 over a population, as rows of length 1."""
    spread = population.std(axis=0)
    varied = spread > 1e-6 * max(float(spread.max()), 1e-30)
    standard = np.where(
        varied, (features - population.mean(axis=0)) / np.where(varied, spread, 1), 0
    )
    length = np.linalg.norm(standard, axis=1, keepdims=True)
    return standard / np.maximum(length, 1e-30)
