"""Bounds from the number of releases that differ. They hold for any edge, and any noise it draws.

An image X is one of M, each equally likely, and Y is one of K releases. An answer finds a share q
of the images at most (`linkage.commonest`; 1/M where all differ). The chance that Y takes a given
value and that the answer to it finds X is at most q. Summed over the K values, no attacker finds X
with a chance above K q.

A reconstruction of Y is one of K images: the mean squared error is at least that of the best K
images to stand for the M. These lie in a plane of K - 1 dimensions, and so the error is at least
what the first K - 1 principal components leave. Source: Ding & He 2004, the lower bound of K-means.
"""

import math

import numpy as np

from jaxinv.measures.bounds.divergences import squared_distances

_ROUNDING = 1e-9  # share of the sum of all eigenvalues, and of a number, to round outward by


def found_among(bits: float, commonest: float) -> float:
    """Bounds the share of images that any attacker finds, each equally likely.

    Args:
      bits: of a release; two to their power is the number of releases that differ.
      commonest: the largest share that one answer finds, as `linkage.commonest` counts it.

    Returns:
      The share, 1 at most.
    """
    if bits + math.log2(commonest) >= 0:
        return 1.0
    return float(2**bits * commonest)


def certified_reid(bits: float, commonest: float) -> float | None:
    """Returns an upper limit on the share of candidates that any attacker finds by one release.

    Args:
      bits, commonest: as for `found_among`.

    Returns:
      The share, on average over the candidates; None where the bits exclude nothing.
    """
    share = found_among(bits, commonest)
    return share if share < 1 else None


def most_bits(share: float, commonest: float) -> int:
    """Returns the most bits of a release behind which no attacker finds more than a share.

    Args:
      share: of the images, that may be found.
      commonest: as for `found_among`.

    Returns:
      Whole bits; 0 where a single release is too much already.
    """
    return max(0, math.floor(math.log2(share / commonest)))


def least_error(bits: float, images: np.ndarray) -> float:
    """Bounds the mean squared error of any attacker, on average over images that it may know.

    Args:
      bits: of a release.
      images: `[M, H, W, C]`, each equally likely.

    Returns:
      The mean squared error of a pixel value; 0 where as many releases differ as images.
    """
    if bits >= math.log2(len(images)):
        return 0.0
    apart = squared_distances(images)
    # Double centring turns squared distances into products of what is apart from the mean.
    products = -(apart - apart.mean(axis=0) - apart.mean(axis=1)[:, None] + apart.mean()) / 2
    values = np.linalg.eigvalsh(products)
    told = math.floor(2**bits * (1 + _ROUNDING)) - 1
    left = values[: len(values) - told].sum() - _ROUNDING * values.sum()
    return max(float(left), 0.0) / len(images) / images[0].size
