"""The linear channel with Gaussian noise that stands for a release near an image. JAX.

The map of the channel is the Jacobian of the release with its random numbers fixed: dropped and
pruned values have no slope, a projection leaves its subspace, clipping leaves the directions that
keep the length, and rounding counts as none. The noise is, for each value:

* of Gaussian noise its variance, and of Laplace noise of scale b `b^2`, for these have the same
  Fisher information;
* of quantisation `width^2 / 12`, as of a value that is spread evenly over its cell;
* of dropout none, for zeros tell what was dropped;
* of another random mechanism its variance over a few draws;
* everywhere the reference noise, a share `REFERENCE` of the deviation of features over images,
  which stands for what solvers and linear models leave. It alone is there without a defence.

Noise of several steps adds up, as if later steps kept it.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxinv.defenses import (
    GAUSSIAN,
    LAPLACE,
    NONE,
    Defense,
    Mechanism,
    Query,
    Site,
    Step,
    query_function,
)
from jaxinv.measures.leakage.prior import Prior
from jaxinv.networks import Network, Params

REFERENCE = 0.03
"""Standard deviation of the reference noise, in that of the features over images."""

_BYTES = 2**27  # of features and images of a block of directions, with what derivatives keep
_AT_ONCE, _KEPT = 128, 16  # directions of a block, at most; arrays of their size
_DRAWS = 64


class Channel:
    """Linear Gaussian channel of a release.

    Args:
      edge: the part of the network on the device.
      params: its parameters.
      defense: of the device.
      images: `[N, H, W, C]` in unit space, near which the channel stands for the release; none of
        those that are attacked.
      reference: standard deviation of the reference noise, see `REFERENCE`.
    """

    def __init__(
        self,
        edge: Network,
        params: Params,
        defense: Defense,
        images: np.ndarray,
        reference: float = REFERENCE,
    ):
        self.edge, self.defense, self.images = edge, defense, images
        plain = query_function(edge, params, NONE)
        is_plain = all(map(_is_added, defense.steps))
        self._query = plain if is_plain else query_function(edge, params, defense)
        self._features = np.asarray(_features(plain, jax.random.key(0), images))
        spread = self._features.var(axis=0, dtype=np.float64)
        self._reference = float((reference**2 * spread).mean())

    def released(self, key: Array) -> np.ndarray:
        """Returns releases `[N, M]` of all images with the same random numbers for each."""
        return np.asarray(_features(self._query, key, self.images))

    def variance(self, number: int, key: Array) -> np.ndarray:
        """Computes the noise of each feature `[M]` of an image, by its number."""
        return self._reference + self._noise("feature", self._features[number], key)

    def information(self, number: int, key: Array, prior: Prior) -> np.ndarray:
        """Computes the Fisher information `[K, K]` of a release about an image, by its number.

        It is `U' J' R^-1 J U` for the Jacobian J, the noise R and the prior's directions U.
        """
        image = self.images[number]
        weights = (1 / self.variance(number, key)).astype(np.float32)
        few = len(weights) <= prior.directions.shape[1]
        product = self._from_rows if few else self._from_directions
        found = product(image, key, weights, prior.directions)
        return self._behind_input_noise((found + found.T) / 2, image, key, prior)

    def _from_rows(
        self, image: np.ndarray, key: Array, weights: np.ndarray, directions: np.ndarray
    ) -> np.ndarray:
        size, found = self._block(), []
        for begin in range(0, len(weights), size):
            picks = np.eye(size, len(weights), begin, np.float32) * np.sqrt(weights)
            found.append(np.asarray(_pulled(self._query, key, image, picks)) @ directions)
        rows = np.concatenate(found)
        return rows.T.astype(np.float64) @ rows

    def _from_directions(
        self, image: np.ndarray, key: Array, weights: np.ndarray, directions: np.ndarray
    ) -> np.ndarray:
        size, found = self._block(), []
        count = directions.shape[1]
        for begin in range(0, count, size):
            rows = np.zeros((size, len(directions)), np.float32)  # zero beyond the last
            rows[: count - begin] = directions.T[begin : begin + size]
            pulled = _pushed(self._query, key, image, weights, rows)
            found.append(np.asarray(pulled)[: count - begin] @ directions)
        return np.concatenate(found).astype(np.float64)

    def _block(self) -> int:
        values = math.prod(self.edge.input_shape) + math.prod(self.edge.output_shape)
        return max(1, min(_AT_ONCE, _BYTES // (4 * _KEPT * values)))

    def _behind_input_noise(
        self, information: np.ndarray, image: np.ndarray, key: Array, prior: Prior
    ) -> np.ndarray:
        """Takes away what noise at the input hides: `(I^-1 + S)^-1` for its covariance S."""
        pixels = self.edge.normalize(jnp.asarray(image)[None])
        noise = self._noise("input", pixels[0], key)
        if not noise.any():
            return information
        scale = np.asarray(self.edge.denormalize(pixels + 1) - self.edge.denormalize(pixels))
        weights = 1 / np.maximum(noise * scale.ravel() ** 2, 1e-12)
        limit = prior.directions.T.astype(np.float64) @ (weights[:, None] * prior.directions)
        return limit - limit @ np.linalg.solve(limit + information, limit)

    def _noise(self, site: Site, x: ArrayLike, key: Array) -> np.ndarray:
        """Returns the variance of the noise at a site where `x` is, for each of its values."""
        x = jnp.asarray(x)
        total = np.zeros(x.size)
        for step in self.defense.steps:
            if step.site == site and step.level:
                total += _noise_of(step.mechanism, step.level, x, key).ravel()
        return total


def _is_added(step: Step) -> bool:
    """Tells whether a step does no more than to add noise, which has no part in the Jacobian."""
    return not step.level or (step.site == "feature" and step.mechanism in (GAUSSIAN, LAPLACE))


def _noise_of(mechanism: Mechanism, level: float, x: Array, key: Array) -> np.ndarray:
    """Returns the variance of the noise that stands for a mechanism at `x`, of its shape or one."""
    if mechanism.coding is not None:
        return np.array([float(mechanism.coding.step(x, level)) ** 2 / 12])
    if not mechanism.random or mechanism.noise == "dropout":
        return np.zeros(1)
    if mechanism.noise is not None:
        return np.array([float(mechanism.noise_scale(level)) ** 2])
    keys = jax.random.split(jax.random.clone(key), _DRAWS)
    return np.asarray(
        jax.vmap(mechanism.apply, (0, None, None))(keys, x, jnp.float32(level)).var(axis=0)
    )


def _repeated(query: Query, key: Array, count: int) -> Callable[[Array], Array]:
    """Returns the release of a batch with the same random numbers for each of its images."""

    def release(batch: Array) -> Array:
        keys = jnp.broadcast_to(jax.random.clone(key), (count,))
        return query(keys, batch).reshape(count, -1)

    return release


@jax.jit
def _features(query: Query, key: Array, images: Array) -> Array:
    return _repeated(query, key, len(images))(images)


@jax.jit
def _pushed(query: Query, key: Array, image: Array, weights: Array, directions: Array) -> Array:
    """Computes `J' W J` times each direction `[B, D]`."""
    # Directions are a batch: convolutions in a loop have no rule for a further axis.
    batch = jnp.broadcast_to(image[None], (len(directions), *image.shape))
    release = _repeated(query, key, len(directions))
    _, push = jax.jvp(release, (batch,), (directions.reshape(batch.shape),))
    _, pull = jax.vjp(release, batch)
    return pull(push * weights[None])[0].reshape(directions.shape)


@jax.jit
def _pulled(query: Query, key: Array, image: Array, picks: Array) -> Array:
    """Computes `J'` times each row `[B, M]`."""
    batch = jnp.broadcast_to(image[None], (len(picks), *image.shape))
    _, pull = jax.vjp(_repeated(query, key, len(picks)), batch)
    return pull(picks)[0].reshape(len(picks), -1)
