"""Intervals of means over several networks and the same images, where both are samples. NumPy.

Each of S networks (targets of several seeds, or an attacker's shadows) is tried on each of N
images. Both differ, and neither S nor N alone says how well the mean over both is known. With A the
variance of the networks' means divided by S, and B that of the images' means divided by N, the
variance of the mean over both is at most about A + B: either counts what the two do together, too.
Student's quantile, squared, multiplies either before they are added, so that the interval holds the
mean at least as often as it says, however few networks there are. All of that is for means that are
about normal, and shown, not judged by.

Where a limit is judged, images are allowed any distribution (`widened`): errors over images and
over networks are added, each at half of the errors that are allowed. Only the networks' means are
taken to be about normal then, for few networks tell nothing of rare ones.

Sources: Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1, 2007 (the variance);
Banerjee, Sankhya A 23, 1961 (the quantiles).
"""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from jaxinv.measures.intervals import CONFIDENCE, Ends, Sample


def interval(
    by_network: ArrayLike,
    by_image: ArrayLike,
    *,
    least: float = -math.inf,
    most: float = math.inf,
    confidence: float = CONFIDENCE,
) -> Ends:
    """Returns the interval of a mean over networks and images.

    Args:
      by_network: `[S]`, the mean over images of each network.
      by_image: `[N]`, the mean over networks of each image.
      least, most: between which values are; the interval is cut there.
      confidence: of the interval.

    Returns:
      The interval: of images alone where there is one network, of networks alone where there is one
      image, none where there is one of both or of neither any.
    """
    parts = [np.asarray(values, np.float64) for values in (by_network, by_image)]
    parts = [values[np.isfinite(values)] for values in parts]
    known = [values for values in parts if len(values) > 1]
    if not known:
        return Ends()
    mean = float(known[-1].mean())
    half = math.hypot(*(reach(values, confidence) for values in known))
    return Ends(max(mean - half, least), min(mean + half, most))


def widened(
    over_images: Sample | None,
    by_network: ArrayLike,
    *,
    least: float,
    most: float,
    confidence: float = CONFIDENCE,
) -> Ends:
    """Returns the interval of a mean over networks and images that holds for all score images have.

    Args:
      over_images: the images' means over the networks; None where there are none.
      by_network: `[S]`, the mean over images of each network; of one its own spread is unknown, and
        the interval is over images alone.
      least, most: between which values are; the interval is cut there.
      confidence: of the interval.
    """
    known = np.asarray(by_network, np.float64)
    known = known[np.isfinite(known)]
    several = len(known) > 1
    half = (1 + confidence) / 2 if several else confidence
    low, high = Ends() if over_images is None else over_images.interval(half)
    if low is None or high is None:
        return Ends()
    further = reach(known, half) if several else 0.0
    return Ends(max(low - further, least), min(high + further, most))


def reach(values: ArrayLike, confidence: float = CONFIDENCE) -> float:
    """Returns how far Student's interval of the mean of two or more values reaches."""
    values = np.asarray(values, np.float64)
    quantile = special.stdtrit(len(values) - 1, (1 + confidence) / 2)
    return float(quantile * values.std(ddof=1) / math.sqrt(len(values)))
