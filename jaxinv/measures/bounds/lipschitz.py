"""A bound on `J'J` of a whole edge, from the Lipschitz constants of its layers."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import jax
import numpy as np
from jax import Array

from jaxinv.measures.bounds.channels import normalization
from jaxinv.measures.bounds.spectra import Spectrum, eigenvalues, lanczos
from jaxinv.networks import Network, Params
from jaxinv.store import checkpoints

T = TypeVar("T")

OUTWARD = 2.0**-19
"""Share of the largest eigenvalue by which calculated ones are rounded up."""

_DENSE = 4096  # values of a layer's input, up to which its spectrum is exact
_CHUNK = 256  # values of a pooling's input at once
_PROBES, _LANCZOS = 8, 40  # directions and steps that find a largest eigenvalue


def most(network: Network, params: Params) -> tuple[Spectrum | None, bool]:
    """Bounds `J'J` everywhere, by the layers.

    The affine layers at the front count with their spectrum; all others with the squares of their
    Lipschitz constants.

    Returns:
      The spectrum `[1, K]`, or None where a layer has no known constant or the input is too large;
      and True if no constant was sampled.
    """
    kinds = [segment.kind for segment in network.segments]
    if math.prod(network.input_shape) > _DENSE or "other" in kinds:
        return None, False
    head, rest = normalization(network), network.segments
    if kinds[:1] == ["affine"]:
        head, rest = rest[0].network, rest[1:]
    factor, rigorous = 1.0, True
    for kind, part in rest:
        alone = part.without_normalization
        if kind == "affine":
            squared, calculated = _once(_squared_norm, alone, alone.select(params))
            factor, rigorous = factor * squared, rigorous and calculated
        elif kind == "max_pool":
            factor *= _once(_most_windows, alone, {})
    spectrum = _once(_affine_eigenvalues, head, head.select(params))
    return Spectrum(spectrum.values * factor, spectrum.weights), rigorous


_found: dict[Any, Any] = {}  # measured constants of segments, which the edges of a network share


def _once(measure: Callable[[Network, Params], T], part: Network, params: Params) -> T:
    """Returns `measure(part, params)`, measured at the first call for equal parts."""
    known = measure, part.fingerprint, part.input_shape, checkpoints.fingerprint(params)
    if known not in _found:
        _found[known] = measure(part, params)
    return _found[known]


def _squared_norm(layer: Network, params: Params) -> tuple[float, bool]:
    """Returns the largest eigenvalue of an affine layer's `J'J`; False if it was sampled."""
    if math.prod(layer.input_shape) <= _DENSE:
        return float(_affine_eigenvalues(layer, params).values.max()), True
    zero = np.zeros((1, 1, *layer.input_shape), np.float32)
    # The largest Ritz value is too small, by less with each step.
    found = lanczos(layer, params, zero, jax.random.key(0), _PROBES, _LANCZOS)
    return float(found.values.max()), False


def _affine_eigenvalues(layers: Network, params: Params) -> Spectrum:
    """Computes the spectrum of `J'J`, which is the same everywhere, rounded up."""
    found = eigenvalues(layers, params, np.zeros((1, 1, *layers.input_shape), np.float32))
    # Products and sums in float32 move an eigenvalue by some units of the largest one.
    return Spectrum(found.values + OUTWARD * found.values.max(), found.weights)


def _most_windows(pooling: Network, params: Params) -> float:
    """Counts the windows that share a value: a maximum's squared Lipschitz constant."""
    size, most = math.prod(pooling.input_shape), 0.0
    for begin in range(0, size, _CHUNK):
        bumps = np.eye(_CHUNK, size, begin, dtype=np.float32)
        found = _apply(pooling, params, bumps.reshape(-1, *pooling.input_shape))
        most = max(most, float(found.reshape(_CHUNK, -1).sum(axis=1).max()))
    return most


@partial(jax.jit, static_argnums=0)
def _apply(network: Network, params: Params, x: Array) -> Array:
    return network.apply(params, x)
