"""Lower bounds on the mean squared error of reconstructions."""

import math

import numpy as np
from scipy import optimize, special

from jaxinv.measures.bounds.channels import Channel
from jaxinv.measures.bounds.divergences import overlap, squared_distances
from jaxinv.measures.bounds.fisher import Information
from jaxinv.measures.bounds.imperfection import total_variation
from jaxinv.measures.bounds.lipschitz import OUTWARD
from jaxinv.measures.bounds.spectra import Spectrum

_ENOUGH = 8  # draws for each symbol, for an entropy
_CHUNK = 256  # places at once


def cramer_rao(through: Channel, known: Information) -> np.ndarray:
    """Bounds the mean squared error of attackers without bias, at each image `[N]`.

    The bound is infinite where the map forgets a direction, or tells so little of it that single
    precision cannot say which: no attacker is without bias there, or its error has no limit.
    Source: Cramer-Rao; Laplace noise of scale b has the information 1 / b^2.
    """
    values, weights = known.at
    size = math.prod(through.network.input_shape)
    if math.prod(through.network.output_shape) < size:
        return np.full(len(values), np.inf)
    least = values.max(axis=-1, keepdims=True) * (size * np.finfo(np.float32).eps + OUTWARD)
    told = values > least
    none = np.where(weights < 1e-9, 0, np.inf)  # a node that stands for nothing counts for nothing
    inverse = np.where(told, 1 / np.where(told, values, 1), none)
    if not through.information:
        return np.full(len(values), np.nan)
    return (weights * inverse).sum(axis=-1) / through.information


def van_trees(through: Channel, spectrum: Spectrum, dither: float) -> np.ndarray:
    """Bounds the mean squared error of any attacker, who may know each image without dither, `[N]`.

    The Bayesian Cramer-Rao bound: Gaussian dither has the information 1 / dither^2, whatever the
    image. Source: Van Trees 1968; Gill & Levit 1995.
    """
    inverse = 1 / (through.information * spectrum.values + dither**-2)
    return (spectrum.weights * inverse).sum(axis=-1)


def rate(bits: float, size: int, dither: float) -> float:
    """Bounds the mean squared error of any attacker who receives some bits of a dithered image.

    Source: Shannon's lower bound on the rate of a source with the entropy of its dither.

    Args:
      bits: that cross the wire.
      size: pixel values of an image.
      dither: its standard deviation.
    """
    return dither**2 * 2 ** (-2 * bits / size)


def entropy(symbols: np.ndarray, bits: float) -> float:
    """Estimates an upper bound on the bits of sent symbols: the sum of every place's entropy.

    Information that places share is counted several times. The entropy of few draws is too low,
    and is corrected to first order (Miller 1955). With too few draws for that, a place counts with
    the entropy of a normal distribution of its variance, or with `bits`.

    Args:
      symbols: `[S, ...]` whole numbers, S draws of one example's symbols.
      bits: of each symbol.
    """
    draws = len(symbols)
    flat = symbols.reshape(draws, -1)
    total = 0.0
    for begin in range(0, flat.shape[1], _CHUNK):
        part = np.sort(flat[:, begin : begin + _CHUNK], axis=0)
        width = part.shape[1]
        first = np.ones_like(part, bool)
        first[1:] = part[1:] != part[:-1]
        begins = np.flatnonzero(first.T)  # of runs of equal symbols, place by place
        share = np.diff(begins, append=part.size) / draws
        distinct = np.bincount(begins // draws, minlength=width)
        nats = np.bincount(begins // draws, weights=special.entr(share), minlength=width)
        seen = (nats + (distinct - 1) / (2 * draws)) / math.log(2)
        most = np.log2(2 * math.pi * math.e * (part.var(axis=0) + 1 / 12)) / 2
        total += np.minimum(np.where(_ENOUGH * distinct <= draws, seen, most), bits).sum()
    return float(total)


def two_point(through: Channel, images: np.ndarray, features: np.ndarray) -> float:
    """Bounds the mean squared error of any attacker, on average over images that it may know.

    The attacker may even know that an image is one of two equally likely ones. It then errs by
    `d^2/2 E[p q / (p + q)]`, for d their distance. Images are paired so that the sum is largest,
    each at most once on either side.
    Noise as it is drawn lowers the expectation by at most its total variation from ideal noise: it
    is the least mean loss of an answer between 0 and 1, which is itself between 0 and 1.
    Source: Le Cam. Gaussian noise has the exact Bayes risk; other noise a bound by the affinity.

    Args:
      through: the noise.
      images: `[N, H, W, C]` in unit space.
      features: `[N, ...]`, of the map, without noise.
    """
    drawn = np.maximum(overlap(through, features) - total_variation(through, features[0].size), 0)
    risk = squared_distances(images) / images[0].size / 2 * drawn
    first, second = optimize.linear_sum_assignment(risk, maximize=True)
    return float(risk[first, second].mean()) * (1 - 1e-9)
