"""White-box reconstruction: regularised maximum likelihood (He, Zhang & Lee 2021, Eq. 1). JAX.

The attacker knows the edge and its parameters, and sees features. It is given nothing else.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxinv.attacks import objectives
from jaxinv.attacks.objectives import Objective
from jaxinv.attacks.optimize import MakeObjective, Observed, chunk_size, minimize
from jaxinv.attacks.solvers import FirstOrder, amsgrad
from jaxinv.networks import Network, Params
from jaxinv.paper import code_lambda

_TV_DECAY = 1e-3


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of rMLE.

    Attributes:
      steps: of the solver.
      learning_rate: of the solver, in the units of `space`.
      eps: of the solver, against the root of the squared gradient.
      tv_weight: lambda of Eq. 1c, in the units that `scale` gives both terms.
      tv_start: what is added to lambda before the first step. It shrinks geometrically, a
        thousandfold over the run: a smooth image first, then its details. This keeps the solver out
        of the noisy local minima where a constant lambda ends.
      beta: of the total variation, Eq. 1b.
      box: whether pixels are kept in [0, 1].
      hinge: whether a final rectifier is attacked through the features before it.
      space: what is optimised: pixels as they are, or normalised as the network does it.
      scale: "sum" is Eq. 1 as it is printed; "mean" divides the data term by the number of features
        and the total variation by the number of vertical neighbours; "relative" divides the data
        term by the squared length of the features and the total variation by the number of pixels.
      solver: "amsgrad" at a constant rate, or "adam" with a cosine decay to zero.
    """

    steps: int
    learning_rate: float
    eps: float
    tv_weight: float
    tv_start: float
    beta: float
    box: bool
    hinge: bool
    space: Literal["unit", "normalized"]
    scale: Literal["sum", "mean", "relative"]
    solver: Literal["amsgrad", "adam"]


class Reconstruction(NamedTuple):
    """What an attack returns.

    Attributes:
      images: `[N, H, W, C]` NumPy, in unit space but not clipped to it; may be non-finite.
      objective: `[N]` NumPy, the attacker's own measure of success; least is best.
      seconds: wall time of the attack.
      compile_seconds: wall time of compiling it.
    """

    images: np.ndarray
    objective: np.ndarray
    seconds: float
    compile_seconds: float


def invert(
    edge: Network,
    params: Params,
    features: Observed,
    settings: Settings,
    *,
    chunk: int | None = None,
) -> Reconstruction:
    """Reconstructs the inputs of an edge from its outputs, all images at once.

    Args:
      edge: the part of the network on the device.
      params: its parameters; those of other layers are ignored.
      features: `[N, *edge.output_shape]`, what crossed the wire, as an array or a `Release`.
      settings: of the method; a function in `METHODS` makes them.
      chunk: images at a time; chosen by the edge and the device if None. It changes the result by
        rounding alone, which non-convex objectives amplify.
    """
    mean, std = _coordinates(edge, settings)
    start = np.zeros((len(features), *edge.input_shape), np.float32)
    if settings.space == "unit":
        start += 0.5
    found = minimize(
        _objective(edge, settings),
        edge.select(params),
        features,
        start,
        _solver(settings),
        steps=settings.steps,
        chunk=min(chunk, len(features)) if chunk else chunk_size(edge, len(features)),
        description=f"rMLE {edge.cuts[-1]}",
    )
    return Reconstruction(
        found.x * std + mean, found.objective, found.seconds, found.compile_seconds
    )


def _coordinates(edge: Network, settings: Settings) -> tuple[np.ndarray | np.float32, ...]:
    """`mean` and `std` such that `x = z * std + mean`, for the `z` that is optimised."""
    if settings.space == "unit" or edge.mean is None:
        return np.float32(0), np.float32(1)
    shape = (1,) * len(edge.input_shape) + (-1,)
    mean, std = (np.asarray(value, np.float32) for value in (edge.mean, edge.std))
    return mean.reshape(shape), std.reshape(shape)


def _solver(settings: Settings) -> FirstOrder:
    if settings.solver == "amsgrad":
        return FirstOrder(amsgrad(settings.learning_rate, eps=settings.eps))
    schedule = optax.cosine_decay_schedule(settings.learning_rate, settings.steps)
    return FirstOrder(optax.adam(schedule, eps=settings.eps))


def _objective(edge: Network, settings: Settings) -> MakeObjective:
    mean, std = _coordinates(edge, settings)
    before = edge.before_rectifier() if settings.hinge else None
    height, width, channels = edge.input_shape
    count = {"sum": 1, "mean": (height - 1) * width * channels, "relative": height * width}

    def make(params: Params, observed: Array, done: Array | float) -> Objective:
        def residual(z: Array) -> Array:
            x = z * std + mean
            if before is None:
                difference = objectives.difference(edge.apply(params, x), observed)
            else:
                difference = objectives.rectified_difference(before.apply(params, x), observed)
            return difference * weight

        def penalty(z: Array) -> Array:
            if settings.tv_weight == settings.tv_start == 0:
                return jnp.zeros(len(z))
            weight = settings.tv_weight + settings.tv_start * _TV_DECAY**done
            variation = objectives.total_variation(z, beta=settings.beta)
            return weight / count[settings.scale] * variation

        weight = _data_weight(observed, settings)
        box = ((0 - mean) / std, (1 - mean) / std) if settings.box else None
        return Objective(residual, penalty, box)

    return make


def _data_weight(observed: Array, settings: Settings) -> Array | float:
    """What the residual is multiplied by, `[B, 1]` or a number: the root of the term's scale."""
    flat = observed.reshape(len(observed), -1)
    if settings.scale == "sum":
        return 1.0
    if settings.scale == "mean":
        return flat.shape[1] ** -0.5
    return (jnp.sum(flat**2, axis=1, keepdims=True) + 1e-12) ** -0.5


def paper_settings(network: Network, cut: str) -> Settings:
    """The settings of the authors' program: what the paper's figures were made with.

    Source: He, Zhang & Lee 2021, section III-A, and the program that they published.
    """
    return Settings(
        steps=5000,
        learning_rate=1e-2,
        eps=1e-3,
        tv_weight=code_lambda(network, cut),
        tv_start=0.0,
        beta=2.0,
        box=False,
        hinge=False,
        space="normalized",
        scale="mean",
        solver="amsgrad",
    )


def tv_settings(network: Network, cut: str) -> Settings:
    """A first-order attack with total variation as its only prior; one rule for every network.

    An affine edge needs no prior. Everything else was chosen on the attacker's images.
    """
    affine = network.split(cut)[0].is_affine
    return Settings(
        steps=1000,
        learning_rate=0.2,
        eps=1e-8,
        tv_weight=0.0 if affine else 3e-3,
        tv_start=0.0 if affine else 1.0,
        beta=1.0,
        box=True,
        hinge=True,
        space="unit",
        scale="relative",
        solver="adam",
    )


METHODS: dict[str, Callable[[Network, str], Settings]] = {
    "paper": paper_settings,
    "tv": tv_settings,
}
