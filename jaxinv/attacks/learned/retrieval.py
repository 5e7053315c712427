"""Retrieval: the attacker answers with an image of its own that is as likely as any. JAX.

Where a release leaves many images possible, their mean is blurred, and one of them looks more like
the original than the mean does, although its squared error is larger.
"""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxinv.machine import devices
from jaxinv.unit_space import Images

WAY = "retrieval"
"""Name of it in records."""

_MOST = 10_000  # images to answer with
_BYTES = 2**28  # of these, at most
_LESS_LIKELY = 3.0  # nats: images that are less likely by more are left out


@dataclasses.dataclass(frozen=True)
class Retrieval:
    """Images to answer with.

    Attributes:
      images: `[G, H, W, C]`, of the attacker.
    """

    images: np.ndarray

    @classmethod
    def of(cls, images: Images, most: int = _MOST) -> "Retrieval":
        """Takes the first images, at most so many and as many as fit."""
        each = 4 * math.prod(images.shape[1:])
        return cls(np.asarray(images[: max(1, min(most, _MOST, _BYTES // each))]))

    def __call__(self, estimates: np.ndarray, scores: np.ndarray | None = None) -> np.ndarray:
        """Answers each estimate with the nearest image, of those that are likely.

        Args:
          estimates: `[N, H, W, C]`: about the mean of what is possible.
          scores: `[N, G]`, log-likelihoods of the images; None where they are not known.

        Returns:
          `[N, H, W, C]`; NaN where the estimate is not finite.
        """
        rows = np.zeros((len(estimates), 1), np.float32) if scores is None else scores
        return devices.in_slices(_nearest, estimates, rows, shared=(self.images,))


def _nearest(images: Array, estimates: Array, scores: Array) -> Array:
    own, wanted = images.reshape(len(images), -1), estimates.reshape(len(estimates), -1)
    products = jnp.matmul(wanted, own.T, precision="highest")
    apart = (own**2).sum(axis=1)[None] - 2 * products
    known = jnp.where(jnp.isfinite(scores), scores, -jnp.inf)
    likely = known >= known.max(axis=1, keepdims=True) - _LESS_LIKELY
    found = images[jnp.argmin(jnp.where(likely, apart, jnp.inf), axis=1)]
    finite = jnp.isfinite(wanted).all(axis=1)
    return jnp.where(finite.reshape(-1, *(1,) * (images.ndim - 1)), found, jnp.nan)
