"""What an attack minimises: a residual in feature space and a prior in pixels, per image. JAX.

Every value is per image, `[B]`; the loop sums them, so that no image sees how many others are
attacked with it.
"""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike


@dataclasses.dataclass(frozen=True)
class Objective:
    """`||residual(x)||^2 + penalty(x)`, per image.

    Attributes:
      residual: `[B, ...] -> [B, M]`, the data term before it is squared.
      penalty: `[B, ...] -> [B]`, the prior.
      box: least and greatest value of `x`, each broadcastable to it; None where it is free.
    """

    residual: Callable[[Array], Array]
    penalty: Callable[[Array], Array]
    box: tuple[ArrayLike, ArrayLike] | None = None

    def __call__(self, x: Array) -> Array:
        return jnp.sum(self.residual(x) ** 2, axis=-1) + self.penalty(x)

    def project(self, x: Array) -> Array:
        """The nearest point of the box."""
        return x if self.box is None else jnp.clip(x, *self.box)


def total_variation(x: Array, *, beta: float = 1.0, eps: float = 1e-4) -> Array:
    """Total variation (Eq. 1b): the sum over pixels of `(dy^2 + dx^2)^(beta/2)`.

    At the last row and column, where there is no next pixel, that difference is zero.

    Args:
      x: `[B, H, W, C]`.
      beta: smoothness; 1 is the paper's, isotropic; 2 punishes large steps quadratically.
      eps: added under the root, squared, and subtracted after it: the gradient exists at flat
        pixels, whose variation stays 0.

    Returns:
      `[B]`, in units of `x` to the power of `beta`.
    """
    dy = jnp.pad(x[:, 1:] - x[:, :-1], ((0, 0), (0, 1), (0, 0), (0, 0)))
    dx = jnp.pad(x[:, :, 1:] - x[:, :, :-1], ((0, 0), (0, 0), (0, 1), (0, 0)))
    squared = dy**2 + dx**2
    if beta != 2:
        squared = (squared + eps**2) ** (beta / 2) - eps**beta
    return squared.sum(axis=(1, 2, 3))


def difference(features: Array, observed: Array) -> Array:
    """The plain residual `f1(x) - v` (Eq. 1a), flattened: `[B, ...] -> [B, M]`."""
    return (features - observed).reshape(len(observed), -1)


def rectified_difference(before: Array, observed: Array) -> Array:
    """The residual behind a rectifier, for features taken before it.

    Where the observed value is positive, the rectifier was open: `z - v`. Where it is zero, all
    that is known is `z <= 0`: `max(z, 0)`. Unlike `relu(z) - v`, its gradient does not vanish where
    a closed rectifier should be open.

    Args:
      before: `[B, ...]`, the features `z` that went into the rectifier.
      observed: `[B, ...]`, what came out of it.

    Returns:
      `[B, M]`.
    """
    residual = jnp.where(observed > 0, before - observed, jnp.maximum(before, 0))
    return residual.reshape(len(observed), -1)
