"""Noise that is finer than the grid on which it is released, and that grid. JAX.

Noise of floating-point numbers lies on a grid of its own. Whoever knows the features before the
noise can test whether the release less these features is on it, and so tells the right ones from
all others, however strong the noise is (Mironov 2012). Two things prevent that. Noise is drawn here
from more random bits than a result holds, so that its grid is a few units in the last place of
float32. And a release is rounded to a public grid that is far coarser and depends on the scale of
the noise alone. Rounding is a function of the noisy value, so whatever holds for noise that is not
rounded holds for the release.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array

STEPS = 64
"""Steps of the grid, to the nearest power of two, in a scale of the noise."""

ERROR = 8 * 2.0**-24
"""Most by which float32 noise of a scale misses the exact function of its bits.

For normal noise in radii `sqrt(z1^2 + z2^2)` of a pair, for Laplace noise in its own size. The
sampler errs by at most 5 units of `2^-24`; rounding a level, a norm and a product add one each.
"""

_MANTISSA = 23  # bits of float32
_TOP = 2.0**-32


def noisy(x: Array, noise: Array, scale: Array) -> Array:
    """Returns `x + scale * noise`, rounded to the grid of the scale; `x` at scale 0.

    Its gradient is that without rounding. The result is float32, or wider if x is: 16 bits would be
    a grid that depends on x.

    Args:
      x, noise: of one shape; standard noise, float32.
      scale: float32 scalar.
    """
    return jnp.where(scale > 0, _rounded(x + scale * noise, grid(scale)), x)


def grid(scale: Array) -> Array:
    """Returns the power of two nearest to `scale / STEPS`, exactly, as float32.

    No grid is finer than the least normal number. The scale is float32 and not negative.
    """
    bits = jax.lax.bitcast_convert_type(jnp.asarray(scale, jnp.float32), jnp.int32)
    # A power of two has no mantissa: adding half of one carries into the exponent, or not.
    exponent = (bits + (1 << _MANTISSA - 1)) >> _MANTISSA
    exponent = jnp.maximum(exponent - round(math.log2(STEPS)), 1)
    return jax.lax.bitcast_convert_type(exponent << _MANTISSA, jnp.float32)


@jax.custom_jvp
def _rounded(y: Array, step: Array) -> Array:
    """Returns the nearest multiple of a power of two; the upper one of two, so cells are equal."""
    small = jnp.abs(y) < step * 2.0**_MANTISSA  # what is larger is a multiple already
    multiple = jnp.floor(jnp.where(small, y, 0) / step + 0.5) * step
    # Zero has one sign: that of a rounded number would tell more than the grid.
    return jnp.where(small, jnp.where(multiple == 0, 0, multiple), y)


@_rounded.defjvp
def _rounded_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]):
    return _rounded(*primals), tangents[0]


def normal(key: Array, shape: tuple[int, ...]) -> Array:
    """Draws standard normal noise, float32, up to 9.4 standard deviations.

    A radius from 64 random bits and an angle from 32 give two values. Source: Box & Muller 1958.
    """
    size = math.prod(shape)
    high, low, turn = jax.random.bits(key, (3, (size + 1) // 2), jnp.uint32)
    radius = jnp.sqrt(2 * _exponential(high, low))
    angle = (_float(turn >> 3) + 0.5) * (math.pi / 4 * 2.0**-29)  # an eighth of a turn
    near, far = _signed(jnp.cos(angle), turn & 1), _signed(jnp.sin(angle), turn & 2)
    swapped = (turn & 4) > 0
    directions = jnp.where(swapped, far, near), jnp.where(swapped, near, far)
    pairs = jnp.concatenate([radius * direction for direction in directions])
    return pairs[:size].reshape(shape)


def laplace(key: Array, shape: tuple[int, ...]) -> Array:
    """Draws Laplace noise of scale 1, float32, up to 45, from 63 random bits and a sign."""
    high, low = jax.random.bits(key, (2, *shape), jnp.uint32)
    return _signed(_exponential(high, low), low & 1)


def _exponential(high: Array, low: Array) -> Array:
    """Returns `-log(u)` for a u of 64 bits, with the relative precision of float32 everywhere."""
    upper = (high >> 31) > 0
    high, low = (jnp.where(upper, ~word, word) for word in (high, low))
    less = (_float(high) + (_float(low) + 0.5) * _TOP) * _TOP  # u, or 1 - u if that is less
    return jnp.where(upper, -jnp.log1p(-less), -jnp.log(less))


def _float(word: Array) -> Array:
    return word.astype(jnp.float32)


def _signed(size: Array, bit: Array) -> Array:
    return jnp.where(bit > 0, -size, size)
