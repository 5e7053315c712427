"""What theory allows: bounds on the error of reconstructions, and on re-identification.

A `Channel` is what a defence's noise leaves of an input: a map whose output is seen in noise. What
comes after it, be it the rest of the edge or a second mechanism, adds no information. `Information`
is the Fisher information of such a map at unit noise, as spectra, so that one calculation serves
all levels of noise. JAX for Jacobians, which are never formed; NumPy and SciPy for the rest.

Errors are mean squared errors a pixel value in unit space; as a PSNR in dB, a bound is that of the
*mean* squared error, `-10 log10`, which is at most the mean PSNR. A bound is `certified` if it
follows from its assumptions, and `estimated` if a number in it was sampled. All but Cramer-Rao are
about attackers of any kind.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy import optimize, special

from jaxinv.defenses import Defense
from jaxinv.machine import devices
from jaxinv.networks import Network, Params
from jaxinv.store import checkpoints

T = TypeVar("T")

DITHER = 0.1
"""Standard deviation of the noise on images, in unit space, that makes their prior a smooth one."""

Kind = Literal["certified", "estimated"]

_DENSE_PIXELS = 1024  # up to which spectra are exact; beyond, Lanczos
_DENSE_AFFINE = 4096  # the same of the first affine layers, which need it once, and of other layers
_CHUNK = 256  # directions at once
# Directions and steps of quadrature. Of 3,072 pixel values four directions tell the mean of a
# function of the spectrum within some 2%; steps are exact for polynomials of twice their number.
_PROBES, _LANCZOS = 4, 24
_PROBES_NORM, _LANCZOS_NORM = 8, 40  # that find a largest eigenvalue
_ENOUGH = 8  # draws for each symbol, for an entropy
_APART = 0.01  # standard deviations, from one place of a table to the next


class Bound(NamedTuple):
    """One bound.

    Attributes:
      name: of the theorem.
      kind: "certified", or "estimated" where a number in it was sampled.
      quantity: "psnr": no attacker's PSNR of the mean squared error is above `value`, dB; "reid":
        nor does any find more than a share `value` of the images.
      value: NaN where it says nothing.
      dithered: whether it is about images with dither, and not about the test images as they are.
      assumptions: in words.
    """

    name: str
    kind: Kind
    quantity: Literal["psnr", "reid"]
    value: float
    dithered: bool
    assumptions: str


class Channel(NamedTuple):
    """A map whose output crosses in noise, the same in every value, independently.

    Attributes:
      network: the map; of noise at the input, the normalisation alone.
      noise: "gaussian" or "laplace" is added; "dropout" sets values to zero.
      scale: of the noise: standard deviation, scale, or share of zeros.
      releases: independent ones of each input.
    """

    network: Network
    noise: Literal["gaussian", "laplace", "dropout"]
    scale: float
    releases: int = 1

    @property
    def information(self) -> float:
        """Fisher information of all releases about one value of the map's output."""
        return 0.0 if self.noise == "dropout" else self.releases / self.scale**2


def channel(edge: Network, defense: Defense, *, releases: int = 1) -> Channel | None:
    """What a defence's first step lets through, or None where it adds no noise.

    Whatever follows is computed from that, so a bound on it bounds the whole (data processing).
    Steps at the input come first, in whichever order they are named.
    """
    steps = sorted(defense.steps, key=lambda step: step.site != "input")
    if not steps or not steps[0].level:
        return None
    mechanism, site, level = steps[0]
    if mechanism.noise is None:
        return None
    network = edge
    if site == "input":
        network = _normalisation(edge.input_shape, edge.mean, edge.std)
    return Channel(network, mechanism.noise, float(mechanism.noise_scale(level)), releases)


@functools.lru_cache(maxsize=64)  # the same each time: programs and spectra are kept for it
def _normalisation(
    shape: tuple[int, ...], mean: tuple[float, ...] | None, std: tuple[float, ...] | None
) -> Network:
    return Network({}, shape, mean, std)


# --- Fisher information ---------------------------------------------------------------------------


class Spectrum(NamedTuple):
    """Eigenvalues of `J'J`, or nodes and weights that stand for them.

    Attributes:
      values: `[..., K]`, not negative, in squared features a squared pixel value.
      weights: `[..., K]`, of which share of the pixel values each stands for; they sum to 1.
    """

    values: np.ndarray
    weights: np.ndarray


@dataclasses.dataclass(frozen=True)
class Information:
    """Of a map J at unit noise.

    Attributes:
      at: spectra of `J'J` at images, `[N, K]`.
      dithered: the same, averaged over dithered copies of each.
      most: spectrum of a matrix that is nowhere below `J'J` in any direction, `[1, K]`, or None
        where the layers tell of none: that of the affine layers at the front, times the squared
        Lipschitz constants of all others.
      exact: whether the map is affine, so that all three are the same, and free of sampling.
      rigorous: whether `most` was calculated and not sampled.
      dither: standard deviation of the dither.
      draws: dithered copies of each image.
    """

    at: Spectrum
    dithered: Spectrum
    most: Spectrum | None
    exact: bool
    rigorous: bool
    dither: float
    draws: int


def information(
    network: Network,
    params: Params,
    images: np.ndarray,
    key: Array,
    *,
    dither: float = DITHER,
    draws: int = 8,
) -> Information:
    """Measures the Fisher information of a map.

    Up to 1,024 pixel values an image its spectra are calculated, beyond they are sampled: Lanczos'
    quadrature from random directions (Ubaru et al. 2017), which needs products with J alone.

    Args:
      network: the map.
      params: its parameters.
      images: `[N, H, W, C]` in unit space.
      key: of dithers and directions.
      dither: standard deviation of the Gaussian dither.
      draws: dithered copies of each image.
    """
    with devices.exact():
        return _information(network, network.select(params), images, key, dither, draws)


def _information(
    network: Network, own: Params, images: np.ndarray, key: Array, dither: float, draws: int
) -> Information:
    size = math.prod(network.input_shape)
    key_dither, *keys = jax.random.split(key, 3)
    most, rigorous = _most(network, own)
    if network.is_affine and most is not None:
        return Information(most, most, most, True, rigorous, dither, draws)
    shape = (len(images), draws, *network.input_shape)
    copies = images[:, None] + dither * np.asarray(jax.random.normal(key_dither, shape))
    if size <= _DENSE_PIXELS:
        spectra = [_eigenvalues(network, own, part) for part in (images[:, None], copies)]
    else:
        parts = zip(keys, (images[:, None], copies), strict=True)
        spectra = [_lanczos(network, own, part, key) for key, part in parts]
    at, dithered = spectra
    return Information(at, dithered, most, False, rigorous, dither, draws)


def _most(network: Network, params: Params) -> tuple[Spectrum | None, bool]:
    """A bound on `J'J` from the layers, and whether it is rigorous."""
    names = list(network.layers)
    front = 0
    while front < len(names) and network.layers[names[front]].kind == "affine":
        front += 1
    head, rest = _cut(network, front)
    size, factor, rigorous = math.prod(network.input_shape), 1.0, True
    if size > _DENSE_AFFINE:
        return None, False
    for name, layer in rest.layers.items():
        if layer.kind == "other":
            return None, False
        alone = _layer(network, name)
        if layer.kind == "affine":
            squared, calculated = _once(_squared_norm, alone, alone.select(params))
            factor, rigorous = factor * squared, rigorous and calculated
        elif layer.kind == "max_pool":
            factor *= _once(_most_windows, alone, {})
    spectrum = _once(_affine_eigenvalues, head, head.select(params))
    return Spectrum(spectrum.values * factor, spectrum.weights), rigorous


_found: dict[Any, Any] = {}  # what was measured of layers, which the edges of a network share


def _once(measure: Callable[[Network, Params], T], layers: Network, params: Params) -> T:
    """What `measure` finds of layers, measured when it is first asked for."""
    known = (
        measure,
        tuple(layers.layers.values()),
        layers.input_shape,
        repr((layers.mean, layers.std)),
        checkpoints.fingerprint(params),
    )
    if known not in _found:
        _found[known] = measure(layers, params)
    return _found[known]


@functools.lru_cache(maxsize=64)  # as of networks that are split
def _cut(network: Network, count: int) -> tuple[Network, Network]:
    """The first layers, with the normalisation, and the others."""
    items = list(network.layers.items())
    head = dataclasses.replace(network, layers=dict(items[:count]))
    return head, Network(dict(items[count:]), head.output_shape)


@functools.lru_cache(maxsize=64)
def _layer(network: Network, name: str) -> Network:
    """One layer alone."""
    before = list(network.layers)[: list(network.layers).index(name)]
    shape = network.shapes[before[-1]] if before else network.input_shape
    return Network({name: network.layers[name]}, shape)


def _squared_norm(layer: Network, params: Params) -> tuple[float, bool]:
    """The largest eigenvalue of an affine layer's `J'J`, and whether that was calculated."""
    if math.prod(layer.input_shape) <= _DENSE_AFFINE:
        return float(_affine_eigenvalues(layer, params).values.max()), True
    zero = np.zeros((1, 1, *layer.input_shape), np.float32)
    # The largest Ritz value is too small, by less and less.
    found = _lanczos(layer, params, zero, jax.random.key(0), _PROBES_NORM, _LANCZOS_NORM)
    return float(found.values.max()), False


def _affine_eigenvalues(layers: Network, params: Params) -> Spectrum:
    """The spectrum of `J'J`, which is the same everywhere."""
    return _eigenvalues(layers, params, np.zeros((1, 1, *layers.input_shape), np.float32))


def _most_windows(pooling: Network, params: Params) -> float:
    """In how many windows a value is at most: a maximum's squared Lipschitz constant."""
    height, width, channels = pooling.input_shape
    run = jax.jit(partial(pooling.apply, params))
    counts = [0.0]
    for row in range(height):
        bumps = np.zeros((width, height, width, channels), np.float32)
        bumps[np.arange(width), row, np.arange(width)] = 1  # in every channel by itself
        counts.append(float(run(bumps).sum(axis=(1, 2)).max()))
    return max(counts)


def _eigenvalues(network: Network, params: Params, copies: np.ndarray) -> Spectrum:
    """Spectra `[N, D]` of `J'J`, averaged over the copies `[N, S, ...]` of each image."""
    size = math.prod(network.input_shape)
    values = []
    for own in copies:
        total = np.zeros((size, size))
        for begin in range(0, size, _CHUNK):
            rows = np.eye(_CHUNK, size, begin, dtype=np.float32)  # zero beyond the last
            products = np.asarray(_gram_times(network, params, own, rows), np.float64)
            total[begin : begin + _CHUNK] = products[: size - begin]
        values.append(np.linalg.eigvalsh((total + total.T) / 2))
    found = np.maximum(np.stack(values), 0)
    return Spectrum(found, np.full_like(found, 1 / size))


def _lanczos(
    network: Network,
    params: Params,
    copies: np.ndarray,
    key: Array,
    count: int = _PROBES,
    steps: int = _LANCZOS,
) -> Spectrum:
    """Nodes `[N, P * L]` and weights that stand for the spectra: Gauss quadrature, P directions."""
    size = math.prod(network.input_shape)
    steps = min(steps, size)
    probes = np.asarray(jax.random.rademacher(key, (count, size)), np.float32) / size**0.5
    found = []
    for own in copies:
        diagonal = np.zeros((count, steps))
        beside = np.zeros((count, steps))
        basis = [probes]
        for step in range(steps):
            product = np.array(_gram_times(network, params, own, basis[-1]), np.float64)
            diagonal[:, step] = (product * basis[-1]).sum(axis=1)
            # Against all that there are, twice: rounding soon leaves them far from orthogonal.
            for earlier in basis * 2:
                product -= (product * earlier).sum(axis=1, keepdims=True) * earlier
            beside[:, step] = np.linalg.norm(product, axis=1)
            safe = np.maximum(beside[:, step : step + 1], 1e-20)
            basis.append((product / safe).astype(np.float32))
        found.append([_quadrature(*row) for row in zip(diagonal, beside[:, :-1], strict=True)])
    values, weights = np.moveaxis(np.array(found), 2, 0)
    rows = len(copies)
    return Spectrum(np.maximum(values, 0).reshape(rows, -1), weights.reshape(rows, -1) / count)


def _quadrature(diagonal: np.ndarray, beside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))
    return values, vectors[0] ** 2


@partial(jax.jit, static_argnums=0)
def _gram_times(network: Network, params: Params, copies: Array, rows: Array) -> Array:
    """`J'J` times each of the rows `[B, D]`, the mean over the copies `[S, ...]` of an image."""
    tangents = rows.reshape(-1, *network.input_shape)

    def one(image: Array) -> Array:
        # Directions are a batch: convolutions in a loop have no rule for a further axis.
        batch = jnp.broadcast_to(image[None], tangents.shape)
        apply = partial(network.apply, params)
        _, push = jax.jvp(apply, (batch,), (tangents,))
        _, pull = jax.vjp(apply, batch)
        return pull(push)[0].reshape(rows.shape)

    return jax.lax.map(one, copies).mean(axis=0)


# --- Bounds on the error --------------------------------------------------------------------------


def cramer_rao(through: Channel, known: Information) -> np.ndarray:
    """Least mean squared error of attackers without bias, at each image `[N]`.

    Infinite where the map forgets a direction, or tells of it so little beside others that single
    precision cannot say whether: no attacker is without bias there, or it errs without measure.
    Source: Cramer-Rao; Laplace noise of scale b has the information 1 / b^2.
    """
    values, weights = known.at
    size = math.prod(through.network.input_shape)
    if math.prod(through.network.output_shape) < size:
        return np.full(len(values), np.inf)
    least = values.max(axis=-1, keepdims=True) * size * np.finfo(np.float32).eps
    told = values > least
    none = np.where(weights < 1e-9, 0, np.inf)  # a node that stands for nothing counts for nothing
    inverse = np.where(told, 1 / np.where(told, values, 1), none)
    if not through.information:
        return np.full(len(values), np.nan)
    return (weights * inverse).sum(axis=-1) / through.information


def van_trees(through: Channel, spectrum: Spectrum, dither: float) -> np.ndarray:
    """Least mean squared error of any attacker, who may know each image but for its dither, `[N]`.

    The Bayesian Cramer-Rao bound: Gaussian dither has the information 1 / dither^2, whatever the
    image. Source: Van Trees 1968; Gill & Levit 1995.
    """
    inverse = 1 / (through.information * spectrum.values + dither**-2)
    return (spectrum.weights * inverse).sum(axis=-1)


def rate(bits: float, size: int, dither: float) -> float:
    """Least mean squared error of any attacker who is sent that many bits on a dithered image.

    Source: Shannon's lower bound on the rate of a source with the entropy of its dither.

    Args:
      bits: that cross the wire.
      size: pixel values of an image.
      dither: its standard deviation.
    """
    return dither**2 * 2 ** (-2 * bits / size)


def entropy(symbols: np.ndarray, bits: float) -> float:
    """Bits that sent symbols have at most: the sum of every place's own entropy, estimated.

    What places have in common is counted several times. The entropy of few draws is too low, which
    is corrected to first order (Miller 1955). Where symbols are too many for that it is the
    entropy of the least certain numbers of their variance, or `bits`.

    Args:
      symbols: `[S, ...]` whole numbers, S draws of what one example sends.
      bits: of each symbol.
    """
    draws = len(symbols)
    flat = symbols.reshape(draws, -1)
    total = 0.0
    for begin in range(0, flat.shape[1], _CHUNK):
        part = np.sort(flat[:, begin : begin + _CHUNK], axis=0)
        width = part.shape[1]
        first = np.ones_like(part, bool)
        first[1:] = part[1:] != part[:-1]
        begins = np.flatnonzero(first.T)  # of runs of equal symbols, place by place
        share = np.diff(begins, append=part.size) / draws
        distinct = np.bincount(begins // draws, minlength=width)
        nats = np.bincount(begins // draws, weights=special.entr(share), minlength=width)
        seen = (nats + (distinct - 1) / (2 * draws)) / math.log(2)
        most = np.log2(2 * math.pi * math.e * (part.var(axis=0) + 1 / 12)) / 2
        total += np.minimum(np.where(_ENOUGH * distinct <= draws, seen, most), bits).sum()
    return float(total)


def two_point(through: Channel, images: np.ndarray, features: np.ndarray) -> float:
    """Least mean squared error of any attacker, on average over images that it may know.

    It may even know that an image is one of two, of which either is as likely: then it errs by
    `d^2/2 E[p q / (p + q)]`, for d their distance. Each image is paired with another so that the
    sum is largest, and no image more often than once on either side.
    Source: Le Cam; of Gaussian noise the exact Bayes risk; of others by the affinity of p and q.

    Args:
      through: the noise.
      images: `[N, H, W, C]` in unit space.
      features: `[N, ...]`, of the map, without noise.
    """
    flat = images.reshape(len(images), -1)
    risk = _squared_distances(flat) / flat.shape[1] / 2 * _overlap(through, features)
    first, second = optimize.linear_sum_assignment(risk, maximize=True)
    return float(risk[first, second].mean())


def _overlap(through: Channel, features: np.ndarray) -> np.ndarray:
    """`E[p q / (p + q)]`, or less, of each two releases, `[N, N]`: 1/2 where they are the same."""
    flat = np.asarray(features, np.float64).reshape(len(features), -1)
    if through.noise == "gaussian":
        apart = np.sqrt(_squared_distances(flat) * through.information)
        table = _gaussian_overlaps()
        # It falls: the next place further on is less.
        return table[np.minimum(np.ceil(apart / _APART), len(table) - 1).astype(int)]
    if through.noise == "laplace":
        affinity = _each_two(_laplace_affinity, flat / through.scale)
    else:
        affinity = _each_two(_dropout_affinity, flat, math.log(through.scale))
    return np.exp(2 * through.releases * affinity) / 2


@functools.cache
def _gaussian_overlaps() -> np.ndarray:
    """Of two normal distributions, by their distance in standard deviations; zero at the end."""
    apart = np.arange(0, 40, _APART)
    places = np.arange(-10, 10, 0.02)
    density = np.exp(-(places**2) / 2) / math.sqrt(2 * math.pi)
    mean = 0.02 * (density / np.cosh(np.outer(apart, places) / 2)).sum(axis=1)
    return np.append(np.exp(-(apart**2) / 8) * mean / 2, 0.0)


def _laplace_affinity(flat: Array, row: Array) -> Array:
    """Logarithm of the Bhattacharyya coefficient of one release with each, `[N]`, at scale 1."""
    steps = jnp.abs(flat - row[None]) / 2
    return (jnp.log1p(steps) - steps).sum(axis=1)


def _laplace_divergence(flat: Array, row: Array) -> Array:
    """Kullback-Leibler divergence of one release and each, `[N]`, in nats, at scale 1."""
    steps = jnp.abs(flat - row[None])
    return (steps + jnp.expm1(-steps)).sum(axis=1)


def _dropout_affinity(flat: Array, row: Array, dropped: Array) -> Array:
    """As of Laplace noise. Of two values that differ only zeros agree; if one is zero, half."""
    told = jnp.where((flat == 0) | (row[None] == 0), dropped / 2, dropped)
    return jnp.where(flat != row[None], told, 0).sum(axis=1)


def _each_two(function: Callable[..., Array], flat: np.ndarray, *rest: float) -> np.ndarray:
    """`[N, N]`: a function of all rows `[N, D]` and one of them."""
    return np.asarray(_map_rows(function, jnp.asarray(flat, jnp.float32), *rest), np.float64)


@partial(jax.jit, static_argnums=0)
def _map_rows(function: Callable[..., Array], flat: Array, *rest: Array) -> Array:
    return jax.lax.map(lambda row: function(flat, row, *rest), flat)


def _squared_distances(flat: np.ndarray) -> np.ndarray:
    flat = np.asarray(flat, np.float64)
    squares = (flat**2).sum(axis=1)
    apart = np.maximum(squares[:, None] + squares - 2 * (flat @ flat.T), 0)
    np.fill_diagonal(apart, 0)
    return apart


# --- Bounds on re-identification ------------------------------------------------------------------


def fano(through: Channel, features: np.ndarray) -> float:
    """Largest share of images that any attacker finds among all of them, each as likely.

    Images must be different: where either of two equal ones counts as found, as it does in
    `metrics.reidentified`, they are one image to be found, and not two (`distinct`).
    Source: Fano's inequality; the information of a mixture by Kolchinsky & Tracey 2017, Eq. 10.

    Args:
      through: the noise.
      features: `[M, ...]`, of the map, without noise.
    """
    count = len(features)
    flat = np.asarray(features, np.float64).reshape(count, -1)
    if through.noise == "gaussian":
        divergence = _squared_distances(flat) * through.information / 2
    elif through.noise == "laplace":
        divergence = through.releases * _each_two(_laplace_divergence, flat / through.scale)
    else:
        return 1.0
    return _found_among(divergence)


def distinct(images: np.ndarray) -> np.ndarray:
    """Places of images of which none is equal to an earlier one, in order."""
    _, first = np.unique(images.reshape(len(images), -1), axis=0, return_index=True)
    return np.sort(first)


def reid_sigma(features: np.ndarray, share: float) -> float:
    """The least Gaussian noise on features behind which no attacker finds more than a share.

    Args:
      features: `[M, ...]`, without noise, of images of which each is as likely.
      share: of them, that may be found.

    Returns:
      Its standard deviation; infinity where none up to 10,000 does.
    """
    flat = np.asarray(features, np.float64).reshape(len(features), -1)
    divergence = _squared_distances(flat) / 2
    return least_noise(lambda sigma: _found_among(divergence / sigma**2), share)


def _found_among(divergence: np.ndarray) -> float:
    """From the divergences of each two releases, `[M, M]`, in nats."""
    count = len(divergence)
    mixed = special.logsumexp(-divergence, axis=1) - math.log(count)
    return _most_found(min(float(-mixed.mean()), math.log(count)), count)


def _most_found(nats: float, count: int) -> float:
    """The largest share s with `log M - h(s) - (1 - s) log(M - 1) <= I`."""

    def told(share: float) -> float:
        entropy = special.entr(share) + special.entr(1 - share)
        return math.log(count) - entropy - (1 - share) * math.log(count - 1)

    if count < 2 or told(1.0) <= nats:
        return 1.0
    if told(1 / count) >= nats:  # nothing is told; but for rounding it is zero
        return 1 / count
    return float(optimize.brentq(lambda share: told(share) - nats, 1 / count, 1.0))


# --- All of them ----------------------------------------------------------------------------------


def evaluate(
    through: Channel | None,
    known: Information | None,
    gallery: np.ndarray,
    features: np.ndarray | None,
    *,
    bits: float,
    entropies: Sequence[float] = (),
) -> list[Bound]:
    """All bounds on what a release tells.

    Args:
      through: what the defence lets through; None where it adds no noise.
      known: the information of its map; None without one.
      gallery: `[M, H, W, C]`: test images, among which one is looked for.
      features: `[M, ...]`, of its map, without noise; None without one.
      bits: that cross the wire, of each release.
      entropies: bits that it has at most, at some images with dither, where these were measured.
    """
    size, dither = gallery[0].size, known.dither if known else DITHER
    dithered = f"images with Gaussian dither of {dither:g}, which the attacker may know without it"
    releases = through.releases if through else 1
    found = [
        Bound(
            "rate", "certified", "psnr", _psnr(rate(bits * releases, size, dither)), True, dithered
        )
    ]
    if entropies:
        error = np.mean([rate(each * releases, size, dither) for each in entropies])
        text = (
            f"{dithered}; the entropy sampled at {_images(len(entropies))}; what values have in "
            "common counts several times, and so the bound is higher than it might be"
        )
        found.append(Bound("rate", "estimated", "psnr", _psnr(float(error)), True, text))
    if through is None or known is None or features is None:
        return found
    if through.noise != "dropout":
        found.append(_cramer_rao_bound(through, known))
        if known.most is not None:
            kind: Kind = "certified" if known.rigorous else "estimated"
            value = van_trees(through, known.most, dither).mean()
            text = f"{dithered}; the information from the layers' Lipschitz constants"
            found.append(Bound("van Trees", kind, "psnr", _psnr(value), True, text))
        if not known.exact:
            value = van_trees(through, known.dithered, dither).mean()
            text = f"{dithered}; {_sampled(known)}"
            found.append(Bound("van Trees", "estimated", "psnr", _psnr(value), True, text))
    value = _psnr(two_point(through, gallery, features))
    found.append(Bound("two-point", "certified", "psnr", value, False, _among(len(gallery))))
    different = distinct(gallery)
    share = fano(through, features[different])
    text = _among(len(different))
    if len(different) < len(gallery):
        text += "; equal images are one"
    found.append(Bound("Fano", "certified", "reid", share if share < 1 else math.nan, False, text))
    return found


def _among(count: int) -> str:
    return (
        f"each of {count:,} test images as likely, which the attacker may know; the average over "
        "all of these, of which attacks are on the first ones"
    )


def _sampled(known: Information) -> str:
    """How often a spectrum was sampled, and what that does: the trace of an inverse is convex."""
    draws = known.draws
    return (
        f"the information sampled at {_images(len(known.dithered.values))} and {draws} "
        f"dither{'s' * (draws > 1)} of each; the fewer dithers, the lower is the bound, which on "
        "average is too low"
    )


def _images(count: int) -> str:
    return f"{count} image{'s' * (count > 1)}"


def _cramer_rao_bound(through: Channel, known: Information) -> Bound:
    error = cramer_rao(through, known).mean()
    kind: Kind = "certified" if known.exact else "estimated"
    text = "an attacker without bias"
    if not known.exact:
        text += f", at {_images(len(known.at.values))}"
    if not math.isfinite(error):
        text = (
            "there is no attacker without bias: the edge forgets a part of its input, or tells so "
            "little of it that single precision cannot say whether"
        )
    return Bound("Cramer-Rao", kind, "psnr", _psnr(error), False, text)


def _psnr(error: float) -> float:
    """In dB; NaN where an error of that size says nothing."""
    return -10 * math.log10(error) if 0 < error < math.inf else math.nan


def least_noise(
    bound: Callable[[float], float], wanted: float, *, largest: float = 1e4, tolerance: float = 1e-3
) -> float:
    """The least noise at which a bound is as low as is wanted, by bisection.

    Args:
      bound: of the noise's scale; it does not rise with it. NaN counts as no bound.
      wanted: that it should not be above.
      largest: scale to look up to.
      tolerance: relative, of the answer.

    Returns:
      The scale, or infinity if even the largest does not do.
    """

    def holds(scale: float) -> bool:
        return bound(scale) <= wanted

    if not holds(largest):
        return math.inf
    low, high = largest * 1e-8, largest
    while high / low > 1 + tolerance:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
