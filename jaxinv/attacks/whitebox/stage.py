"""One optimisation of rMLE (He, Zhang & Lee 2021, Eq. 1), over all images at once. JAX."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxinv import defenses
from jaxinv.attacks.attack import Features, Reconstruction
from jaxinv.attacks.inversion import objectives, starts
from jaxinv.attacks.inversion.loop import MakeObjective, Snapshot, chunk_size, minimize
from jaxinv.attacks.inversion.objectives import Objective
from jaxinv.attacks.inversion.priors import Gaussian
from jaxinv.attacks.inversion.solvers import (
    FirstOrder,
    Lbfgs,
    LevenbergMarquardt,
    Solver,
    Still,
)
from jaxinv.attacks.whitebox.settings import RmleSettings
from jaxinv.defenses import Structure
from jaxinv.machine.numbers import length
from jaxinv.networks import Network, Params
from jaxinv.training.amsgrad import amsgrad

Estimate = Callable[[Features, np.ndarray | None], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Stage:
    """Settings and knowledge of one optimisation. An attack is one of them, or several in turn.

    Attributes:
      settings: of the optimisation.
      prior: a Gaussian over images, or over the errors of `estimate`.
      estimate: `(features, found) -> images [N, H, W, C]`: where to start, and the prior's mean,
        from the features and from what the stage before has found (None at the first). Without it
        the start is the prior's mean, or grey; see `RmleSettings.restart`.
      structure: of the defense that the attacker knows to be at the features, whose residual takes
        the place of Eq. 1a; its levels are an argument of `run_stage`. Empty for none.
    """

    settings: RmleSettings
    prior: Gaussian | None = None
    estimate: Estimate | None = None
    structure: Structure = ()


def run_stage(
    edge: Network,
    params: Params,
    features: Features,
    stage: Stage,
    means: np.ndarray | None,
    weights: np.ndarray,
    *,
    levels: np.ndarray | None = None,
    chunk: int | None = None,
    watch: Callable[[Snapshot], None] | None = None,
    watch_every: int = 1,
) -> Reconstruction:
    """Runs one stage.

    Args:
      edge, params, features, chunk, watch_every: as for `rmle.invert`.
      watch: is shown the iterates in work, in unit space.
      stage: what to run; its `estimate` and its settings' weights are not used.
      means: `[N, H, W, C]`, what its `estimate` returned; None if it has none.
      weights: `[N, 2, 2]`, for each image, as `RmleSettings.weights`.
      levels: `[N, P]`, of each step of the stage's structure for each image, as combined releases
        have them; None where it has none.

    Returns:
      A reconstruction, which knows those that are `dead`. Its `info` has, `[N]` each, the
      `objective`, the attacker's own measure of success, of which least is best; `solver_steps`,
      that the solver took; and `solver_result`, of `solvers.Result`.
    """
    settings = stage.settings
    mean, std = _coordinates(edge, settings)
    found = minimize(
        *problem_of(edge, params, features, stage, means, weights, levels=levels),
        steps=settings.steps,
        chunk=chunk or chunk_size(edge, len(features)),
        description=f"rMLE {edge.cuts[-1]}",
        watch=watch and (lambda seen: watch(seen._replace(x=seen.x * std + mean))),
        watch_every=watch_every,
    )
    info = {
        "objective": found.objective,
        "solver_steps": found.steps,
        "solver_result": found.result,
    }
    images, start = found.x * std + mean, found.start * std + mean
    dead = None if means is not None else found.flat | starts.unmoved(start, images)
    return Reconstruction(images, found.seconds, found.compile_seconds, info=info, dead=dead)


class Problem(NamedTuple):
    """Problem of one stage: arguments of `loop.minimize`, in the coordinates of `space`."""

    make_objective: MakeObjective
    params: Any
    inputs: Any
    start: np.ndarray
    solver: Solver
    elsewhere: np.ndarray | None


def problem_of(
    edge: Network,
    params: Params,
    features: Features,
    stage: Stage,
    means: np.ndarray | None,
    weights: np.ndarray,
    *,
    levels: np.ndarray | None = None,
) -> Problem:
    """States the problem that `run_stage` solves; see there for the arguments."""
    settings = stage.settings
    mean, std = _coordinates(edge, settings)
    elsewhere = None
    if means is not None:
        start = means
    else:
        # Grey: the middle of the box, or zero in normalised space, as the authors start.
        grey = np.float32(0.5 if settings.space == "unit" else mean)
        plain = grey if stage.prior is None else stage.prior.mean
        start = np.broadcast_to(plain, (len(features), *edge.input_shape))
        elsewhere = (
            starts.elsewhere(edge.input_shape)[: None if settings.restart else 0] - mean
        ) / std
    return Problem(
        _objective(
            edge,
            dataclasses.replace(settings, **_ARGUMENTS),
            bool(weights[..., 0].any()),
            stage.structure,
        ),
        {"edge": edge.select(params), "prior": stage.prior},
        _Inputs(features, weights, means, levels),
        (start - mean) / std,
        _solver(settings),
        elsewhere,
    )


class _Inputs(NamedTuple):
    """Inputs of the objective of each image, by index."""

    features: Features
    weights: np.ndarray
    means: np.ndarray | None
    levels: np.ndarray | None

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, indices: Any) -> Any:
        rows = {"features": self.features[indices], "weights": self.weights[indices]}
        for name, values in (("mean", self.means), ("levels", self.levels)):
            if values is not None:
                rows[name] = values[indices]
        return rows


# Arguments of the compiled program: settings that differ in these alone share it.
_ARGUMENTS: dict[str, Any] = {
    "steps": 1,
    **dict.fromkeys(("tv_weight", "tv_start", "prior_weight", "prior_start"), 0),
}


def _coordinates(edge: Network, settings: RmleSettings) -> tuple[np.ndarray | np.float32, ...]:
    """`mean` and `std` such that `x = z * std + mean`, for the `z` that is optimised."""
    if settings.space == "unit" or edge.mean is None:
        return np.float32(0), np.float32(1)
    shape = (1,) * len(edge.input_shape) + (-1,)
    mean, std = (np.asarray(value, np.float32) for value in (edge.mean, edge.std))
    return mean.reshape(shape), std.reshape(shape)


@functools.cache
def _solver(settings: RmleSettings) -> Solver:
    if settings.solver == "lm":
        return LevenbergMarquardt(cg_steps=settings.cg_steps)
    if settings.solver == "none":
        return Still()
    if settings.solver == "lbfgs":
        return Lbfgs()
    if settings.solver == "amsgrad":
        return FirstOrder(amsgrad(settings.learning_rate, eps=settings.eps))
    schedule = optax.cosine_decay_schedule(settings.learning_rate, settings.steps)
    return FirstOrder(optax.adam(schedule, eps=settings.eps))


@functools.lru_cache(maxsize=64)
def _objective(
    edge: Network, settings: RmleSettings, has_tv: bool, structure: Structure
) -> MakeObjective:
    mean, std = _coordinates(edge, settings)
    edge = edge.wide  # its rounding has no derivative
    before, limit = edge.before_rectifier() if settings.hinge else None, edge.rectifier_limit
    if structure and limit < math.inf:  # mechanisms know of rectifiers without a limit alone
        before = None
    noisy = defenses.is_noisy(structure)
    height, width, channels = edge.input_shape
    # A single place, a row of a table, has no neighbours, and no variation.
    steps = max(height - 1, 1) * width * channels
    count = {"sum": 1, "mean": steps, "relative": height * width}

    def make(params: Any, inputs: Any, done: Array) -> Objective:
        observed = inputs["features"]
        fallen = jnp.minimum(done / settings.ramp, 1)[:, None]
        first, last = inputs["weights"][:, 0], inputs["weights"][:, 1]
        tiny = 1e-30
        # At the end it is the weight itself: a power of 1 would round it.
        between = (first + tiny) ** (1 - fallen) * (last + tiny) ** fallen
        tv_weight, prior_weight = jnp.where(fallen < 1, between, last).T

        def residual(z: Array) -> Array:
            x = z * std + mean
            features = (before or edge).apply(params["edge"], x)
            if structure:
                clean = jnp.maximum(features, 0) if before else features
                left = defenses.residual(structure, features, clean, observed, inputs["levels"])
                return left.reshape(len(observed), -1) * scale
            if before:
                return objectives.rectified_difference(features, observed, limit) * scale
            return objectives.difference(features, observed) * scale

        def penalty(z: Array) -> Array:
            if not has_tv:
                return jnp.zeros(len(z), z.dtype)
            variation = objectives.total_variation(z, beta=settings.beta, eps=settings.tv_eps)
            return tv_weight / count[settings.scale] * variation

        # Noise has a scale of its own.
        scale = _data_scale(observed, "mean" if noisy else settings.scale)
        prior = params["prior"]
        prior_mean = inputs.get("mean", 0.0 if prior is None else prior.mean[None])
        return Objective(
            residual,
            penalty,
            box=((0 - mean) / std, (1 - mean) / std) if settings.box else None,
            prior=prior,
            prior_mean=prior_mean,
            prior_weight=prior_weight,
            data_weight=jnp.ravel(scale) ** 2,
            settled=(fallen[:, 0] >= 1) | (first == last).all(axis=1),
        )

    return make


def _data_scale(observed: Array, kind: str) -> Array:
    """Factor of the residual, `[B, 1]` or `[1, 1]`: the root of the data term's scale."""
    flat = observed.reshape(len(observed), -1)
    if kind == "sum":
        return jnp.ones((1, 1), flat.dtype)
    if kind == "mean":
        return jnp.full((1, 1), flat.shape[1] ** -0.5, flat.dtype)
    size = length(flat, 1, keepdims=True)
    return 1 / jnp.where(size == 0, 1, size)  # what is all zero has no scale
