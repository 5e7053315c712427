"""The Bayes rate of linkage by simulation: nobody who holds the candidates finds more. JAX.

An image is drawn among equally likely candidates and released, and the Bayes attacker names the
likeliest. How often it is right is the most that anyone can find who has the release and the
candidates alone. The rate has an exact interval, as draws are independent; noise is as it is
defined, so that rounding it to a grid can but lower the rate.
"""

import jax
import numpy as np

from jaxinv.attacks.attack import EdgeKnown
from jaxinv.attacks.linkage import exact
from jaxinv.defenses import Defense, Release, last_noise
from jaxinv.measures.bounds.divergences import squared_distances
from jaxinv.measures.bounds.linkage import least_noise
from jaxinv.measures.intervals import Share
from jaxinv.measures.linkage import copies, likeliest, singled_out
from jaxinv.unit_space import Images

RELEASES = 4000
"""Releases that are simulated, at most."""

_LEAST = 100  # releases
_COMPARED, _MULTIPLIED = 5e8, 1e10  # features of candidates, for all releases; as products
_CHUNK = 200  # releases that are drawn at once


def rate(known: EdgeKnown, candidates: Images, *, seed: int, member: int = 0) -> Share | None:
    """Estimates the share of releases whose input the Bayes attacker names.

    Args:
      known: the edge and its defenses.
      candidates: `[G, *input_shape]` in unit space.
      seed: of everything that is drawn.
      member: number of the defense in the family.

    Returns:
      The share, of independent releases; None where the likelihood has no closed form, or where
      noise is not rounded: its own grid may tell more than its density.
    """
    defense = known.family[member]
    if not exact.applies(defense) or not _is_told_by_density(defense):
        return None
    key = jax.random.key(seed)
    size = Release(known.edge, known.params, candidates[:1], defense, key)[np.arange(1)].size
    number = _number(len(candidates) * size, _COMPARED)
    places = np.random.default_rng(seed).integers(len(candidates), size=number)
    drawn = candidates[places]
    release = Release(known.edge, known.params, drawn, defense, key, releases=known.releases)
    scores = exact.scores(known, candidates, release.each(), member)
    right = singled_out(scores, candidates, places=places, seed=seed)
    return Share(float(right.mean()), number)


class GaussianLinkage:
    """The Bayes attacker behind Gaussian noise of any size, on the same draws for all sizes.

    Args:
      features: `[G, ...]`, of the candidates, to which the noise is added.
      candidates: `[G, *input_shape]` in unit space.
      seed: of everything that is drawn.
    """

    def __init__(self, features: np.ndarray, candidates: Images, *, seed: int):
        self._own, self._seed = copies(candidates), seed
        rng = np.random.default_rng(seed)
        flat = np.asarray(features, np.float32).reshape(len(features), -1)
        flat = flat - flat.mean(axis=0)
        number = _number(flat.size, _MULTIPLIED)
        self._places = rng.integers(len(flat), size=number)
        self._apart = squared_distances(flat)[self._places]
        # The noise along what the drawn image's features are more than each candidate's.
        self._along = np.empty(self._apart.shape)
        for begin in range(0, number, _CHUNK):
            own = flat[self._places[begin : begin + _CHUNK]]
            noise = rng.standard_normal(own.shape, np.float32)
            ahead = (noise * own).sum(axis=1, keepdims=True) - noise @ flat.T
            self._along[begin : begin + _CHUNK] = ahead

    def rate(self, sigma: float) -> Share:
        """Estimates the share of releases whose input is named, behind noise of a deviation."""
        # Squares of noise alone are the same for all candidates.
        scores = -self._apart / (2 * sigma**2) - self._along / sigma
        right = likeliest(scores, self._own, seed=self._seed) == self._own[self._places]
        return Share(float(right.mean()), len(self._places))

    def least_sigma(self, share: float) -> float:
        """Finds the least noise at which the estimated rate is at most a share, by bisection.

        Returns:
          Its standard deviation; infinity if 10,000 is not enough.
        """
        return least_noise(lambda sigma: self.rate(sigma).mean, share)


def _is_told_by_density(defense: Defense) -> bool:
    last = last_noise(defense)
    return last is None or last[0].rounded or last[0].noise == "dropout"


def _number(each: int, most: float) -> int:
    """Returns how many releases are simulated, of which one takes so many products."""
    return int(min(RELEASES, max(_LEAST, most // each)))
