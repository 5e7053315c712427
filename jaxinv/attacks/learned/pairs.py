"""Pairs of images and features that somebody else has asked for, in place of queries. JAX.

They take the place of a `Pool`: where that has the place of an image, to ask for it, these have the
features themselves.
"""

import dataclasses
from functools import partial
from typing import ClassVar

import jax
import numpy as np
from jax import Array

from jaxinv.unit_space import Images


@partial(jax.tree_util.register_dataclass, data_fields=(), meta_fields=("size",))
@dataclasses.dataclass(frozen=True)
class Answers:
    """Answers that are known: nothing is asked, and no image is moved.

    Attributes:
      size: number of pairs.
    """

    size: int

    def ask(self, images: Array, features: Array, numbers: Array) -> tuple[Array, Array]:
        """Returns features and the images that they are of."""
        del numbers
        return features, images

    def plain(self, images: Array, features: Array) -> Array:
        """Returns the features."""
        del images
        return features

    def draw(self, key: Array, images: Array, features: Array) -> tuple[Array, Array]:
        """Returns features and the images that they are of."""
        del key
        return features, images


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Images and their features, to learn from.

    Attributes:
      images: `[N, H, W, C]` in unit space.
      answers: `[N, ...]` float32, the features of each.
    """

    images: Images
    answers: np.ndarray

    members: ClassVar[int] = 0

    @property
    def queries(self) -> Answers:
        """The pairs, as a training asks for them."""
        return Answers(len(self.images))

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """Shape of the features of one image."""
        return self.answers.shape[1:]

    @property
    def batch(self) -> tuple[Images, np.ndarray]:
        """Images and features, to be shuffled and cut into batches by a fit."""
        return self.images, self.answers

    def features(self, count: int | None = None) -> np.ndarray:
        """Returns the features of the first images, all by default."""
        return self.answers[:count]

    def __getitem__(self, index: slice) -> "Pairs":
        """Returns some of the pairs."""
        return Pairs(self.images[index], self.answers[index])
