"""Mechanisms, and defenses made of them.

A mechanism is a randomised map of one example with a strength, its level. A defense applies one or
more mechanisms in turn, each at the input or at the features. A custom mechanism is a function:

    def blur(key, x, level): return (1 - level) * x + level * x.mean()
    defense = Mechanism("blur", blur, below=1.0).at("feature", 0.5)

Noise of a custom mechanism must be rounded to a grid that does not depend on x, as `sampler.noisy`
does: noise of `jax.random` alone tells x by the grid that its numbers lie on.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxinv import arguments
from jaxinv.defenses import sampler
from jaxinv.defenses.training import Training
from jaxinv.errors import UsageError

Site = Literal["input", "feature"]
SITES: tuple[Site, ...] = ("input", "feature")

LEAST_NOISE = 0.01
"""Noise that an attacker assumes at least, so that a level of 0 divides by no zero."""


def mean(releases: Array, level: Array) -> Array:
    """Returns the mean of releases `[K, ...]`."""
    del level
    return releases.mean(axis=0)


def unchanged(key: Array, x: Array, level: Array) -> Array:
    """Returns x: the release of a defense that consists of training."""
    del key, level
    return x


def unchanged_residual(before: Array, clean: Array, observed: Array, level: Array) -> Array:
    """Returns the residual of features that cross the wire unchanged.

    Where the observed value is zero, a final rectifier was closed: its input was at most zero.
    """
    del clean, level
    return jnp.where(observed != 0, before - observed, jnp.maximum(before, 0))


class Coding(NamedTuple):
    """A coding of outputs of few values, all in the same number of bits.

    Attributes:
      sent: `(number of values, level) -> bits` of an output. Two to their power is the number of
        different outputs, at most, whatever the input: bounds are certified by that.
      step: `(x, level) -> width` of the cells that values of `x` are rounded to.
      symbols: `(y, level) -> whole numbers` of the shape of y, in which an output is sent beside
        the bits of an output of no values. None where nobody need see them.
    """

    sent: Callable[[int, float], float]
    step: Callable[[Array, float], Any]
    symbols: Callable[[Array, Array], Array] | None = None


@dataclasses.dataclass(frozen=True)
class Mechanism:
    """A randomised map of one example, with its likelihood for an attacker who knows it.

    All functions are pure and take one example: features of any shape, or an image `[H, W, C]` as
    the network normalises it (zero is the mean pixel), as in the authors' program. The level is a
    traced scalar, so that one compiled program serves all levels.

    Attributes:
      name: as flags and records spell it.
      apply: `(key, x, level) -> y`, of the shape of x; at level 0 it returns `x`.
      unit: of the level, for people.
      source: of the mechanism.
      sweep: default levels of a study.
      random: True if it draws random numbers.
      below: levels are at least 0 and below this number.
      whole: True if levels are whole numbers.
      residual: `(before, clean, observed, level) -> r`, all of one shape. Half of its squared sum
        is, up to a constant, the negative log-likelihood of the observed value given the features.
        `clean` are the features; `before` are the features before a final rectifier (the same
        where there is none), for which gradients do not vanish. None: an attacker compares with the
        mean of a few draws.
      noisy: True if `residual` is in standard deviations of noise. Otherwise it is in units of the
        features, and zero at the true image.
      log_likelihood: `(clean, observed, level) -> l`, all of one shape: the log-likelihood of each
        observed value given the features, up to a constant of the observed values, at a level above
        0. None: it is estimated by draws, or is certain where the mechanism draws nothing.
      combine: `(releases [K, ...], level) -> y`, the best estimate from several releases.
      combined: `(level, K) -> level`, the level of K combined releases.
      training: what training behind it adds. None for mechanisms that need no training.
      noise: for bounds, the kind of noise that acts on every value independently: added, or values
        dropped. None for other mechanisms.
      noise_scale: `level -> scale` of that noise.
      rounded: True if the output is rounded to `sampler.grid` of that scale, by `sampler.noisy`.
        Bounds hold for added noise alone that is.
      coding: how outputs at a level above 0 are sent, all in the same number of bits. None where
        they take more values.
      code: digest of the file that makes it; "" for those that come with the package.
    """

    name: str
    apply: Callable[[Array, Array, Array], Array]
    unit: str = "level"
    source: str = ""
    sweep: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75)
    random: bool = True
    below: float = math.inf
    whole: bool = False
    residual: Callable[[Array, Array, Array, Array], Array] | None = None
    noisy: bool = False
    log_likelihood: Callable[[Array, Array, Array], Array] | None = None
    combine: Callable[[Array, Array], Array] = mean
    combined: Callable[[Any, int], Any] = lambda level, count: level
    training: Training | None = None
    noise: Literal["gaussian", "laplace", "dropout"] | None = None
    noise_scale: Callable[[Any], Any] = lambda level: level
    rounded: bool = False
    coding: Coding | None = None
    code: str = ""

    @property
    def acts(self) -> bool:
        """True if a release shows it: some defenses consist of training alone."""
        return self.apply is not unchanged

    def at(self, site: Site, level: float) -> "Defense":
        """Returns the defense that applies this mechanism at one site.

        Raises:
          UsageError: the site is unknown, or the level is out of range.
        """
        if site not in SITES:
            raise UsageError(f"site={site}: expected {' or '.join(SITES)}.")
        if self.training is not None and site == "input":
            raise UsageError(f"site={site}: {self.name} is trained in; its site is feature.")
        number = arguments.as_float(level)
        fits = 0 <= number < self.below and np.isfinite(np.float32(number))
        if not fits or (self.whole and number != round(number)):
            kind = "a whole number" if self.whole else "a number"
            most = f" below {self.below:g}" if self.below < math.inf else ", finite"
            raise UsageError(f"level={level}: {self.name} takes {kind} of at least 0{most}.")
        return Defense((Step(self, site, number),))


class Step(NamedTuple):
    """A mechanism at a site, with a level."""

    mechanism: Mechanism
    site: Site
    level: float

    @property
    def grid(self) -> float | None:
        """The grid that the output is rounded to; None where it is not."""
        if not (self.mechanism.rounded and self.level):
            return None
        return float(sampler.grid(self.mechanism.noise_scale(np.float32(self.level))))


Structure = tuple[tuple[Mechanism, Site], ...]


def acting(structure: Structure) -> list[int]:
    """Returns the numbers of the steps that a release shows; of none of these, that of the first.

    A step that consists of training changes nothing of what another does: `cem+gaussian` is
    Gaussian noise at another edge.
    """
    found = [number for number, (mechanism, _) in enumerate(structure) if mechanism.acts]
    return found or [0][: len(structure)]


@dataclasses.dataclass(frozen=True)
class Defense:
    """Mechanisms that a device applies in turn. `a + b` applies both, first `a`."""

    steps: tuple[Step, ...] = ()

    def __add__(self, other: "Defense") -> "Defense":
        return Defense(self.steps + other.steps)

    @property
    def structure(self) -> Structure:
        """Mechanisms and sites without levels: the static part of a compiled program."""
        return tuple((step.mechanism, step.site) for step in self.steps)

    @property
    def levels(self) -> np.ndarray:
        """Levels of the steps, `[P]`."""
        return np.array([step.level for step in self.steps], np.float32)

    @property
    def is_random(self) -> bool:
        """True if two releases of one input may differ."""
        return any(step.mechanism.random and step.level for step in self.steps)

    @property
    def is_trained(self) -> bool:
        """True if the target is trained on for it, at level 0, too."""
        return any(step.mechanism.training for step in self.steps)

    def coded_bits(self, count: int) -> float:
        """Returns bits that a release of `count` values tells of its features, at most.

        They are those of its step with the fewest: what follows it tells no more. Codings of a file
        of one's own are not believed. Infinity where there are none.
        """
        bits = [
            step.mechanism.coding.sent(count, step.level)
            for step in self.steps
            if step.site == "feature"
            and step.level
            and step.mechanism.coding
            and not step.mechanism.code
        ]
        return min(bits, default=math.inf)

    def combined(self, releases: int) -> np.ndarray:
        """Returns the levels `[P]` of several combined releases."""
        levels, numbers = self.levels, acting(self.structure)
        if len(numbers) == 1:
            step = self.steps[numbers[0]]
            levels[numbers[0]] = step.mechanism.combined(step.level, releases)
        return levels

    def describe(self) -> dict[str, Any]:
        """Returns `{kind, site, level}` for a record, and the `grid` that noise is rounded to.

        For several steps level and grid are lists, and sites that differ are joined by `+`. Without
        noise there is no grid; a step without noise has None. `trained` is there where it is True,
        and `code` where a mechanism has one.
        """
        if not self.steps:
            return {"kind": "none", "site": "feature", "level": 0.0}
        levels, sites = [step.level for step in self.steps], [step.site for step in self.steps]
        grids = [step.grid for step in self.steps]
        described: dict[str, Any] = {
            "kind": "+".join(step.mechanism.name for step in self.steps),
            "site": sites[0] if len(set(sites)) == 1 else "+".join(sites),
            "level": levels if len(levels) > 1 else levels[0],
        }
        if any(grids):
            described["grid"] = grids if len(grids) > 1 else grids[0]
        if self.is_trained:
            described["trained"] = True
        if any(step.mechanism.code for step in self.steps):
            described["code"] = "+".join(step.mechanism.code for step in self.steps)
        return described


NONE = Defense()
"""No defense: features cross the wire unchanged."""
