"""Adam with AMSGrad as the authors' program runs it. JAX."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array


class AmsgradState(NamedTuple):
    """First and second moments of the gradient, and the largest second moment yet."""

    step: Array
    mu: Array
    nu: Array
    nu_max: Array


def amsgrad(
    learning_rate: float, *, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> optax.GradientTransformation:
    """Adam with AMSGrad as PyTorch computes it, which the authors' training and attack use.

    The maximum is taken over second moments before their bias is corrected; the correction is that
    of the current step. `optax.amsgrad` takes it over corrected moments, or corrects nothing.
    Source: Reddi et al. 2018, in the form of `torch.optim.Adam(amsgrad=True)`.

    Args:
      learning_rate: of every step.
      b1, b2: decay of the moments.
      eps: added to the root of the second moment.
    """

    def init(params):
        zeros = jax.tree.map(jnp.zeros_like, params)
        return AmsgradState(jnp.zeros((), jnp.int32), zeros, zeros, zeros)

    def update(grads, state, params=None):
        del params
        count = state.step + 1
        mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, grads)
        nu = jax.tree.map(lambda n, g: b2 * n + (1 - b2) * g**2, state.nu, grads)
        nu_max = jax.tree.map(jnp.maximum, state.nu_max, nu)
        step_size = learning_rate / (1 - b1**count)
        root = jnp.sqrt(1 - b2**count)
        updates = jax.tree.map(lambda m, n: -step_size * m / (jnp.sqrt(n) / root + eps), mu, nu_max)
        return updates, AmsgradState(count, mu, nu, nu_max)

    return optax.GradientTransformation(init, update)
