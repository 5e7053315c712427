"""Upper bounds on the share of images that an attacker re-identifies."""

import math
from collections.abc import Callable

import numpy as np
from scipy import optimize, special

from jaxinv.measures.bounds.channels import Channel
from jaxinv.measures.bounds.divergences import divergence, squared_distances


def fano(through: Channel, features: np.ndarray) -> float:
    """Bounds the share of images that any attacker finds among all of them, each equally likely.

    Images must differ: `linkage.reidentified` counts either of two equal ones as found, so they are
    one image here (`distinct`).
    Source: Fano's inequality; the information of a mixture by Kolchinsky & Tracey 2017, Eq. 10.

    Args:
      through: the noise.
      features: `[M, ...]`, of the map, without noise.
    """
    if through.noise == "dropout":
        return 1.0
    return _found_among(divergence(through, features))


def distinct(images: np.ndarray) -> np.ndarray:
    """Returns the places of images that equal no earlier one, in order."""
    _, first = np.unique(images.reshape(len(images), -1), axis=0, return_index=True)
    return np.sort(first)


def reid_sigma(features: np.ndarray, share: float) -> float:
    """Finds the least Gaussian noise behind which no attacker finds more than a share of images.

    Args:
      features: `[M, ...]`, without noise, of equally likely images.
      share: of them, that may be found.

    Returns:
      Its standard deviation; infinity if 10,000 is not enough.
    """
    divergence = squared_distances(features) / 2
    return least_noise(lambda sigma: _found_among(divergence / sigma**2), share)


def least_noise(
    bound: Callable[[float], float], wanted: float, *, largest: float = 1e4, tolerance: float = 1e-3
) -> float:
    """Finds the least noise at which a bound is at most `wanted`, by bisection.

    Args:
      bound: of the noise's scale; it does not rise with it. NaN counts as no bound.
      wanted: value of the bound.
      largest: scale to look up to.
      tolerance: relative, of the answer.

    Returns:
      The scale, or infinity if even the largest is not enough.
    """

    def holds(scale: float) -> bool:
        return bound(scale) <= wanted

    if not holds(largest):
        return math.inf
    low, high = largest * 1e-8, largest
    while high / low > 1 + tolerance:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _found_among(divergence: np.ndarray) -> float:
    """Bounds the share found, from the divergences of each two releases `[M, M]`, in nats."""
    count = len(divergence)
    mixed = special.logsumexp(-divergence, axis=1) - math.log(count)
    return _most_found(min(float(-mixed.mean()), math.log(count)), count)


def _most_found(nats: float, count: int) -> float:
    """Returns the largest share s with `log M - h(s) - (1 - s) log(M - 1) <= I`."""

    def told(share: float) -> float:
        entropy = special.entr(share) + special.entr(1 - share)
        return math.log(count) - entropy - (1 - share) * math.log(count - 1)

    if count < 2 or told(1.0) <= nats:
        return 1.0
    if told(1 / count) >= nats:  # no information; but for rounding it is zero
        return 1 / count
    return float(optimize.brentq(lambda share: told(share) - nats, 1 / count, 1.0))
