"""Objectives of attacks: a residual in feature space and priors in pixels, per image. JAX.

Every value is per image, `[B]`; the loop sums them, so that no image sees how many others are
attacked with it.
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxinv.attacks.inversion.priors import Gaussian


@dataclasses.dataclass(frozen=True)
class Objective:
    """`||residual(x)||^2 + penalty(x)`, and a Gaussian prior if there is one, per image.

    Attributes:
      residual: `[B, ...] -> [B, M]`, the data term before it is squared.
      penalty: `[B, ...] -> [B]`, convex; for second-order solvers also twice differentiable.
      box: least and greatest value of `x`, each broadcastable to it; None where it is free.
      prior: of the Gaussian term; None where there is none.
      prior_mean: `[B, ...]` or broadcastable to it, where the Gaussian term is zero.
      prior_weight: `[B]`, of half its squared Mahalanobis distance a pixel value.
      data_weight: `[B]`, what the squares of the residual carry beside the edge's own curvature; it
        only shapes the preconditioner.
      settled: `[B]` or one for all, whether no weight will change any more.
    """

    residual: Callable[[Array], Array]
    penalty: Callable[[Array], Array]
    box: tuple[ArrayLike, ArrayLike] | None = None
    prior: Gaussian | None = None
    prior_mean: Array | float = 0.0
    prior_weight: Array | float = 0.0
    data_weight: Array | float = 1.0
    settled: Array | bool = True

    def __call__(self, x: Array) -> Array:
        return self.misfit(x) + self.penalty(x) + self._distance(x)

    def misfit(self, x: Array) -> Array:
        """The data term, `[B]`."""
        return jnp.sum(self.residual(x) ** 2, axis=-1)

    def is_flat(self, x: Array) -> Array:
        """Tests if the data term has no slope to follow at `x`, `[B]` bool.

        By its gradient, a step of 1 in every pixel changes it by no more than rounding does. A
        perfect fit has none, and is not flat: there is nothing to follow.
        """
        misfit, pull = jax.vjp(self.misfit, x)
        (gradient,) = pull(jnp.ones_like(misfit))
        reach = jnp.abs(gradient).sum(axis=tuple(range(1, x.ndim)))
        return (misfit > 0) & (reach <= jnp.finfo(misfit.dtype).eps * misfit)

    def project(self, x: Array) -> Array:
        """The nearest point of the box."""
        return x if self.box is None else jnp.clip(x, *self.box)

    def metric(self, d: Array) -> Array:
        """The prior's precision, or without a prior the identity, times `d`, over its pixel values.

        `[B, ...] -> [B, ...]`.
        """
        count = d[0].size
        return (d if self.prior is None else self.prior.precision_times(d)) / count

    def precondition(self, d: Array, damping: Array) -> Array:
        """Roughly the inverse of the Hessian, damped in the prior's metric, times `d [B, ...]`."""
        if self.prior is None:
            return d
        weight = (self.prior_weight + damping) / d[0].size
        return self.prior.solve(d, jnp.broadcast_to(self.data_weight, (len(d),)), weight)

    def _distance(self, x: Array) -> Array | float:
        if self.prior is None:
            return 0.0
        d = x - self.prior_mean
        return self.prior_weight / 2 * dot(d, self.metric(d))


def dot(a: Array, b: Array) -> Array:
    """Inner product of each image with its counterpart: `[B, ...], [B, ...] -> [B]`."""
    return jnp.sum(a * b, axis=tuple(range(1, a.ndim)))


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


def rectified_difference(before: Array, observed: Array, limit: float = math.inf) -> Array:
    """The residual behind a rectifier, for features taken before it.

    Where the observed value is positive, the rectifier was open: `z - v`. Where it is zero, all
    that is known is `z <= 0`: `max(z, 0)`. Unlike `relu(z) - v`, its gradient does not vanish where
    a closed rectifier should be open.

    Args:
      before: `[B, ...]`, the features `z` that went into the rectifier.
      observed: `[B, ...]`, what came out of it.
      limit: the largest value that it lets through; there, all that is known is `z >= limit`.

    Returns:
      `[B, M]`.
    """
    residual = jnp.where(observed > 0, before - observed, jnp.maximum(before, 0))
    if limit < math.inf:
        residual = jnp.where(observed >= limit, jnp.minimum(before - limit, 0), residual)
    return residual.reshape(len(observed), -1)
