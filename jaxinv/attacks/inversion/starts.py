"""Starts of an optimisation: those that give it no direction, and others in their place. JAX.

At a grey image all rectifiers of a layer may be closed. No gradient passes them, and an attack that
begins there ends there.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxinv.attacks.inversion.objectives import Objective


def elsewhere(shape: tuple[int, ...]) -> np.ndarray:
    """Returns other starts than grey, in order: black, white and noise, `[3, *shape]`."""
    noise = np.random.default_rng(0).random(shape, np.float32)
    return np.stack([np.zeros(shape, np.float32), np.ones(shape, np.float32), noise])


def first_with_a_slope(objective: Objective, x: Array, others: Array) -> tuple[Array, Array]:
    """Chooses the first start of each image at which its data term is not flat.

    Args:
      objective: of B images.
      x: `[B, ...]`, the first start of each.
      others: `[K, ...]`, K >= 0, the next ones, for all.

    Returns:
      `[B, ...]`, the starts, `x` where all are flat; and `[B]` bool, where all are.
    """

    def look(carry, tried):
        chosen, flat = carry
        takes = flat & ~objective.is_flat(tried)
        mask = takes.reshape(-1, *(1,) * (x.ndim - 1))
        return (jnp.where(mask, tried, chosen), flat & ~takes), None

    rest = jnp.broadcast_to(others[:, None], (len(others), *x.shape)).astype(x.dtype)
    every = jnp.concatenate([x[None], jax.vmap(objective.project)(rest)])
    return jax.lax.scan(look, (x, jnp.ones(len(x), bool)), every)[0]


def unmoved(start: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Tests which images moved by less than half a grey level everywhere, `[N]` bool.

    Args:
      start: `[N, ...]` in unit space.
      images: `[N, ...]`, where they ended.
    """
    return (np.abs(images - start) < 0.5 / 255).reshape(len(images), -1).all(axis=1)
