"""Solvers as values: each turns an objective into a rule that moves a whole chunk one step. JAX.

A solver must treat the images of a chunk independently: elementwise transformations do.
"""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxinv.attacks.objectives import Objective


class Solver(Protocol):
    """A method of minimisation over `x [B, ...]`, run by `optimize.minimize`.

    Both functions are pure, treat each image by itself, and work inside a compiled loop. `step`
    keeps `x` in the objective's box.
    """

    def init(self, objective: Objective, x: Array) -> Any:
        """The state before the first step."""

    def step(self, objective: Objective, x: Array, state: Any) -> tuple[Array, Any]:
        """One step: the next `x` and the next state."""


class FirstOrder(NamedTuple):
    """Projected gradient steps, as an elementwise optax transformation shapes them."""

    transformation: optax.GradientTransformation

    def init(self, objective: Objective, x: Array) -> optax.OptState:
        return self.transformation.init(x)

    def step(self, objective: Objective, x: Array, state: optax.OptState):
        # The sum over the batch: an image's gradient must not depend on how many there are.
        gradient = jax.grad(lambda x: objective(x).sum())(x)
        update, state = self.transformation.update(gradient, state, x)
        return objective.project(optax.apply_updates(x, update)), state


class AmsgradState(NamedTuple):
    """First and second moments of the gradient, and the largest second moment yet."""

    step: Array
    mu: Array
    nu: Array
    nu_max: Array


def amsgrad(
    learning_rate: float, *, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> optax.GradientTransformation:
    """Adam with AMSGrad as PyTorch computes it, which the authors' attack used.

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
