"""Defences as values, and the release: the only thing that crosses the wire. JAX.

A mechanism is a randomised map of one example with a strength; a defence is a mechanism, or several
in turn, each at the input or at the features. Whatever is measured, usability or privacy, is
measured on the same release. An attacker sees it as a `Release` of images it does not know, and may
call it as a `Query` with images of its own.

A mechanism of one's own is a function, and works with everything:

    def blur(key, x, level): return (1 - level) * x + level * x.mean()
    defense = Mechanism("blur", blur, below=1.0).at("feature", 0.5)
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial

from jaxinv.errors import UsageError
from jaxinv.machine import devices
from jaxinv.networks import Network, Params

Site = Literal["input", "feature"]
SITES: tuple[Site, ...] = ("input", "feature")

_LEAST_NOISE = 0.01  # that an attacker reckons with, where there is none
_DRAWS = 8  # that stand for a mechanism whose likelihood nobody gave


def _mean(releases: Array, level: Array) -> Array:
    del level
    return releases.mean(axis=0)


@dataclasses.dataclass(frozen=True)
class Mechanism:
    """A randomised map of one example, and what an attacker who knows of it can use.

    All functions are pure and take one example: features of any shape, or an image `[H, W, C]` as
    the network normalises it (zero is the mean pixel), as in the authors' program. The level is a
    traced scalar, so that all levels are one compiled program.

    Attributes:
      name: as flags and records spell it.
      apply: `(key, x, level) -> y`, of the same shape; at level 0 it is `x`.
      unit: of the level, for people.
      source: where it is from.
      sweep: levels to look at, unless told otherwise.
      random: whether it draws anything.
      below: every level is below it, and at least 0.
      whole: whether levels are whole numbers.
      residual: `(before, clean, observed, level) -> r`, of their shape: up to a constant, half of
        its squared sum is the negative log-likelihood of what was observed, given the features.
        `clean` are the features; `before`, these before a final rectifier (the same where there is
        none), for which gradients do not vanish. None: an attacker expects the mean of a few draws.
      noisy: whether `residual` is in standard deviations of noise; otherwise it is zero at the true
        image, in units of the features.
      combine: `(releases [K, ...], level) -> y`: what tells most of several releases of one input.
      combined: `(level, K) -> level`, to which combining K releases comes.
      penalty: `(images [B, ...], features [B, ...]) -> scalar` that a defence adds to the loss of
        training, times its level, where it is one that is trained in.
      noise: what it comes to, for bounds: noise that is added to every value independently, or
        values that are dropped so. None for anything else.
      noise_scale: `level -> scale` of that noise.
      symbols: `(y, level) -> whole numbers` of the shape of y, of `level` bits each, by which what
        it makes of an example at a level above 0 could be sent, beside its least and its greatest
        value; None where values are not few.
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
    combine: Callable[[Array, Array], Array] = _mean
    combined: Callable[[Any, int], Any] = lambda level, count: level
    penalty: Callable[[Array, Array], Array] | None = None
    noise: Literal["gaussian", "laplace", "dropout"] | None = None
    noise_scale: Callable[[float], float] = lambda level: level
    symbols: Callable[[Array, Array], Array] | None = None

    def at(self, site: Site, level: float) -> "Defense":
        """This mechanism at a site, as a defence.

        Raises:
          UsageError: there is no such site, or the level is out of range.
        """
        if site not in SITES:
            raise UsageError(f"site={site}: expected {' or '.join(SITES)}.")
        if self.penalty is not None and site == "input":
            raise UsageError(f"site={site}: {self.name} is trained in; its site is feature.")
        number = float(level)
        fits = 0 <= number < self.below and np.isfinite(np.float32(number))
        if not fits or (self.whole and number != round(number)):
            kind = "a whole number" if self.whole else "a number"
            most = f" below {self.below:g}" if self.below < math.inf else ", finite"
            raise UsageError(f"level={level}: {self.name} takes {kind} of at least 0{most}.")
        return Defense((Step(self, site, number),))


class Step(NamedTuple):
    """A mechanism in its place."""

    mechanism: Mechanism
    site: Site
    level: float


Structure = tuple[tuple[Mechanism, Site], ...]


@dataclasses.dataclass(frozen=True)
class Defense:
    """What a device does against attackers: mechanisms in turn. `a + b` does both, first `a`."""

    steps: tuple[Step, ...] = ()

    def __add__(self, other: "Defense") -> "Defense":
        return Defense(self.steps + other.steps)

    @property
    def structure(self) -> Structure:
        """The steps without their levels: what is compiled."""
        return tuple((step.mechanism, step.site) for step in self.steps)

    @property
    def levels(self) -> np.ndarray:
        """`[P]`, the level of each step."""
        return np.array([step.level for step in self.steps], np.float32)

    @property
    def is_random(self) -> bool:
        """Whether two releases of one input may differ."""
        return any(step.mechanism.random and step.level for step in self.steps)

    def combined(self, releases: int) -> np.ndarray:
        """`[P]`, the levels to which combining several releases comes."""
        if len(self.steps) == 1:
            step = self.steps[0]
            return np.array([step.mechanism.combined(step.level, releases)], np.float32)
        return self.levels

    def describe(self) -> dict[str, Any]:
        """`{kind, site, level}`, as a record keeps it.

        Of several steps the level is a list, and the site has one for each if they differ.
        """
        if not self.steps:
            return {"kind": "none", "site": "feature", "level": 0.0}
        levels, sites = [step.level for step in self.steps], [step.site for step in self.steps]
        return {
            "kind": "+".join(step.mechanism.name for step in self.steps),
            "site": sites[0] if len(set(sites)) == 1 else "+".join(sites),
            "level": levels if len(levels) > 1 else levels[0],
        }


NONE = Defense()
"""No defence: features cross the wire as they are."""


# --- Mechanisms ---------------------------------------------------------------------------------


def _gaussian(key: Array, x: Array, level: Array) -> Array:
    return x + level * jax.random.normal(key, x.shape)


def _gaussian_residual(before: Array, clean: Array, observed: Array, level: Array) -> Array:
    del before
    return (clean - observed) / jnp.maximum(level, _LEAST_NOISE)


def _laplace(key: Array, x: Array, level: Array) -> Array:
    return x + level * jax.random.laplace(key, x.shape)


def _laplace_residual(before: Array, clean: Array, observed: Array, level: Array) -> Array:
    """Its half square is `|d| / b`, rounded off where d is small, so that it has a slope."""
    del before
    difference = (clean - observed) / jnp.maximum(level, _LEAST_NOISE)
    rounded = 0.1
    return difference * jnp.sqrt(2 / (jnp.sqrt(difference**2 + rounded**2) + rounded))


def _averaged(level: Any, count: int) -> Any:
    return level / count**0.5


def _median(releases: Array, level: Array) -> Array:
    """Of Laplace noise the likeliest value; its variance falls to half of that of the mean."""
    del level
    return jnp.median(releases, axis=0)


def _laplace_of_medians(level: Any, count: int) -> Any:
    """The scale of Laplace noise that varies as much as the median of many does."""
    return level if count == 1 else level / (2 * count) ** 0.5


def _dropout(key: Array, x: Array, level: Array) -> Array:
    return x * jax.random.bernoulli(key, 1 - level, x.shape)


def _dropout_residual(before: Array, clean: Array, observed: Array, level: Array) -> Array:
    """What is zero may have been dropped: it tells nothing."""
    told = jnp.where(level > 0, observed != 0, True)
    return jnp.where(told, _unchanged_residual(before, clean, observed, level), 0)


def _survivors(releases: Array, level: Array) -> Array:
    """The value of whatever was not dropped from one of the releases."""
    del level
    largest = jnp.abs(releases).argmax(axis=0)
    return jnp.take_along_axis(releases, largest[None], axis=0)[0]


def _cells(x: Array, level: Array) -> tuple[Array, Array]:
    """Least value and width of the cells of `2^level` values that span the range of `x`."""
    low, high = x.min(), x.max()
    return low, (high - low) / jnp.maximum(2.0**level - 1, 1)


def _nearest(x: Array, low: Array, width: Array) -> Array:
    """Numbers of the cells that values are rounded to, from 0 on."""
    return jnp.round((x - low) / jnp.where(width > 0, width, 1))


def _quantized(key: Array, x: Array, level: Array) -> Array:
    del key
    low, width = _cells(x, level)
    rounded = low + _nearest(x, low, width) * width
    # The straight-through gradient, of exactly these values: networks are trained through it.
    rounded = jax.lax.stop_gradient(rounded) + (x - jax.lax.stop_gradient(x))
    return jnp.where(level > 0, rounded, x)


def _quantized_symbols(y: Array, level: Array) -> Array:
    return _nearest(y, *_cells(y, level)).astype(jnp.int32)


def _quantized_residual(before: Array, clean: Array, observed: Array, level: Array) -> Array:
    """In standard deviations of a value that lies anywhere in its cell."""
    del clean
    low, width = _cells(observed, level)
    residual = jnp.where(observed > low, before - observed, jnp.maximum(before - low, 0))
    noise = jnp.where(level > 0, width / 12**0.5, 0)
    return residual / jnp.maximum(noise, _LEAST_NOISE)


def _kept(level: Array, size: int) -> Array:
    """How many of so many are left, rounded up; float32 has 1 - 0.9 a little above 0.1."""
    return jnp.ceil((1 - level) * size * (1 - 1e-6))


def _pruned(key: Array, x: Array, level: Array) -> Array:
    del key
    sizes = jnp.abs(x).ravel()
    kept = jnp.maximum(_kept(level, sizes.size), 1).astype(jnp.int32)
    least = jnp.sort(sizes)[sizes.size - kept]
    above, equal = sizes > least, sizes == least
    # Of equal values, such as a background's, the first: no more are left than are sent.
    first = equal & (jnp.cumsum(equal) <= kept - above.sum())
    return jnp.where((above | first).reshape(x.shape), x, 0)


def _pruned_residual(before: Array, clean: Array, observed: Array, level: Array) -> Array:
    """Where nothing was kept, the feature was no larger than any that was."""
    del level
    least = jnp.min(jnp.where(observed != 0, jnp.abs(observed), jnp.inf))
    least = jnp.where(jnp.isfinite(least), least, 0)
    above = jnp.sign(clean) * jnp.maximum(jnp.abs(clean) - least, 0)
    return jnp.where(observed != 0, before - observed, above)


def _projected(key: Array, x: Array, level: Array) -> Array:
    """Signs, the cosine transform, some frequencies, and back: the same ones for every example."""
    del key
    size = x.size
    rng = np.random.default_rng(size)
    signs = rng.choice([-1.0, 1.0], size).astype(np.float32)
    rank = rng.permutation(size)
    spectrum = jax.scipy.fft.dct(x.ravel() * signs, norm="ortho")
    kept = jnp.where(rank < _kept(level, size), spectrum, 0)
    projected = (jax.scipy.fft.idct(kept, norm="ortho") * signs).reshape(x.shape)
    return jnp.where(level > 0, projected, x)


def _projected_residual(before: Array, clean: Array, observed: Array, level: Array) -> Array:
    del before
    return _projected(jax.random.key(0), clean, level) - observed


def _unchanged(key: Array, x: Array, level: Array) -> Array:
    del key, level
    return x


def _unchanged_residual(before: Array, clean: Array, observed: Array, level: Array) -> Array:
    """As `objectives.rectified_difference`; of what was observed and not zero, the difference."""
    del clean, level
    return jnp.where(observed != 0, before - observed, jnp.maximum(before, 0))


def distance_correlation(images: Array, features: Array) -> Array:
    """Distance correlation of a batch's images and features, in [0, 1] (Szekely et al. 2007).

    Args:
      images: `[B, ...]`.
      features: `[B, ...]`.
    """

    def centred(x: Array) -> Array:
        flat = x.reshape(len(x), -1)
        squares = jnp.sum(flat**2, axis=1)
        products = jnp.matmul(flat, flat.T, precision="highest")
        squared = squares[:, None] + squares[None] - 2 * products
        distance = jnp.sqrt(jnp.maximum(squared, 0) + 1e-8)
        rows, columns = distance.mean(axis=0, keepdims=True), distance.mean(axis=1, keepdims=True)
        return distance - rows - columns + distance.mean()

    a, b = centred(images), centred(features)
    covariance = jnp.maximum(jnp.mean(a * b), 0)
    variances = jnp.mean(a * a) * jnp.mean(b * b)
    return jnp.sqrt(covariance / jnp.sqrt(variances + 1e-12) + 1e-12)


GAUSSIAN = Mechanism(
    "gaussian",
    _gaussian,
    unit="sigma, standard deviation of the noise",
    source="He, Zhang & Lee 2021, section IV-A",
    sweep=(0.0, 0.3, 0.5, 0.8, 1.0, 2.0),
    residual=_gaussian_residual,
    noisy=True,
    combined=_averaged,
    noise="gaussian",
)
LAPLACE = Mechanism(
    "laplace",
    _laplace,
    unit="b, scale of the noise (its standard deviation is 1.41 b)",
    source="He, Zhang & Lee 2021, section IV-A",
    sweep=(0.0, 0.3, 0.5, 0.8, 1.0, 2.0),
    residual=_laplace_residual,
    noisy=True,
    combine=_median,
    combined=_laplace_of_medians,
    noise="laplace",
)
DROPOUT = Mechanism(
    "dropout",
    _dropout,
    unit="r, share of values set to zero",
    source="He, Zhang & Lee 2021, Eq. 6: no rescaling",
    sweep=(0.0, 0.2, 0.4, 0.6, 0.8, 0.9),
    below=1.0,
    residual=_dropout_residual,
    combine=_survivors,
    combined=lambda level, count: level**count,
    noise="dropout",
)
QUANTIZE = Mechanism(
    "quantize",
    _quantized,
    unit="bits of a value, between an example's least and greatest; 0 for all",
    source="uniform quantisation",
    sweep=(0.0, 8.0, 4.0, 2.0, 1.0),
    random=False,
    below=17.0,
    whole=True,
    residual=_quantized_residual,
    noisy=True,
    symbols=_quantized_symbols,
)
PRUNE = Mechanism(
    "prune",
    _pruned,
    unit="share of an example's values set to zero, the smallest; of equal ones the last",
    source="top-k sparsification",
    sweep=(0.0, 0.9, 0.95, 0.98, 0.99),
    random=False,
    below=1.0,
    residual=_pruned_residual,
)
PROJECT = Mechanism(
    "project",
    _projected,
    unit="share of dimensions removed by a fixed random projection",
    source="subsampled randomised cosine transform",
    sweep=(0.0, 0.5, 0.75, 0.9, 0.95),
    random=False,
    below=1.0,
    residual=_projected_residual,
)
NOPEEK = Mechanism(
    "nopeek",
    _unchanged,
    unit="weight of the distance correlation in the loss of training",
    source="Vepakomma et al. 2020, NoPeek",
    sweep=(0.0, 0.5, 1.0, 2.0, 5.0),
    random=False,
    residual=_unchanged_residual,
    penalty=distance_correlation,
)


@functools.cache
def clipped_gaussian(norm: float) -> Mechanism:
    """Clips an example to a length and adds Gaussian noise in proportion to it.

    The Gaussian mechanism of differential privacy (Dwork & Roth 2014, A): an example moves what is
    released by at most twice the norm.

    Args:
      norm: greatest length of an example; its level is the noise's standard deviation over it.
    """

    def clip(x: Array) -> Array:
        length = jnp.sqrt(jnp.sum(x**2) + 1e-12)
        return x * jnp.minimum(1, norm / length)

    def apply(key: Array, x: Array, level: Array) -> Array:
        noise = level * norm * jax.random.normal(key, x.shape)
        return jnp.where(level > 0, clip(x) + noise, x)

    def residual(before: Array, clean: Array, observed: Array, level: Array) -> Array:
        del before
        seen = jnp.where(level > 0, clip(clean), clean)
        return (seen - observed) / jnp.maximum(level * norm, _LEAST_NOISE)

    return Mechanism(
        "clip",
        apply,
        unit=f"standard deviation of the noise over the clipping norm {norm:.4g}",
        source="the Gaussian mechanism, Dwork & Roth 2014",
        sweep=(0.0, 0.01, 0.02, 0.05, 0.1),
        residual=residual,
        noisy=True,
        combined=_averaged,
        # Clipping brings features nearer together: it takes information away.
        noise="gaussian",
        noise_scale=lambda level: level * norm,
    )


MECHANISMS: dict[str, Mechanism] = {
    mechanism.name: mechanism
    for mechanism in (GAUSSIAN, LAPLACE, DROPOUT, QUANTIZE, PRUNE, PROJECT, NOPEEK)
}
"""By name. `clip` is made for its norm, by `clipped_gaussian`."""


def median_norm(edge: Network, params: Params, images: np.ndarray, site: Site) -> float:
    """The median length of an example where a defence stands, to four digits: a norm to clip to.

    Args:
      edge: the part of the network on the device.
      params: its parameters.
      images: `[N, H, W, C]` in unit space, the deployer's own.
      site: whether inputs are measured, as the network normalises them, or features.
    """
    run = jax.jit(edge.normalize if site == "input" else partial(edge.apply, edge.select(params)))
    lengths = jnp.linalg.norm(run(images).reshape(len(images), -1), axis=1)
    return float(f"{float(jnp.median(lengths)):.4g}")


# --- What crosses the wire ----------------------------------------------------------------------

Query = Callable[..., Array]
"""`(keys [B], images [B, H, W, C] in unit space) -> features [B, ...]`: the release as a function.

Pure. An image's key decides what a randomised defence draws for it, so the same key and image are
the same query. This is all that a black-box attacker is given of a network. That of a family of
defences, which differ in their levels, takes a third argument: `[B]`, which one. What is trained on
a query that is a `jax.tree_util.Partial` is a program that takes what that holds as an argument;
what any other function holds are constants of a program, which is compiled for them alone.
"""


def query_function(
    edge: Network, params: Params, defense: Defense = NONE, *, releases: int = 1
) -> Query:
    """The release as a black-box attacker may call it.

    Args:
      edge: the part of the network on the device.
      params: its parameters.
      defense: what the device does against attackers.
      releases: of one image, which the attacker combines.
    """
    release = _release_at(edge, defense.structure, releases)
    return Partial(release, edge.select(params), jnp.asarray(defense.levels))


def release_function(
    edge: Network, defense: Defense = NONE, *, releases: int = 1
) -> Callable[[Params, Array, Array], Array]:
    """As `query_function`, with parameters that are given later: first, before the keys."""
    release, levels = _release_at(edge, defense.structure, releases), jnp.asarray(defense.levels)
    return lambda params, keys, images: release(params, levels, keys, images)


def query_family(
    edge: Network, params: Params, family: Sequence[Defense], *, releases: int = 1
) -> Query:
    """`query_function` for defences that differ in their levels alone; its third argument chooses.

    Raises:
      ValueError: they differ in more.
    """
    structure, levels = _levels_of(family)
    return Partial(_release_at(edge, structure, releases), edge.select(params), levels)


def release_family(
    edge: Network, family: Sequence[Defense], *, releases: int = 1
) -> Callable[[Params, Array, Array, Array], Array]:
    """As `query_family`, with parameters that are given later: first, before the keys."""
    structure, levels = _levels_of(family)
    release = _release_at(edge, structure, releases)
    return lambda params, keys, images, which: release(params, levels, keys, images, which)


def _levels_of(family: Sequence[Defense]) -> tuple[Structure, Array]:
    """What defences have in common, and `[L, P]`, the levels of each."""
    structures = {defense.structure for defense in family}
    if len(structures) != 1:
        raise ValueError("Expected defences that differ in their levels alone.")
    (structure,) = structures
    return structure, jnp.stack([jnp.asarray(defense.levels) for defense in family])


def _release_at(edge: Network, structure: Structure, releases: int) -> Callable[..., Array]:
    """The release with levels that are given: `[P]`, or `[L, P]` of which `which [B]` chooses."""

    def release(
        params: Params, levels: Array, keys: Array, images: Array, which: Array | None = None
    ) -> Array:
        if which is None:
            of_each = jnp.broadcast_to(levels, (len(images), len(levels)))
        else:
            of_each = levels[which]
        return _release(edge, structure, releases, params, keys, images, of_each)

    return release


def release_levels(
    edge: Network,
    structure: Structure,
    params: Params,
    keys: Array,
    images: Array,
    levels: Array,
    then: Callable[[Array], Array],
) -> Array:
    """What a function makes of the release of images at each level, `[L, ...]`; to be compiled.

    The edge is computed once for all levels of what stands at its features.

    Args:
      edge: the part of the network on the device.
      structure: of the defence.
      params: of the edge.
      keys: `[B]`, of each image's draws.
      images: `[B, H, W, C]` in unit space.
      levels: `[L, P]`, of the steps.
      then: of features `[B, ...]`.
    """
    at_features = all(site == "feature" for _, site in structure)
    plain = edge.apply(params, images) if at_features else None

    def one(level: Array) -> Array:
        rows = jnp.broadcast_to(level, (len(images), *level.shape))
        own = jax.random.clone(keys)  # the same draws at every level
        if plain is None:
            return then(_release_once(edge, structure, params, own, images, rows))
        return then(_defended("feature", structure, own, plain, rows))

    return jax.lax.map(one, levels)


class Release:
    """What the cloud receives for a batch of inputs: input defence, edge, feature defence.

    Features are computed when they are asked for, so that many images need little memory:
    `release[indices]` is `[len(indices), *edge.output_shape]`, NumPy. The draw of an image depends
    on the key and on the image's place alone, never on what is asked for with it.

    Args:
      edge: the part of the network on the device.
      params: its parameters.
      images: `[N, H, W, C]` in unit space.
      defense: what the device does against attackers.
      key: of the defence's randomness.
      releases: of each input, which the attacker combines; the first is what one would be.
    """

    def __init__(
        self,
        edge: Network,
        params: Params,
        images: np.ndarray,
        defense: Defense,
        key: Array,
        *,
        releases: int = 1,
    ):
        self._edge, self._params, self._defense = edge, edge.select(params), defense
        self._images, self._key, self._releases = images, key, releases

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        places = np.arange(len(self))[indices]
        return devices.in_slices(
            _released,
            places.astype(np.int32),
            self._images[places],
            np.broadcast_to(self._defense.levels, (len(places), len(self._defense.steps))),
            static=(self._edge, self._defense.structure, self._releases),
            shared=(self._params, self._key),
        )


class Rows:
    """Some rows of features, by index: `[len(rows), ...]`."""

    def __init__(self, features: Any, rows: np.ndarray):
        self._features, self._rows = features, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        return self._features[self._rows[indices]]


def defended_inputs(edge: Network, images: np.ndarray, defense: Defense, key: Array) -> np.ndarray:
    """What went into the edge for the first release of images: `[N, H, W, C]`, in unit space.

    Args:
      edge, images, defense, key: as for `Release`, whose draws these are.
    """
    places = jnp.arange(len(images), dtype=jnp.int32)
    levels = np.broadcast_to(defense.levels, (len(images), len(defense.steps)))
    args = (key, places, jnp.asarray(images), jnp.asarray(levels))
    return np.asarray(_inputs(edge, defense.structure, *args))


class Joined:
    """Features of several batches as of one, by index: `[N1 + N2 + ..., ...]`."""

    def __init__(self, parts: Sequence[Any]):
        self._parts = list(parts)
        self._ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        indices = np.arange(len(self))[indices]
        number = np.searchsorted(self._ends, indices, side="right")
        rows: Any = None
        for own in np.unique(number):
            mine = number == own
            start = self._ends[own] - len(self._parts[own])
            found = self._parts[own][indices[mine] - start]
            if rows is None:
                rows = np.empty((len(indices), *found.shape[1:]), found.dtype)
            rows[mine] = found
        return rows


@partial(jax.jit, static_argnums=(0, 1))
def _inputs(edge, structure, key, indices, images, levels):
    keys = jax.vmap(partial(jax.random.fold_in, key))(indices)
    if all(site == "feature" for _, site in structure):
        return images
    return edge.denormalize(_defended("input", structure, keys, edge.normalize(images), levels))


def _released(edge, structure, releases, params, key, indices, images, levels):
    keys = jax.vmap(partial(jax.random.fold_in, key))(indices)
    return _release(edge, structure, releases, params, keys, images, levels)


def _release(
    edge: Network,
    structure: Structure,
    releases: int,
    params: Params,
    keys: Array,
    images: Array,
    levels: Array,
) -> Array:
    """`[B, ...]`, of keys `[B]`, images `[B, H, W, C]` and levels `[B, P]`."""
    if not structure:
        return edge.apply(params, images)
    first = _release_once(edge, structure, params, keys, images, levels)
    if releases == 1 or not any(mechanism.random for mechanism, _ in structure):
        return first

    def another(number: Array) -> Array:
        own = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
        return _release_once(edge, structure, params, own, images, levels)

    others = jax.lax.map(another, jnp.arange(1, releases))
    last, site = structure[-1]
    alone = len(structure) == 1 and site == "feature"
    every = jnp.concatenate([first[None], others])
    return jax.vmap(last.combine if alone else _mean, (1, 0))(every, levels[:, -1])


def _release_once(edge, structure, params, keys, images, levels) -> Array:
    if any(site == "input" for _, site in structure):
        normalized = _defended("input", structure, keys, edge.normalize(images), levels)
        features = edge.without_normalization.apply(params, normalized)
    else:
        features = edge.apply(params, images)
    return _defended("feature", structure, keys, features, levels)


def _defended(site: Site, structure: Structure, keys: Array, x: Array, levels: Array) -> Array:
    """The steps at one site, of a batch."""
    for number, (mechanism, place) in enumerate(structure):
        if place == site:
            own = keys
            if len(structure) > 1:
                own = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
            x = jax.vmap(mechanism.apply)(own, x, levels[:, number])
    return x


# --- What an attacker makes of it ---------------------------------------------------------------


def is_noisy(structure: Structure) -> bool:
    """Whether the residual of features is in standard deviations of noise."""
    at_features = [mechanism for mechanism, site in structure if site == "feature"]
    return len(at_features) == 1 and at_features[0].noisy


def residual(
    structure: Structure, before: Array, clean: Array, observed: Array, levels: Array
) -> Array:
    """What features, defended so, leave unexplained of what was observed; see `Mechanism.residual`.

    Args:
      structure: of the defence; steps at the input are not looked at.
      before, clean, observed: `[B, ...]`, features before a final rectifier, the features, and what
        crossed the wire.
      levels: `[B, P]`, of the steps, as combined releases have them.

    Returns:
      `[B, ...]`.
    """
    steps = [
        (mechanism, number)
        for number, (mechanism, site) in enumerate(structure)
        if site == "feature"
    ]
    known = steps[0][0].residual if len(steps) == 1 else None
    if known is not None:
        return jax.vmap(known)(before, clean, observed, levels[:, steps[0][1]])

    def draw(key: Array, x: Array, levels: Array) -> Array:
        for mechanism, number in steps:
            x = mechanism.apply(jax.random.fold_in(key, number), x, levels[number])
        return x

    def expected(x: Array, levels: Array) -> Array:
        keys = jax.random.split(jax.random.key(0), _DRAWS)
        return jax.vmap(draw, (0, None, None))(keys, x, levels).mean(axis=0)

    return jax.vmap(expected)(clean, levels) - observed
