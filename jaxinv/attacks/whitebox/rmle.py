"""White-box reconstruction: regularised maximum likelihood (He, Zhang & Lee 2021, Eq. 1). JAX.

The attacker knows the edge and its parameters, and sees features. It is given nothing else, but for
what it may have learned from images of its own (`surrogate.py`).
"""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxinv import defenses
from jaxinv.attacks.inversion import objectives
from jaxinv.attacks.inversion.loop import MakeObjective, Snapshot, chunk_size, minimize
from jaxinv.attacks.inversion.objectives import Objective
from jaxinv.attacks.inversion.priors import Gaussian
from jaxinv.attacks.inversion.solvers import FirstOrder, Lbfgs, LevenbergMarquardt, Solver, amsgrad
from jaxinv.constants.paper import code_lambda
from jaxinv.defenses import Structure
from jaxinv.networks import Network, Params

SOLVERS = ("amsgrad", "adam", "lbfgs", "lm")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of rMLE.

    Attributes:
      solver: "amsgrad" at a constant rate; "adam" with a cosine decay to zero; "lbfgs"; or "lm",
        Levenberg-Marquardt.
      steps: of the solver, at most.
      learning_rate, eps: of amsgrad and adam: the rate in the units of `space`, and what is added
        to the root of the squared gradient.
      cg_steps: of lm: products with the Hessian a step.
      tv_weight: lambda of Eq. 1c, in the units that `scale` gives both terms.
      tv_start: lambda before the first step. It falls geometrically to `tv_weight`: a smooth image
        first, then its details, which keeps a solver out of the noisy local minima where a small
        lambda would take it.
      tv_eps: size of a difference of neighbours that counts as none.
      beta: of the total variation, Eq. 1b.
      prior_weight, prior_start: the same for a Gaussian prior: of half its squared Mahalanobis
        distance a pixel value. Without such a prior they mean nothing.
      ramp: share of the steps over which the weights fall; then they stay.
      box: whether pixels are kept in [0, 1].
      hinge: whether a final rectifier is attacked through the features before it.
      space: what is optimised: pixels as they are, or normalised as the network does it.
      scale: "sum" is Eq. 1 as it is printed; "mean" divides the data term by the number of features
        and the total variation by the number of vertical neighbours; "relative" divides the data
        term by the squared length of the features and the total variation by the number of pixels.
        A data term in standard deviations of a defence's noise is always divided by the number of
        features.
    """

    solver: Literal["amsgrad", "adam", "lbfgs", "lm"]
    steps: int
    learning_rate: float = 0.1
    eps: float = 1e-8
    cg_steps: int = 15
    tv_weight: float = 0.0
    tv_start: float = 0.0
    tv_eps: float = 1e-4
    beta: float = 1.0
    prior_weight: float = 0.0
    prior_start: float = 0.0
    ramp: float = 1.0
    box: bool = True
    hinge: bool = True
    space: Literal["unit", "normalized"] = "unit"
    scale: Literal["sum", "mean", "relative"] = "relative"

    @property
    def weights(self) -> np.ndarray:
        """`[2, 2]`: those of total variation and prior, before the first step and at the end."""
        start, end = (self.tv_start, self.prior_start), (self.tv_weight, self.prior_weight)
        return np.array([start, end], np.float32)


class Features(Protocol):
    """Features `[N, ...]`, by index: a NumPy array, or a `defenses.Release` that makes them."""

    def __len__(self) -> int: ...

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        """Features `[len(indices), ...]` of the chosen images."""


Estimate = Callable[[Features, np.ndarray | None], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Stage:
    """One optimisation. An attack is one of them, or several in turn.

    Attributes:
      settings: of the optimisation.
      prior: a Gaussian over images, or over the errors of `estimate`.
      estimate: `(features, found) -> images [N, H, W, C]`: where to start, and the prior's mean,
        from the features and from what the stage before has found (None at the first). Without it
        the start is the prior's mean, or grey.
      structure: of the defence that the attacker knows to be at the features, whose residual takes
        the place of Eq. 1a; its levels are an argument of `run_stage`. Empty for none.
    """

    settings: Settings
    prior: Gaussian | None = None
    estimate: Estimate | None = None
    structure: Structure = ()


class Reconstruction(NamedTuple):
    """What an attack returns.

    Attributes:
      images: `[N, H, W, C]` NumPy, in unit space but not clipped to it; may be non-finite.
      objective: `[N]` NumPy, the attacker's own measure of success; least is best.
      steps: `[N]` NumPy, that the solver of the last stage took.
      result: `[N]` NumPy, of `solvers.Result`, how that ended.
      seconds: wall time of the attack.
      compile_seconds: wall time of compiling it.
    """

    images: np.ndarray
    objective: np.ndarray
    steps: np.ndarray
    result: np.ndarray
    seconds: float
    compile_seconds: float


def invert(
    edge: Network,
    params: Params,
    features: Features,
    attack: Settings | Sequence[Stage],
    *,
    chunk: int | None = None,
    watch: Callable[[int, Snapshot], None] | None = None,
    watch_every: int = 1,
) -> Reconstruction:
    """Reconstructs the inputs of an edge from its outputs, all images at once.

    Args:
      edge: the part of the network on the device.
      params: its parameters; those of other layers are ignored.
      features: `[N, *edge.output_shape]`, what crossed the wire, as an array or a `Release`.
      attack: settings of one stage without anything learned (a function in `METHODS` makes them),
        or stages in turn (`surrogate.learn`).
      chunk: images at a time, filled up with copies if there are fewer; chosen by the edge and the
        device if None. It changes the result by rounding alone, which objectives that are not
        convex amplify.
      watch: is shown the number of the stage and the iterates in work, in unit space.
      watch_every: after how many steps.
    """
    stages = [Stage(attack)] if isinstance(attack, Settings) else attack
    images, seconds, compile_seconds = None, 0.0, 0.0
    for number, stage in enumerate(stages):
        began = time.perf_counter()
        means = stage.estimate(features, images) if stage.estimate else None
        seconds += time.perf_counter() - began
        weights = np.broadcast_to(stage.settings.weights, (len(features), 2, 2))
        found = run_stage(
            edge,
            params,
            features,
            stage,
            means,
            weights,
            chunk=chunk,
            watch=functools.partial(watch, number) if watch else None,
            watch_every=watch_every,
        )
        images = found.images
        seconds += found.seconds
        compile_seconds += found.compile_seconds
    return found._replace(seconds=seconds, compile_seconds=compile_seconds)


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
      edge, params, features, chunk, watch, watch_every: as for `invert`.
      stage: what to run; its `estimate` and its settings' weights are not used.
      means: `[N, H, W, C]`, what its `estimate` returned; None if it has none.
      weights: `[N, 2, 2]`, for each image, as `Settings.weights`.
      levels: `[N, P]`, of each step of the stage's structure for each image, as combined releases
        have them; None where it has none.
    """
    settings = stage.settings
    mean, std = _coordinates(edge, settings)
    found = minimize(
        *problem(edge, params, features, stage, means, weights, levels=levels),
        steps=settings.steps,
        chunk=chunk or chunk_size(edge, len(features)),
        description=f"rMLE {edge.cuts[-1]}",
        watch=watch and (lambda seen: watch(seen._replace(x=seen.x * std + mean))),
        watch_every=watch_every,
    )
    images = found.x * std + mean
    return Reconstruction(images, *found[1:])


class Problem(NamedTuple):
    """What one stage solves: arguments of `optimize.minimize`, in the coordinates of `space`."""

    make_objective: MakeObjective
    params: Any
    inputs: Any
    start: np.ndarray
    solver: Solver


def problem(
    edge: Network,
    params: Params,
    features: Features,
    stage: Stage,
    means: np.ndarray | None,
    weights: np.ndarray,
    *,
    levels: np.ndarray | None = None,
) -> Problem:
    """States what `run_stage` solves; see there for the arguments."""
    settings = stage.settings
    mean, std = _coordinates(edge, settings)
    if means is not None:
        start = means
    elif stage.prior is not None:
        start = np.broadcast_to(stage.prior.mean, (len(features), *edge.input_shape))
    else:
        # Grey: the middle of the box, or zero in normalised space, as the authors start.
        grey = 0.5 if settings.space == "unit" else mean
        start = np.broadcast_to(np.float32(grey), (len(features), *edge.input_shape))
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
    )


class _Inputs(NamedTuple):
    """What the objective of an image needs, by index."""

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
_ARGUMENTS: dict[str, Any] = dict.fromkeys(
    ("steps", "tv_weight", "tv_start", "prior_weight", "prior_start"), 0
)


def _coordinates(edge: Network, settings: Settings) -> tuple[np.ndarray | np.float32, ...]:
    """`mean` and `std` such that `x = z * std + mean`, for the `z` that is optimised."""
    if settings.space == "unit" or edge.mean is None:
        return np.float32(0), np.float32(1)
    shape = (1,) * len(edge.input_shape) + (-1,)
    mean, std = (np.asarray(value, np.float32) for value in (edge.mean, edge.std))
    return mean.reshape(shape), std.reshape(shape)


@functools.cache
def _solver(settings: Settings) -> Solver:
    if settings.solver == "lm":
        return LevenbergMarquardt(cg_steps=settings.cg_steps)
    if settings.solver == "lbfgs":
        return Lbfgs()
    if settings.solver == "amsgrad":
        return FirstOrder(amsgrad(settings.learning_rate, eps=settings.eps))
    schedule = optax.cosine_decay_schedule(settings.learning_rate, settings.steps)
    return FirstOrder(optax.adam(schedule, eps=settings.eps))


@functools.lru_cache(maxsize=64)
def _objective(
    edge: Network, settings: Settings, has_tv: bool, structure: Structure
) -> MakeObjective:
    mean, std = _coordinates(edge, settings)
    before, limit = edge.before_rectifier() if settings.hinge else None, edge.rectifier_limit
    if structure and limit < math.inf:  # mechanisms know of rectifiers without a limit alone
        before = None
    noisy = defenses.is_noisy(structure)
    height, width, channels = edge.input_shape
    count = {"sum": 1, "mean": (height - 1) * width * channels, "relative": height * width}

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
                return jnp.zeros(len(z))
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
    """What the residual is multiplied by, `[B, 1]` or `[1, 1]`: the root of the term's scale."""
    flat = observed.reshape(len(observed), -1)
    if kind == "sum":
        return jnp.ones((1, 1))
    if kind == "mean":
        return jnp.full((1, 1), flat.shape[1] ** -0.5)
    return (jnp.sum(flat**2, axis=1, keepdims=True) + 1e-12) ** -0.5


def paper_settings(network: Network, cut: str) -> Settings:
    """The settings of the authors' program: what the paper's figures were made with.

    Source: He, Zhang & Lee 2021, section III-A, and the program that they published.
    """
    weight = code_lambda(network, cut)
    return Settings(
        solver="amsgrad",
        steps=5000,
        learning_rate=1e-2,
        eps=1e-3,
        tv_weight=weight,
        tv_start=weight,
        beta=2.0,
        box=False,
        hinge=False,
        space="normalized",
        scale="mean",
    )


def tv_settings(network: Network, cut: str) -> Settings:
    """A first-order attack with total variation as its only prior; one rule for every network.

    An affine edge needs no prior. Everything else was chosen on the attacker's images.
    """
    affine = network.split(cut)[0].is_affine
    return Settings(
        solver="adam",
        steps=1000,
        learning_rate=0.2,
        tv_weight=0.0 if affine else 3e-3,
        tv_start=0.0 if affine else 1.0,
    )


def map_settings() -> Settings:
    """Levenberg-Marquardt with total variation and a Gaussian prior; weights as they start.

    `surrogate.learn` chooses where they end.
    """
    return Settings(
        solver="lm",
        steps=20,
        cg_steps=24,
        tv_weight=1.0,
        tv_start=1.0,
        tv_eps=1e-2,
        prior_weight=4.0,
        prior_start=4.0,
        ramp=0.8,
    )


def hybrid_settings() -> Settings:
    """As `map_settings`, from a start that is near: the weights begin lower."""
    return dataclasses.replace(
        map_settings(), steps=10, cg_steps=15, tv_start=0.1, prior_start=0.003
    )


METHODS: dict[str, Callable[[Network, str], Settings]] = {
    "paper": paper_settings,
    "tv": tv_settings,
}
"""Methods that learn nothing; those that do are in `surrogate.py`."""

KNOWLEDGE = "the edge's layers and parameters; no images"
