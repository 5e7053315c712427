"""Queries of a black-box attacker: a fixed number, made of its own images. JAX.

They are not stored. Each is a function of the key, of the image's place and of the number of its
variant, so that any step of any training can make it again, and it counts once.
"""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial

from jaxinv.attacks.attack import QueriesKnown
from jaxinv.attacks.shelf import Shelf
from jaxinv.defenses import Query
from jaxinv.errors import UserError
from jaxinv.machine import devices
from jaxinv.training import augmentation
from jaxinv.unit_space import Images

FEWEST_IMAGES = 20
"""With fewer there is nothing to learn from."""

BEHAVIOUR = 8
"""Queries that tell one edge from another, at most."""

_HELD_OUT, _MOST_HELD_OUT = 0.1, 2000  # share of the images, and number
_EVERY = 4  # variants of an image, of which one is moved, where answers are random
_MOVED = 0.25  # share of a training's images that are zoomed and shifted
_MOST_ASKED = 0.1  # share of the queries that may be asked of images held out


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("query", "key"),
    meta_fields=("number", "size", "randomised"),
)
@dataclasses.dataclass(frozen=True)
class Queries:
    """Number of queries: images as they are and, beyond those, zoomed and shifted a little.

    It is a tree of arrays, so programs that ask take it as an argument.

    Attributes:
      query: answers them.
      key: of the jitter, and of a defense's draws.
      number: of images, N; no more than there are queries.
      size: number of queries in all. Image i has `size // N` of them, the first images one more;
        its first is the image itself.
      randomised: whether the same image has another answer with another key. If so most variants of
        an image are the image itself, each with a key of its own; some are moved.
    """

    query: Query
    key: Array
    number: int
    size: int
    randomised: bool

    def ask(
        self, images: Array, places: Array, numbers: Array, *which: Array
    ) -> tuple[Array, Array]:
        """Asks for variants of images.

        Args:
          images: `[B, H, W, C]`, of the N.
          places: `[B]`, of them among the N.
          numbers: `[B]`, of their variants; 0 is the image itself.
          which: `[B]`, for the query of a family.

        Returns:
          Features `[B, ...]` and the images that they are of, `[B, H, W, C]`.
        """
        keys = self._keys(places, numbers)
        if self.size > self.number:
            still = numbers % _EVERY != 1 if self.randomised else numbers == 0
            moved = jax.vmap(_jitter)(keys[:, 0], images)
            images = jnp.where(still[:, None, None, None], images, moved)
        return self.query(keys[:, 1], images, *which), images

    def plain(self, images: Array, places: Array, *which: Array) -> Array:
        """Asks for the images themselves; returns features `[B, ...]`."""
        return self.query(self._keys(places, jnp.zeros_like(places))[:, 1], images, *which)

    def draw(self, key: Array, images: Array, places: Array, *which: Array) -> tuple[Array, Array]:
        """Asks for a random variant of each image: most of them as they are, some moved."""
        key_some, key_number = jax.random.split(key)
        if self.randomised:
            number = jax.random.randint(key_number, places.shape, 0, self.count(places), jnp.int32)
            return self.ask(images, places, number, *which)
        others = self.count(places) - 1
        number = 1 + jax.random.randint(
            key_number, places.shape, 0, jnp.maximum(others, 1), jnp.int32
        )
        some = jax.random.bernoulli(key_some, jnp.float32(_MOVED), places.shape) & (others > 0)
        return self.ask(images, places, jnp.where(some, number, 0), *which)

    def count(self, places: Any) -> Any:
        """Returns how many variants images have, with the image itself: `[B]`."""
        each, more = divmod(self.size, self.number)
        return each + (places < more)

    def _keys(self, places: Array, numbers: Array) -> Array:
        """Returns keys `[B, 2]`: of a query's jitter, and of a defense's draws for it."""
        return jax.vmap(jax.random.split)(jax.vmap(self._key)(places, numbers))

    def _key(self, place: Array, number: Array) -> Array:
        return jax.random.fold_in(jax.random.fold_in(self.key, place), number)


class Pool(NamedTuple):
    """Queries and the images that they are made of.

    Attributes:
      queries: how images are asked.
      images: `[N, H, W, C]`, the attacker's.
      members: number of defenses that the query stands for; 0 where it is the query of one.
    """

    queries: Queries
    images: Images
    members: int = 0

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """Shape of the answer to one query; none is asked."""
        rows = [jax.ShapeDtypeStruct((1, *part.shape[1:]), part.dtype) for part in self.batch]
        which = [jax.ShapeDtypeStruct((1,), np.int32)] if self.members else []
        return tuple(jax.eval_shape(Queries.plain, self.queries, *rows, *which).shape[1:])

    @property
    def batch(self) -> tuple[Images, np.ndarray]:
        """The images and their places, to be shuffled and cut into batches by a fit."""
        return self.images, np.arange(len(self.images), dtype=np.int32)

    def features(self, count: int | None = None) -> np.ndarray:
        """Asks for the first images as they are, all by default: `[count, ...]`.

        Returns `[members * count, ...]` for a family, those of its first member first.
        """
        rows = [array[:count] for array in self.batch]  # which may be made as they are asked for
        if self.members:
            rows = [np.tile(array, (self.members, *(1,) * (array.ndim - 1))) for array in rows]
            each = len(rows[0]) // self.members
            rows.append(np.repeat(np.arange(self.members, dtype=np.int32), each))
        return devices.in_slices(Queries.plain, *rows, shared=(self.queries,))


class Division(NamedTuple):
    """Images and queries of an attacker, divided.

    Attributes:
      taught: `[N, H, W, C]`, images to learn from.
      held: images held out, which tell how good a lesson is.
      asked: number of queries for learning; the rest may be asked of images held out.
    """

    taught: Images
    held: Images
    asked: int


def divide(images: Images, num_queries: int) -> Division:
    """Holds the last images out, and a part of the queries for them."""
    held = min(max(1, int(_HELD_OUT * len(images))), _MOST_HELD_OUT)
    taught, rest = images[: len(images) - held], images[len(images) - held :]
    return Division(taught, rest, num_queries - min(held, int(_MOST_ASKED * num_queries)))


def check_images(attacker: str, count: int) -> None:
    """Checks that there are images enough to learn from.

    Raises:
      UserError: there are not.
    """
    if count < FEWEST_IMAGES:
        raise UserError(
            f"{count} surrogate images: {attacker} needs {FEWEST_IMAGES} to learn from."
        )


def make_pool(known: QueriesKnown, size: int, key: Array) -> Pool:
    """Makes a pool of at most `size` queries of the first images.

    Args:
      known: the query and the images.
      size: number of queries, at most.
      key: of the pool.
    """
    query = known.query if isinstance(known.query, Partial) else Partial(known.query)
    # Any attacker can see whether answers are random: it asks the same image twice.
    first, second = (
        np.asarray(_answer(query, np.asarray(known.images[:1]), each, known.members))
        for each in jax.random.split(key)
    )
    randomised = bool((first != second).any())
    # Where answers are not random, that was the query of an image that is asked anyway.
    size -= 2 if randomised else 0
    images = known.images[:size]
    return Pool(Queries(query, key, len(images), size, randomised), images, known.members)


@partial(jax.jit, static_argnums=3)
def _answer(query: Query, image: Array, key: Array, members: int) -> Array:
    count, which = max(1, members), (jnp.arange(members),) if members else ()
    return query(jax.random.split(key, count), jnp.tile(image, (count, 1, 1, 1)), *which)


def kept(
    shelf: Shelf, kind: str, by: str, pool: Pool, seen: np.ndarray, **settings: int
) -> Path | None:
    """Returns the file of a training on a pool, or None where nothing is kept.

    Args:
      shelf, kind, by: as `Shelf.path` takes them.
      pool: of the training.
      seen: the answers to a few queries, `BEHAVIOUR` of each member. They stand for the edge, of
        which a black-box attacker sees no more.
      settings: of the training.
    """

    def known() -> dict[str, Any]:
        return {
            "features": seen,
            "images": pool.images,
            "key": jax.random.key_data(pool.queries.key),
            "size": pool.queries.size,
            **settings,
        }

    return shelf.path(kind, by, known)


def _jitter(key: Array, image: Array) -> Array:
    return augmentation.jitter(key, image[None], mirror=False)[0]


def answers(query: Query, images: Images, places: np.ndarray, key: Array) -> np.ndarray:
    """Asks for images as they are, outside of any pool.

    Args:
      query: of one defense.
      images: `[N, H, W, C]`.
      places: `[N]`, which decide the draws of a defense.
      key: of these draws.

    Returns:
      Features `[N, ...]`.
    """
    query = query if isinstance(query, Partial) else Partial(query)
    return devices.in_slices(drawn, images, places, shared=(query, key))


def drawn(query: Query, key: Array, images: Array, places: Array) -> Array:
    """Returns a query's answers `[N, ...]` with a draw of a defense for each place; traceable."""
    return query(jax.vmap(lambda place: jax.random.fold_in(key, place))(places), images)
