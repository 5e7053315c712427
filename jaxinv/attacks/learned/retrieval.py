"""Retrieval: the attacker answers with an image of its own. JAX.

Where a release leaves many images possible, their mean is blurred, and one of them may look more
like the original than the mean does, although its squared error is larger.
"""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxinv.machine import devices
from jaxinv.unit_space import Images

WAY = "retrieval"
"""Name of this way in records."""

_MOST = 10_000  # images to answer with
_BYTES = 2**28  # of these, at most
_ANY = -1  # stands for any code


@dataclasses.dataclass(frozen=True)
class Retrieval:
    """Images to answer with.

    Attributes:
      images: `[G, H, W, C]` in unit space, of the attacker.
    """

    images: np.ndarray

    @classmethod
    def of(cls, images: Images) -> "Retrieval":
        """Takes the first images, as many as fit."""
        each = 4 * math.prod(images.shape[1:])
        return cls(np.asarray(images[: max(1, min(_MOST, _BYTES // each))]))

    def __call__(
        self,
        estimates: np.ndarray,
        own: np.ndarray | None = None,
        seen: np.ndarray | None = None,
    ) -> np.ndarray:
        """Answers each estimate with the nearest image, of those with the same release.

        Args:
          estimates: `[N, H, W, C]` in unit space: about the mean of what is possible.
          own: `[G, ...]`, releases of the images, of which few differ; None where all do.
          seen: `[N, ...]`, releases of what is estimated. One that none of the images has tells
            nothing.

        Returns:
          `[N, H, W, C]` in unit space; NaN where the estimate is not finite.
        """
        codes, wanted = np.zeros(len(self.images), int), np.full(len(estimates), _ANY)
        if own is not None and seen is not None:
            rows = np.concatenate([own, seen]).reshape(len(own) + len(seen), -1)
            _, numbers = np.unique(rows, axis=0, return_inverse=True)
            codes, wanted = np.split(numbers.ravel(), [len(own)])
            wanted = np.where(np.isin(wanted, codes), wanted, _ANY)
        flat = self.images.reshape(len(self.images), -1)
        shared = (flat, (flat**2).sum(axis=1), codes.astype(np.int32))
        found = devices.in_slices(
            _nearest,
            estimates.reshape(len(estimates), -1),
            wanted.astype(np.int32),
            shared=shared,
        )
        return found.reshape(estimates.shape)


def _nearest(own: Array, squares: Array, codes: Array, estimates: Array, wanted: Array) -> Array:
    apart = squares[None] - 2 * estimates @ own.T
    fits = (codes[None] == wanted[:, None]) | (wanted[:, None] == _ANY)
    found = own[jnp.argmin(jnp.where(fits, apart, jnp.inf), axis=1)]
    finite = jnp.isfinite(estimates).all(axis=1, keepdims=True)
    return jnp.where(finite, found, jnp.nan)
