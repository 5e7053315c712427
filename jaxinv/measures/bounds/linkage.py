"""Upper bounds on the share of images that an attacker re-identifies.

An image X is one of M, each equally likely, and Y is its release. An attacker's answer finds all
images that the metric takes for one: copies of an image, or of its brightness and contrast. Let s
be the chance that the answer to Y finds X, and let q be the largest share of images that any one
answer finds. Were Y independent of X, the chance would be at most q. Whether X is found is a
function of X and Y, so by data processing `kl(s || q) <= I(X; Y)` for s > q, where kl is the
divergence of two coins. With q = 1/M this is Fano's inequality. The information of a mixture is
bounded by Kolchinsky & Tracey 2017, Eq. 10: `I <= -mean_i log mean_j exp(-KL(i || j))`.
"""

import math
from collections.abc import Callable

import numpy as np
from scipy import optimize, special

from jaxinv.measures.bounds.channels import Channel
from jaxinv.measures.bounds.divergences import divergence, farthest
from jaxinv.measures.bounds.imperfection import total_variation, variation_of


def fano(through: Channel, features: np.ndarray, commonest: float | None = None) -> float:
    """Bounds the share of images that any attacker finds among all of them, each equally likely.

    The noise as it is drawn adds at most its total variation from ideal noise.

    Args:
      through: the noise.
      features: `[M, ...]`, of the map, without noise.
      commonest: the largest share that one answer finds, as `linkage.commonest` counts it; by
        default 1/M, of images that all differ.
    """
    if through.noise == "dropout":
        return 1.0
    found = _found_among(divergence(through, features), commonest or 1 / len(features))
    return min(1.0, found + total_variation(through, features[0].size))


def reid_sigma(features: np.ndarray, share: float, commonest: float | None = None) -> float:
    """Finds the least Gaussian noise behind which no attacker finds more than a share of images.

    Args:
      features: `[M, ...]`, without noise, of equally likely images.
      share: of them, that may be found.
      commonest: as for `fano`.

    Returns:
      Its standard deviation; infinity if 10,000 is not enough.
    """
    apart, least = farthest(features), commonest or 1 / len(features)
    size = features[0].size

    def most(sigma: float) -> float:
        return _found_among(apart / 2 / sigma**2, least) + variation_of(size)

    return least_noise(most, share)


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


def _found_among(divergence: np.ndarray, commonest: float) -> float:
    """Bounds the share found, from the divergences of each two releases `[M, M]`, in nats."""
    mixed = special.logsumexp(-divergence, axis=1) - math.log(len(divergence))
    return _most_found(max(float(-mixed.mean()), 0.0) * (1 + 1e-9) + 1e-13, commonest)


def _most_found(nats: float, commonest: float) -> float:
    """Returns the largest share s with `kl(s || commonest) <= nats`, rounded up."""

    def told(share: float) -> float:
        return float(
            special.rel_entr(share, commonest) + special.rel_entr(1 - share, 1 - commonest)
        )

    if told(1.0) <= nats:
        return 1.0
    found = optimize.brentq(lambda share: told(share) - nats, commonest, 1.0)
    return min(1.0, float(found) * (1 + 1e-9))
