"""A bound on `J'J` of a whole edge, from the Lipschitz constants of its layers."""

import dataclasses
import functools
import math
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import jax
import numpy as np
from jax import Array

from jaxinv.measures.bounds.spectra import Spectrum, eigenvalues, lanczos
from jaxinv.networks import Network, Params
from jaxinv.store import checkpoints

T = TypeVar("T")

_DENSE = 4096  # values of a layer's input, up to which its spectrum is exact
_PROBES, _LANCZOS = 8, 40  # directions and steps that find a largest eigenvalue


def most(network: Network, params: Params) -> tuple[Spectrum | None, bool]:
    """Bounds `J'J` everywhere, by the layers.

    The affine layers at the front count with their spectrum; all others with the squares of their
    Lipschitz constants.

    Returns:
      The spectrum `[1, K]`, or None where a layer has no known constant or the input is too large;
      and True if no constant was sampled.
    """
    names = list(network.layers)
    front = 0
    while front < len(names) and network.layers[names[front]].kind == "affine":
        front += 1
    head, rest = _cut(network, front)
    size, factor, rigorous = math.prod(network.input_shape), 1.0, True
    if size > _DENSE:
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


_found: dict[Any, Any] = {}  # measured constants of layers, which the edges of a network share


def _once(measure: Callable[[Network, Params], T], layers: Network, params: Params) -> T:
    """Returns `measure(layers, params)`, measured at the first call for equal layers."""
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


@functools.lru_cache(maxsize=64)  # one object for equal arguments: programs are kept for it
def _cut(network: Network, count: int) -> tuple[Network, Network]:
    """Returns the first layers, with the normalisation, and the others."""
    items = list(network.layers.items())
    head = dataclasses.replace(network, layers=dict(items[:count]))
    return head, Network(dict(items[count:]), head.output_shape)


@functools.lru_cache(maxsize=64)
def _layer(network: Network, name: str) -> Network:
    """Returns one layer alone."""
    before = list(network.layers)[: list(network.layers).index(name)]
    shape = network.shapes[before[-1]] if before else network.input_shape
    return Network({name: network.layers[name]}, shape)


def _squared_norm(layer: Network, params: Params) -> tuple[float, bool]:
    """Returns the largest eigenvalue of an affine layer's `J'J`; False if it was sampled."""
    if math.prod(layer.input_shape) <= _DENSE:
        return float(_affine_eigenvalues(layer, params).values.max()), True
    zero = np.zeros((1, 1, *layer.input_shape), np.float32)
    # The largest Ritz value is too small, by less with each step.
    found = lanczos(layer, params, zero, jax.random.key(0), _PROBES, _LANCZOS)
    return float(found.values.max()), False


def _affine_eigenvalues(layers: Network, params: Params) -> Spectrum:
    """Computes the spectrum of `J'J`, which is the same everywhere."""
    return eigenvalues(layers, params, np.zeros((1, 1, *layers.input_shape), np.float32))


def _most_windows(pooling: Network, params: Params) -> float:
    """Counts the windows that share a value: a maximum's squared Lipschitz constant."""
    height, width, channels = pooling.input_shape
    counts = [0.0]
    for row in range(height):
        bumps = np.zeros((width, height, width, channels), np.float32)
        bumps[np.arange(width), row, np.arange(width)] = 1  # in every channel by itself
        counts.append(float(_apply(pooling, params, bumps).sum(axis=(1, 2)).max()))
    return max(counts)


@partial(jax.jit, static_argnums=0)
def _apply(network: Network, params: Params, x: Array) -> Array:
    return network.apply(params, x)
