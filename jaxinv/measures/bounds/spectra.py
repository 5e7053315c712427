"""Spectra of `J'J` for the Jacobian J of a network, calculated or sampled."""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxinv.networks import Network, Params

_CHUNK = 256  # directions at once
# Directions and steps of quadrature. For 3,072 pixel values, four directions tell the mean of a
# function of the spectrum within some 2%. Steps are exact for polynomials of twice their number.
_PROBES, _LANCZOS = 4, 24


class Spectrum(NamedTuple):
    """Eigenvalues of `J'J`, or nodes and weights that stand for them.

    Attributes:
      values: `[..., K]`, not negative, in squared features a squared pixel value.
      weights: `[..., K]`, the share of the pixel values that each stands for; they sum to 1.
    """

    values: np.ndarray
    weights: np.ndarray


def eigenvalues(network: Network, params: Params, copies: np.ndarray) -> Spectrum:
    """Computes spectra `[N, D]` of `J'J`, averaged over the copies `[N, S, ...]` of each image.

    J is found row by row where it has few, and else `J'J` from directions.
    """
    size, outputs = math.prod(network.input_shape), math.prod(network.output_shape)
    product = _from_rows if 2 * outputs <= size else _from_directions
    values = []
    for own in copies:
        total = product(network, params, own)
        values.append(np.linalg.eigvalsh((total + total.T) / 2))
    found = np.maximum(np.stack(values), 0)
    return Spectrum(found, np.full_like(found, 1 / size))


def _from_directions(network: Network, params: Params, copies: np.ndarray) -> np.ndarray:
    """Returns `J'J [D, D]`, averaged over copies `[S, ...]`, from products with directions."""
    size = math.prod(network.input_shape)
    total = np.zeros((size, size))
    for begin in range(0, size, _CHUNK):
        rows = np.eye(_CHUNK, size, begin, dtype=np.float32)  # zero beyond the last
        products = np.asarray(_gram_times(network, params, copies, rows), np.float64)
        total[begin : begin + _CHUNK] = products[: size - begin]
    return total


def _from_rows(network: Network, params: Params, copies: np.ndarray) -> np.ndarray:
    """Returns `J'J [D, D]`, averaged over copies `[S, ...]`, from each row of J."""
    size, outputs = math.prod(network.input_shape), math.prod(network.output_shape)
    total, chunk = np.zeros((size, size)), min(_CHUNK, outputs)
    for begin in range(0, outputs, chunk):
        rows = np.eye(chunk, outputs, begin, np.float32)  # zero beyond the last
        total += np.asarray(_gram_of(network, params, copies, rows))
    return total


def lanczos(
    network: Network,
    params: Params,
    copies: np.ndarray,
    key: Array,
    count: int = _PROBES,
    steps: int = _LANCZOS,
) -> Spectrum:
    """Samples spectra by Lanczos' quadrature from random directions (Ubaru et al. 2017).

    Only products with J are needed.

    Args:
      network: the map.
      params: its parameters.
      copies: `[N, S, ...]`, copies of each image, whose `J'J` are averaged.
      key: of the directions.
      count: number of directions, P.
      steps: of the iteration, L.

    Returns:
      Nodes and weights `[N, P * L]`.
    """
    size = math.prod(network.input_shape)
    steps = min(steps, size)
    up = jax.random.bernoulli(key, jnp.float32(0.5), (count, size))
    probes = np.where(up, np.float32(1), np.float32(-1)) / np.float32(size**0.5)
    found = []
    for own in copies:
        diagonal, beside = _tridiagonal(partial(_gram_times, network, params, own), probes, steps)
        found.append([_quadrature(*row) for row in zip(diagonal, beside[:, :-1], strict=True)])
    values, weights = np.moveaxis(np.array(found), 2, 0)
    rows = len(copies)
    return Spectrum(np.maximum(values, 0).reshape(rows, -1), weights.reshape(rows, -1) / count)


def _tridiagonal(product_with, probes: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the diagonals and off-diagonals `[P, L]` of Lanczos' matrices from P directions."""
    diagonal, beside = np.zeros((2, len(probes), steps))
    basis = [probes]
    for step in range(steps):
        product = np.array(product_with(basis[-1]), np.float64)
        diagonal[:, step] = (product * basis[-1]).sum(axis=1)
        # Against all earlier ones, twice: rounding soon leaves them far from orthogonal.
        for earlier in basis * 2:
            product -= (product * earlier).sum(axis=1, keepdims=True) * earlier
        beside[:, step] = np.linalg.norm(product, axis=1)
        safe = np.maximum(beside[:, step : step + 1], 1e-20)
        basis.append((product / safe).astype(np.float32))
    return diagonal, beside


def _quadrature(diagonal: np.ndarray, beside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))
    return values, vectors[0] ** 2


@partial(jax.jit, static_argnums=0)
def _gram_times(network: Network, params: Params, copies: Array, rows: Array) -> Array:
    """Computes `J'J` times each row `[B, D]`, averaged over the copies `[S, ...]` of an image."""
    tangents = rows.reshape(-1, *network.input_shape)

    def one(image: Array) -> Array:
        # Directions are a batch: convolutions in a loop have no rule for a further axis.
        batch = jnp.broadcast_to(image[None], tangents.shape)
        apply = partial(network.apply, params)
        _, push = jax.jvp(apply, (batch,), (tangents,))
        _, pull = jax.vjp(apply, batch)
        return pull(push)[0].reshape(rows.shape)

    return jax.lax.map(one, copies).mean(axis=0)


@partial(jax.jit, static_argnums=0)
def _gram_of(network: Network, params: Params, copies: Array, rows: Array) -> Array:
    """Computes `J'J [D, D]` of the outputs that rows `[B, M]` pick, averaged over the copies."""

    def one(image: Array) -> Array:
        batch = jnp.broadcast_to(image[None], (len(rows), *image.shape))
        features, pull = jax.vjp(partial(network.apply, params), batch)
        picked = rows.reshape(features.shape).astype(features.dtype)
        jacobian = pull(picked)[0].reshape(len(rows), -1)
        return jacobian.T @ jacobian

    return jax.lax.map(one, copies).mean(axis=0)
