"""Numbers that noise takes, as far as draws of the attacker's own show them. JAX.

Noise of floating-point numbers takes few values, so that a release less the right features is one
of them. Whether these tell anything is seen on releases that the attacker makes: those of
`sampler.noisy` lie on a grid of their own, and tell nothing.
"""

import functools
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxinv import defenses
from jaxinv.defenses import Defense, Mechanism

_DRAWN = 2**20  # numbers at once
_LEAST, _TIMES = 0.03, 2.0  # that right features hit more than others do, where numbers tell


class Hits(NamedTuple):
    """Shares of numbers that are hit by the right features, and by others."""

    right: float
    others: float

    @property
    def tell(self) -> bool:
        """True if the numbers tell right features from others."""
        return self.right > max(self.others + _LEAST, _TIMES * self.others)


def added(defense: Defense) -> tuple[Mechanism, float] | None:
    """Returns the mechanism of a defense's only random step and its level.

    None unless that step is the last one, at the features, and may add noise.
    """
    steps = defenses.in_order(defense)
    random = [step for step in steps if step.mechanism.random]
    if len(random) != 1 or steps[-1] != random[0] or random[0].site != "feature":
        return None
    mechanism, _, level = random[0]
    return None if mechanism.noise == "dropout" else (mechanism, level)


def numbers(
    mechanism: Mechanism, level: float, shape: tuple[int, ...], times: int = 1
) -> np.ndarray:
    """Returns the numbers that a mechanism makes of zeros, sorted, `[T]` float64.

    Args:
      mechanism: adds noise.
      level: of it.
      shape: of one example.
      times: millions of draws.
    """
    # `sampler.noisy` adds the same noise to every value: one program serves all shapes.
    return _numbers(mechanism, level, (_DRAWN,) if mechanism.rounded else shape, times)


@functools.lru_cache(maxsize=4)
def _numbers(mechanism: Mechanism, level: float, shape: tuple[int, ...], times: int) -> np.ndarray:
    found = [
        np.unique(_of_zeros(mechanism, shape, jax.random.key(number), jnp.float32(level)))
        for number in range(times)
    ]
    return np.unique(np.concatenate(found)).astype(np.float64)


@partial(jax.jit, static_argnums=(0, 1))
def _of_zeros(mechanism: Mechanism, shape: tuple[int, ...], key: Array, level: Array) -> Array:
    zeros = jnp.zeros(shape, jnp.float32)
    keys = jax.random.split(key, -(-_DRAWN // max(1, zeros.size)))
    return jax.vmap(mechanism.apply, (0, None, None))(keys, zeros, level)


def hit(known: np.ndarray, noise: np.ndarray, tolerance: np.ndarray | float) -> np.ndarray:
    """Tells which values are one of the known numbers `[T]`, but for a tolerance."""
    above = np.searchsorted(known, noise)
    upper = np.abs(known[np.minimum(above, len(known) - 1)] - noise)
    lower = np.abs(known[np.maximum(above - 1, 0)] - noise)
    return np.minimum(upper, lower) <= tolerance
