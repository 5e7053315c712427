"""Solvers as values: each turns an objective into a rule that moves a whole chunk one step. JAX.

A solver treats the images of a chunk independently, and every array of its state has the chunk's
axis first, so that one image's state can be exchanged for another's.
"""

import enum
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from jaxinv.attacks.inversion.objectives import Objective, dot


class Result(enum.IntEnum):
    """End of an image's optimisation."""

    STEPS = 0  # all steps were taken; during the run: it goes on
    CONVERGED = 1
    STALLED = 2  # no step lowers the objective
    DIVERGED = 3  # the objective or a pixel is not finite


class Solver(Protocol):
    """A method of minimisation over `x [B, ...]`, run by `loop.minimize`.

    Both functions are pure and work inside a compiled loop. `step` keeps `x` in the objective's
    box.
    """

    def init(self, objective: Objective, x: Array) -> Any:
        """The state before the first step, arrays `[B, ...]`."""

    def step(self, objective: Objective, x: Array, state: Any) -> tuple[Array, Any, Array]:
        """One step: the next `x`, the next state, and a `Result` for each image, `[B]` int32.

        `CONVERGED` means that this objective is as low as the solver can tell.
        """


def _going_on(x: Array) -> Array:
    return jnp.full(len(x), Result.STEPS, jnp.int32)


class Still(NamedTuple):
    """Leaves every image where it starts."""

    def init(self, objective: Objective, x: Array) -> tuple[()]:
        del objective, x
        return ()

    def step(
        self, objective: Objective, x: Array, state: tuple[()]
    ) -> tuple[Array, tuple[()], Array]:
        del objective
        return x, state, jnp.full(len(x), Result.CONVERGED, jnp.int32)


class FirstOrder(NamedTuple):
    """Projected gradient steps, as an elementwise optax transformation shapes them."""

    transformation: optax.GradientTransformation

    def init(self, objective: Objective, x: Array) -> optax.OptState:
        return jax.vmap(self.transformation.init)(x)

    def step(self, objective: Objective, x: Array, state: Any) -> tuple[Array, Any, Array]:
        update, state = jax.vmap(self.transformation.update)(_gradient(objective, x), state, x)
        return objective.project(optax.apply_updates(x, update)), state, _going_on(x)


def _gradient(objective: Objective, x: Array) -> Array:
    # The sum over the batch: an image's gradient must not depend on how many there are.
    return jax.grad(lambda x: objective(x).sum())(x)


def _free(objective: Objective, x: Array, gradient: Array) -> Array:
    """1 where a pixel can move, 0 where it is at a bound and descent leads out of the box."""
    if objective.box is None:
        return jnp.ones_like(x)
    low, high = objective.box
    held = ((x <= low) & (gradient > 0)) | ((x >= high) & (gradient < 0))
    return 1.0 - held.astype(x.dtype)


def _each(values: Array, like: Array) -> Array:
    """`[B]` to `[B, 1, ...]`, to be broadcast against `like [B, ...]`."""
    return values.reshape(-1, *(1,) * (like.ndim - 1))


class Lbfgs(NamedTuple):
    """L-BFGS directions of `optax.scale_by_lbfgs`, projected, with backtracking for each image.

    Attributes:
      memory: number of past steps that shape the direction.
      halvings: of a step that does not lower the objective enough (Armijo), before it is given up.
    """

    memory: int = 10
    halvings: int = 15

    @property
    def _transformation(self) -> optax.GradientTransformation:
        return optax.scale_by_lbfgs(self.memory)

    def init(self, objective: Objective, x: Array) -> optax.OptState:
        return jax.vmap(self._transformation.init)(x)

    def step(self, objective: Objective, x: Array, state: Any) -> tuple[Array, Any, Array]:
        gradient = _gradient(objective, x)
        free = _free(objective, x, gradient)
        gradient *= free
        direction, state = jax.vmap(self._transformation.update)(gradient, state, x)
        uphill = dot(free * direction, gradient) <= 0
        direction = -free * jnp.where(_each(uphill, x), gradient, direction)
        before = objective(x)

        def attempt(size: Array) -> tuple[Array, Array]:
            moved = objective.project(x + _each(size, x) * direction)
            enough = objective(moved) <= before + 1e-4 * dot(gradient, moved - x)
            return moved, enough

        def shorter(carry):
            size, moved, done, count = carry
            size = jnp.where(done, size, size / 2)
            trial, enough = attempt(size)
            moved = jnp.where(_each(done, x), moved, trial)
            return size, moved, done | enough, count + 1

        size = jnp.ones(len(x), x.dtype)
        _, moved, done, _ = lax.while_loop(
            lambda carry: (carry[3] < self.halvings) & ~carry[2].all(),
            shorter,
            (size, *attempt(size), 0),
        )
        result = jnp.select(
            [~jnp.isfinite(before), ~done],
            [jnp.int32(Result.DIVERGED), jnp.int32(Result.STALLED)],
            jnp.int32(Result.STEPS),
        )
        moved = jnp.where(_each(jnp.isfinite(before), x), moved, jnp.nan)
        done |= ~jnp.isfinite(before)
        return jnp.where(_each(done, x), moved, x), state, result


class LevenbergState(NamedTuple):
    """Damping `[B]`, in the metric of the objective."""

    damping: Array


class LevenbergMarquardt(NamedTuple):
    """Damped Gauss-Newton steps by truncated, preconditioned conjugate gradients.

    The Hessian is `2 J'J` of the residual (its Jacobian is never formed), that of the penalty and
    the prior's. Pixels at a bound that descent would push outwards are held; steps are clipped to
    the box, taken where they lower an image's objective, and damped more where they do not.

    Attributes:
      cg_steps: products with the Hessian a step.
      damping: at first, in the objective's metric.
      tolerance: an image has converged when a step lowers its objective by less than this share, or
        promises no more.
      exact: or when its data term is below this, which is what rounding leaves of a perfect fit;
        what the penalty and the prior could still gain is then not worth a step.
    """

    cg_steps: int = 15
    damping: float = 1e-3
    tolerance: float = 1e-4
    exact: float = 1e-13

    def init(self, objective: Objective, x: Array) -> LevenbergState:
        return LevenbergState(jnp.full(len(x), self.damping, x.dtype))

    def step(self, objective: Objective, x: Array, state: Any) -> tuple[Array, Any, Array]:
        residual, push = jax.linearize(objective.residual, x)
        pull = jax.linear_transpose(push, x)
        slope, bend = jax.linearize(jax.grad(lambda x: objective.penalty(x).sum()), x)
        weight = 0.0 if objective.prior is None else objective.prior_weight
        prior_weight = jnp.broadcast_to(jnp.asarray(weight), (len(x),))
        gradient = 2 * pull(residual)[0] + slope
        if objective.prior is not None:
            gradient += _each(prior_weight, x) * objective.metric(x - objective.prior_mean)
        free = _free(objective, x, gradient)

        def hessian(d: Array) -> Array:
            # d is zero where pixels are held.
            damped = _each(prior_weight + state.damping, x) * objective.metric(d)
            return free * (2 * pull(push(d))[0] + bend(d) + damped)

        def inverse(d: Array) -> Array:
            return free * objective.precondition(d, state.damping)

        d = _conjugate_gradients(hessian, inverse, -free * gradient, self.cg_steps)
        moved = objective.project(x + d)
        misfit = jnp.sum(residual**2, axis=-1)
        before = objective(x)
        after = objective(moved)
        better = after < before
        # A small gain ends it, and so does a step that promises none, be it the next rounding.
        least = self.tolerance * before
        promised = dot(-free * gradient, d) / 2
        minimal = (promised <= least) & (state.damping <= self.damping)
        small = minimal | (better & (before - after <= least))
        damping = state.damping * jnp.where(better, 0.3, jnp.where(minimal, 1.0, 4.0))
        result = jnp.select(
            [~jnp.isfinite(before), small | (misfit <= self.exact), damping > 1e6],
            [jnp.int32(Result.DIVERGED), jnp.int32(Result.CONVERGED), jnp.int32(Result.STALLED)],
            jnp.int32(Result.STEPS),
        )
        x = jnp.where(_each(better, x), moved, x)
        x = jnp.where(_each(jnp.isfinite(before), x), x, jnp.nan)
        return x, LevenbergState(jnp.clip(damping, 1e-7, 2e6)), result


def _conjugate_gradients(hessian, inverse, target: Array, steps: int) -> Array:
    """A few steps towards the solution of `hessian(d) = target`, for each image: `[B, ...]`."""

    def step(_, carry):
        d, residual, direction, energy = carry
        image = hessian(direction)
        curvature = dot(direction, image)
        # Where an image is solved exactly, or its curvature is lost to rounding, it stays.
        going = (curvature > 0) & (energy > 0)
        size = jnp.where(going, energy / jnp.where(going, curvature, 1), 0)
        d = d + _each(size, d) * direction
        residual = residual - _each(size, d) * image
        conjugate = inverse(residual)
        renewed = dot(residual, conjugate)
        share = jnp.where(going, renewed / jnp.where(going, energy, 1), 0)
        return d, residual, conjugate + _each(share, d) * direction, renewed

    direction = inverse(target)
    start = (jnp.zeros_like(target), target, direction, dot(target, direction))
    return lax.fori_loop(0, steps, step, start)[0]
