"""Gaussian priors over images of any size, in coordinates in which the edge is easy to invert. JAX.

A prior is made of samples: surrogate images, or the errors of an estimate on them. Beside its
covariance it keeps the mean curvature of the edge's data term, both diagonal in one basis, so that
the sum of the two, in any proportion and for every image at once, is inverted by two products. That
is what makes truncated conjugate gradients fast behind a network.

Up to `DENSE_PIXELS` values an image the covariance is a full matrix. Beyond, it is taken as
stationary: diagonal in the frequencies of the cosine transform, full between channels, at a cost
that grows little faster than the number of pixels.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxinv.networks import Network, Params
from jaxinv.unit_space import Images

DENSE_PIXELS = 4096
_NOISE = 1e-3  # variance added to every pixel value: what samples of 8 bits cannot exclude
_BATCH, _PROBES = 50, 4  # images at once, and cotangents of each: with one, the images cost most


class Gaussian(NamedTuple):
    """A normal distribution of images, and the mean curvature of an edge in its coordinates.

    With D = H W C values an image, F blocks of K values each (one block of D for a full matrix, H W
    blocks of C behind the cosine transform), F K = D.

    Attributes:
      mean: `[H, W, C]`.
      precision: `[F, K, K]`, the inverse of the covariance's blocks.
      basis: `[F, K, K]`; its columns b have `b' precision b = 1`, and are orthogonal both in the
        precision and in the edge's curvature.
      transposed: `[F, K, K]`, its blocks transposed: on CPU a product with the transpose of a large
        matrix takes twice as long as one with the matrix.
      curvature: `[F, K]`, of the edge along each column: the mean of `|J b|^2`.
    """

    mean: Array
    precision: Array
    basis: Array
    transposed: Array
    curvature: Array

    def precision_times(self, x: Array) -> Array:
        """The inverse of the covariance, times each of `x [B, H, W, C]`."""
        return self._images(_times_blocks(self._coefficients(x), self.precision))

    def covariance_times(self, x: Array) -> Array:
        """The covariance, times each of `x [B, H, W, C]`."""
        return self.solve(x, jnp.zeros(len(x), x.dtype), jnp.ones(len(x), x.dtype))

    def solve(self, x: Array, data: Array, prior: Array) -> Array:
        """The inverse of `2 data * curvature + prior * precision`, times each of `x [B, H, W, C]`.

        Args:
          x: images.
          data, prior: `[B]`, the weights of the two for each image.
        """
        modes = _times_blocks(self._coefficients(x), self.basis)
        weights = 2 * data[:, None, None] * self.curvature[None] + prior[:, None, None]
        return self._images(_times_blocks(modes / weights, self.transposed))

    def _coefficients(self, x: Array) -> Array:
        return _to_blocks(x, len(self.precision))

    def _images(self, blocks: Array) -> Array:
        return _from_blocks(blocks, self.mean.shape)


def gaussian(mean: np.ndarray, covariance: np.ndarray, curvature: np.ndarray) -> Gaussian:
    """A prior from the blocks of a covariance and of an edge's mean curvature.

    Args:
      mean: `[H, W, C]`.
      covariance: `[F, K, K]`, as `second_moment` returns it; noise of a thousandth is added.
      curvature: `[F, K, K]`, as `mean_curvature` returns it.
    """
    covariance = covariance + _NOISE * np.eye(covariance.shape[-1])
    root = np.linalg.cholesky(covariance)
    values, vectors = np.linalg.eigh(root.swapaxes(1, 2) @ curvature @ root)
    inverse = np.linalg.inv(root)
    precision, basis = inverse.swapaxes(1, 2) @ inverse, root @ vectors
    arrays = (mean, precision, basis, basis.swapaxes(1, 2), np.maximum(values, 0))
    return Gaussian(*(jnp.asarray(array, jnp.float32) for array in arrays))


def second_moment(samples: np.ndarray) -> np.ndarray:
    """The mean outer product of samples `[N, H, W, C]`, in blocks `[F, K, K]`, float64."""
    slices = (samples[begin : begin + 1000] for begin in range(0, len(samples), 1000))
    total = sum(np.asarray(_outer(jnp.asarray(part)), np.float64) for part in slices)
    return np.asarray(total) / len(samples)


def mean_curvature(edge: Network, params: Params, images: Images, key: Array) -> np.ndarray:
    """The mean over images of `J'J`, J the Jacobian of an edge, in blocks `[F, K, K]`, float64.

    Estimated without a Jacobian: for a random normal cotangent u, the mean of `(J'u)(J'u)'` is J'J
    (Hutchinson's estimator). There are as many cotangents as pixel values (1,000
    beyond `DENSE_PIXELS`), four of each image.

    Args:
      edge: the network.
      params: its parameters.
      images: `[N, H, W, C]`, of the kind that the edge is made for.
      key: of the choice of images and of the cotangents.
    """
    size = int(np.prod(edge.input_shape))
    count = size if size <= DENSE_PIXELS else 1000
    batch = min(_BATCH, len(images))
    key_choice, key_cotangents = jax.random.split(key)
    parts = -(-count // (batch * _PROBES))
    chosen = np.asarray(jax.random.randint(key_choice, (parts, batch), 0, len(images), jnp.int32))
    own = edge.select(params)

    def part(number: int) -> np.ndarray:
        key_part = jax.random.fold_in(key_cotangents, number)
        part = _pulled_back(edge, own, jnp.asarray(images[chosen[number]]), key_part)
        return np.asarray(part, np.float64)

    return np.asarray(sum(map(part, range(parts)))) / (chosen.size * _PROBES)


@partial(jax.jit, static_argnums=0)
def _pulled_back(edge: Network, params: Params, images: Array, key: Array) -> Array:
    features, pull = jax.vjp(partial(edge.apply, params), images)

    def gradient(key: Array) -> Array:
        return pull(jax.random.normal(key, features.shape, features.dtype))[0]

    gradients = jax.lax.map(gradient, jax.random.split(key, _PROBES))
    return _outer(gradients.reshape(-1, *images.shape[1:]))


@jax.jit
def _outer(samples: Array) -> Array:
    size = samples[0].size
    count = 1 if size <= DENSE_PIXELS else size // samples.shape[-1]
    blocks = _to_blocks(samples, count)
    return jnp.einsum("nfi,nfj->fij", blocks, blocks)


def _to_blocks(x: Array, count: int) -> Array:
    """`[B, H, W, C]` to `[B, count, K]`: as it is, or in cosine frequencies."""
    if count > 1:
        x = jnp.einsum("bhwc,fh,gw->bfgc", x, cosines(x.shape[1]), cosines(x.shape[2]))
    return x.reshape(len(x), count, -1)


def _from_blocks(blocks: Array, shape: tuple[int, ...]) -> Array:
    x = blocks.reshape(-1, *shape)
    if blocks.shape[1] > 1:
        x = jnp.einsum("bfgc,fh,gw->bhwc", x, cosines(shape[0]), cosines(shape[1]))
    return x


def _times_blocks(values: Array, matrices: Array) -> Array:
    """Each block's values, as a row, times its matrix: `[B, F, K], [F, K, K] -> [B, F, K]`."""
    if len(matrices) == 1:  # one product of matrices
        return (values[:, 0] @ matrices[0])[:, None]
    return jnp.einsum("bfi,fij->bfj", values, matrices)


def cosines(size: int) -> np.ndarray:
    """The orthonormal cosine transform (DCT-II) of a signal, `[size, size]`, frequency by place."""
    place, frequency = np.arange(size), np.arange(size)[:, None]
    matrix = np.cos(np.pi * (place + 0.5) * frequency / size) * np.sqrt(2 / size)
    matrix[0] /= np.sqrt(2)
    return matrix.astype(np.float32)
