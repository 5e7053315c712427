"""The attacker's Gaussian prior: mean and covariance of images. NumPy."""

from typing import NamedTuple

import numpy as np
import scipy.linalg

MOST = 1024
"""Directions in which images vary most, beyond which variance is left out."""


class Prior(NamedTuple):
    """A Gaussian distribution of images in their principal directions.

    Attributes:
      directions: `[D, K]`, orthonormal, for the D values of an image.
      deviations: `[K]`, standard deviations along them, the greatest first.
    """

    directions: np.ndarray
    deviations: np.ndarray

    @classmethod
    def of(cls, images: np.ndarray, most: int = MOST) -> "Prior":
        """Estimates the covariance of images `[N, H, W, C]` in unit space, N at least 2.

        Args:
          images: that the attacker has.
          most: directions that are kept.
        """
        flat = images.reshape(len(images), -1).astype(np.float64)
        centred = (flat - flat.mean(axis=0)) / np.sqrt(len(flat) - 1)
        count, size = centred.shape
        keep = min(most, size, count)
        gram = centred.T @ centred if size <= count else centred @ centred.T
        ends = (len(gram) - keep, len(gram) - 1)
        values, vectors = scipy.linalg.eigh(gram, subset_by_index=ends)
        deviations = np.sqrt(np.maximum(values[::-1], 0))
        vectors = vectors[:, ::-1]
        if size > count:  # of pixels, from those of images
            vectors, _ = np.linalg.qr(centred.T @ vectors)
        return cls(vectors.astype(np.float32), deviations)

    @property
    def variance(self) -> float:
        """Mean variance of an image's values."""
        return float((self.deviations**2).sum() / len(self.directions))
