"""By how much noise as it is drawn may differ from ideal noise, and what that takes from a bound.

`sampler.noisy` releases the number of a cell: of the interval, as wide as the grid, that the noisy
value falls in. Let Q be the distribution of the cells under ideal noise and P the one that the
sampler draws from bits that are as good as independent ones. Units are scales of the noise, w is
the width of a cell, and k is `sampler.ERROR`.

The sampler computes the exact function of its bits but for `k r`, r being the radius of a pair of
normal values or the size of a Laplace value, unless bits come up that have a chance of 2^-45 for
each value. A cell [a, b) can gain or lose only what is within `k r` of its ends. Normal noise of
density p has there at most `k (sqrt(a^2 + 1) p(a) + sqrt(b^2 + 1) p(b))`, for the other value of
the pair has a mean square of 1. As a share of the cell's `w p`, the mean square of this is at most
`4 (k / w)^2 E[z^2 + 1] = 8 (k / w)^2`, and of the two values of a pair together at most twice the
sum. So the chi-squared divergence of P from Q is at most `16 (k / w)^2` for each value, and for
Laplace noise at most `8 (k / w)^2`. The 25 in `chi_squared` leaves room for how the density changes
within a cell and for terms of higher order. Pairs are independent, so divergences add.

Dropout draws its mask by a uniform number of 23 bits: a share that is wrong by at most 2^-23.
"""

import math

from scipy import special

from jaxinv.defenses import sampler
from jaxinv.measures.bounds.channels import Channel

_WIDTH = 1 / (1.5 * sampler.STEPS)  # of the narrowest cell, in scales: the nearest power of two
_RARE = 2.0**-45  # chance of bits for which the sampler errs by more, for each value
_UNIFORM = 2.0**-23  # from one number of the mask's uniform numbers to the next
_FAR = 6.0  # standard deviations of dither, beyond which errors are not counted
_ORDERS = 400.0  # most of an order for which the density ratio of a cell is near enough to 1


def chi_squared(values: int) -> float:
    """Bounds the chi-squared divergence of this many drawn values of noise from ideal ones."""
    return 25 * (sampler.ERROR / _WIDTH) ** 2 * values


def total_variation(through: Channel, size: int) -> float:
    """Bounds by how much the chance of any event differs, in all releases of an input.

    Source: Pinsker's inequality; the Kullback-Leibler divergence is at most the chi-squared one.

    Args:
      through: the noise.
      size: number of values of one release.
    """
    values = size * through.releases
    if through.noise == "dropout":
        return min(1.0, values * _UNIFORM)
    return variation_of(values)


def variation_of(values: int) -> float:
    """Bounds the total variation of this many drawn values of added noise from ideal ones."""
    return min(1.0, math.sqrt(chi_squared(values) / 2) + values * _RARE)


def least_error(error: float, dither: float, through: Channel) -> float:
    """Bounds the mean squared error behind the drawn noise by one behind ideal noise.

    Images have Gaussian dither. An attacker loses nothing if its answers are brought within t = 6
    deviations of an image that it knows, and errors at pixels whose dither is beyond these may be
    left out. The rest L is at most `m = (2 t dither)^2`, and under ideal noise at least
    `error - 8 dither^2 (t p(t) + Pr(z > t))`, p being the normal density. By Hoelder's inequality
    with an order a > 1, `E_Q[L] <= (m^(1 / (a - 1)) E_P[L] exp D)^((a - 1) / a)`, where the Renyi
    divergence D of order a of Q from P is at most `a / 2` times the chi-squared one, as long as
    orders are at most 400. So `E_P[L] >= E_Q[L] (E_Q[L] / m)^(1 / (a - 1)) exp(-D)`.

    Args:
      error: lower bound behind ideal noise, in squared unit space.
      dither: its standard deviation.
      through: the noise.
    """
    density = math.exp(-(_FAR**2) / 2) / math.sqrt(2 * math.pi)
    most = (2 * _FAR * dither) ** 2
    beyond = 8 * dither**2 * (_FAR * density + special.ndtr(-_FAR))
    values = math.prod(through.network.output_shape) * through.releases
    left = error - beyond - most * min(1.0, values * _RARE)
    if not left > 0:
        return 0.0
    squared, ratio = chi_squared(values), math.log(most / left)
    order = 1 + min(_ORDERS, math.sqrt(2 * ratio / squared))
    return left * math.exp(-ratio / (order - 1) - order * squared / 2)
