"""Settings of regularised maximum likelihood, and those of each method. NumPy."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from jaxinv import arguments
from jaxinv.constants.paper import code_lambda
from jaxinv.errors import UsageError
from jaxinv.networks import Network

SOLVERS = ("amsgrad", "adam", "lbfgs", "lm")
_NOT_NEGATIVE = (
    *("learning_rate", "eps", "tv_weight", "tv_start", "tv_eps"),
    *("prior_weight", "prior_start", "ramp", "redundancy"),
)


@dataclasses.dataclass(frozen=True)
class RmleSettings:
    """Settings of rMLE.

    Attributes:
      solver: "amsgrad" at a constant rate; "adam" with a cosine decay to zero; "lbfgs"; or "lm",
        Levenberg-Marquardt. Or "none", which keeps the start: a learned estimate as it is.
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
      redundancy: power by which the weights fall with pairs of values that are observed for each of
        an image's, where there is more than one; 0 lets none of it count.
      box: whether pixels are kept in [0, 1].
      hinge: whether a final rectifier is attacked through the features before it.
      restart: whether an image at whose plain start (grey, or a prior's mean) the data term is
        flat begins elsewhere: black, white or noise, the first where it is not. At grey all
        rectifiers may be closed; no gradient passes them.
      space: what is optimised: pixels as they are, or normalised as the network does it.
      scale: "sum" is Eq. 1 as it is printed; "mean" divides the data term by the number of features
        and the total variation by the number of vertical neighbours; "relative" divides the data
        term by the squared length of the features and the total variation by the number of pixels.
        A data term in standard deviations of a defense's noise is always divided by the number of
        features.

    Raises:
      UsageError: a setting is none that the solvers can use.
    """

    solver: Literal["amsgrad", "adam", "lbfgs", "lm", "none"]
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
    redundancy: float = 0.0
    box: bool = True
    hinge: bool = True
    restart: bool = True
    space: Literal["unit", "normalized"] = "unit"
    scale: Literal["sum", "mean", "relative"] = "relative"

    def __post_init__(self) -> None:
        arguments.check_choice("solver", self.solver, (*SOLVERS, "none"))
        arguments.check_choice("space", self.space, ("unit", "normalized"))
        arguments.check_choice("scale", self.scale, ("sum", "mean", "relative"))
        for name in ("box", "hinge", "restart"):
            arguments.check_choice(name, getattr(self, name), (False, True))
        for name in ("steps", "cg_steps"):
            arguments.check_whole(name, getattr(self, name), least=1)
        for name in _NOT_NEGATIVE:
            arguments.check_number(name, getattr(self, name), least=0)
        arguments.check_number("beta", self.beta, least=0.1)

    def replaced(self, values: Mapping[str, Any]) -> "RmleSettings":
        """Returns these settings with some others.

        Raises:
          UsageError: there is no such setting, or a value is not allowed.
        """
        names = [field.name for field in dataclasses.fields(self)]
        for name, value in values.items():
            if name not in names:
                raise UsageError(f"{name}={value}: no such setting; there are {', '.join(names)}.")
        return dataclasses.replace(self, **values)

    @property
    def weights(self) -> np.ndarray:
        """Weights `[2, 2]` of total variation and prior: before the first step, and at the end."""
        start, end = (self.tv_start, self.prior_start), (self.tv_weight, self.prior_weight)
        return np.array([start, end], np.float32)


def check_chunk(chunk: Any) -> None:
    """Checks a number of images that are attacked at once; None is what is fast.

    Raises:
      UsageError: it is no whole number above zero.
    """
    if chunk is not None:
        arguments.check_whole("chunk", chunk, least=1)


def paper_settings(network: Network, cut: str) -> RmleSettings:
    """The settings of the authors' program: what the paper's figures were made with.

    A dead start stays dead, as theirs does.

    Source: He, Zhang & Lee 2021, section III-A, and the program that they published.
    """
    weight = code_lambda(network, cut)
    return RmleSettings(
        solver="amsgrad",
        steps=5000,
        learning_rate=1e-2,
        eps=1e-3,
        tv_weight=weight,
        tv_start=weight,
        beta=2.0,
        box=False,
        hinge=False,
        restart=False,
        space="normalized",
        scale="mean",
    )


def tv_settings(network: Network, cut: str) -> RmleSettings:
    """A first-order attack with total variation as its only prior; one rule for every network.

    An affine edge needs no prior, and where much is observed of each pixel little is needed: with
    less than two values a pixel a smooth start still keeps it out of bad minima.
    Everything else was chosen on the attacker's images.
    """
    affine = network.split(cut)[0].is_affine
    return RmleSettings(
        solver="adam",
        steps=1000,
        learning_rate=0.2,
        tv_weight=0.0 if affine else 3e-3,
        tv_start=0.0 if affine else 1.0,
        redundancy=5.0,
    )


def map_settings() -> RmleSettings:
    """Levenberg-Marquardt with total variation and a Gaussian prior; weights as they start.

    The attacker chooses on trial images where they end (`trials`).
    """
    return RmleSettings(
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


def hybrid_settings() -> RmleSettings:
    """Settings of `map_settings` for a start that is near: the weights begin lower.

    For the same number of products with the Hessian, few exact steps find more than many rough
    ones.
    """
    return dataclasses.replace(
        map_settings(), steps=5, cg_steps=30, tv_start=1e-2, prior_start=3e-4
    )


def kept_settings(settings: RmleSettings) -> RmleSettings:
    """Returns settings of a stage that keeps its estimate as it is."""
    return dataclasses.replace(settings, solver="none", steps=1)
