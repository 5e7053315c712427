"""The release: features as they cross the wire, behind a defense. JAX.

Usability and privacy are measured on the same release. An attacker receives a `Release` of unknown
images, and may call it as a `Query` on images of its own.
"""

import functools
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial
from jax.typing import ArrayLike

from jaxinv import arguments, unit_space
from jaxinv.defenses.mechanism import NONE, Defense, Site, Structure, acting, mean
from jaxinv.machine import devices
from jaxinv.networks import Network, Params
from jaxinv.unit_space import Scaled

Query = Callable[..., Array]
"""`(keys [B], images [B, H, W, C] in unit space) -> features [B, ...]`: the release as a function.

Pure. The key of an image decides the draws of a random defense: the same key and image give the
same features. A black-box attacker is given nothing else of a network. A query of a family of
defenses takes a third argument `[B]`, the number of the defense in the family.

Programs take the arrays inside a `jax.tree_util.Partial` as arguments. Arrays inside any other
function are constants of a program compiled for them alone.
"""


def query_function(
    edge: Network, params: Params, defense: Defense | Sequence[Defense] = NONE, *, releases: int = 1
) -> Query:
    """Returns the release as a black-box attacker calls it.

    Args:
      edge: the part of the network on the device.
      params: its parameters.
      defense: of the device; or a family of defenses that differ in their levels alone.
      releases: number of releases of an image, which the attacker combines.

    Raises:
      ValueError: the defenses of a family differ in more than levels.
      UserError: the parameters are another network's.
    """
    edge.check(params)
    structure, levels = _levels_of(defense)
    return Partial(_release_at(edge, structure, releases), edge.select(params), levels)


def release_function(
    edge: Network, defense: Defense | Sequence[Defense] = NONE, *, releases: int = 1
) -> Callable[..., Array]:
    """Returns `query_function` with the parameters as its first argument, before the keys."""
    structure, levels = _levels_of(defense)
    release = _release_at(edge, structure, releases)
    return lambda params, *args: release(params, levels, *args)


def _levels_of(defense: Defense | Sequence[Defense]) -> tuple[Structure, Array]:
    """Returns structure and levels: `[P]` of a defense, `[L, P]` of a family."""
    if isinstance(defense, Defense):
        return defense.structure, jnp.asarray(defense.levels)
    structures = {each.structure for each in defense}
    if len(structures) != 1:
        raise ValueError("Expected defenses that differ in their levels alone.")
    return structures.pop(), jnp.stack([jnp.asarray(each.levels) for each in defense])


@functools.lru_cache(maxsize=64)  # one object for equal arguments: programs are kept for it
def _release_at(edge: Network, structure: Structure, releases: int) -> Callable[..., Array]:
    """Returns the release at given levels: `[P]`, or rows of `[L, P]` that `which [B]` chooses."""

    def release(
        params: Params, levels: Array, keys: Array, images: Array, which: Array | None = None
    ) -> Array:
        of_each = levels[which] if which is not None else _for_each(images, levels)
        return _release(edge, structure, releases, params, keys, images, of_each)

    return release


def _for_each(images: Array, levels: Array) -> Array:
    return jnp.broadcast_to(levels, (len(images), *levels.shape))


def release_levels(
    edge: Network,
    structure: Structure,
    params: Params,
    keys: Array,
    images: Array,
    levels: Array,
    then: Callable[[Array], Array],
) -> Array:
    """Applies a function to the release of images at each level; for use inside a compiled program.

    The edge is computed once for all levels of a defense at the features.

    Args:
      edge: the part of the network on the device.
      structure: of the defense.
      params: of the edge.
      keys: `[B]`, of each image's draws.
      images: `[B, H, W, C]` in unit space.
      levels: `[L, P]`, of the steps.
      then: the function of features `[B, ...]`.

    Returns:
      `[L, ...]`.
    """
    at_features = all(site == "feature" for _, site in structure)
    plain = edge.apply(params, images) if at_features else None

    def one(level: Array) -> Array:
        rows = _for_each(images, level)
        own = jax.random.clone(keys)  # the same draws at every level
        if plain is None:
            return then(_release_once(edge, structure, params, own, images, rows))
        return then(_defended("feature", structure, own, plain, rows))

    return jax.lax.map(one, levels)


class Release:
    """Features that the cloud receives for a batch of inputs: input defense, edge, feature defense.

    Features are computed when they are indexed, so that many images need little memory:
    `release[indices]` is `[len(indices), *edge.output_shape]`, NumPy. The draw of an image depends
    on the key and on the image's place alone, never on the other indices.

    Args:
      edge: the part of the network on the device.
      params: its parameters.
      images: `[N, H, W, C]` in unit space, in memory or made when they are indexed.
      defense: the defense of the device.
      key: of the defense's randomness.
      releases: number of releases of an input, which the attacker combines. The first is the same
        whatever their number.

    Raises:
      UsageError: the images are not in unit space, or have not the shape that the edge takes;
        there is no release, or no key.
      UserError: the parameters are another network's.
    """

    def __init__(
        self,
        edge: Network,
        params: Params,
        images: ArrayLike | Scaled,
        defense: Defense,
        key: Array,
        *,
        releases: int = 1,
    ):
        arguments.check_whole("releases", releases, least=1)
        arguments.check_key("key", key)
        edge.check(params)
        self._edge, self._params, self._defense = edge, edge.select(params), defense
        self._images = unit_space.images(images, edge.input_shape)
        self._key, self._releases = key, releases
        self._number = 0  # of a single release, counted from the first

    def __len__(self) -> int:
        return len(self._images)

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self), *self._edge.output_shape

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        places = np.arange(len(self))[indices]
        return devices.in_slices(
            _released,
            places.astype(np.int32),
            self._images[places],
            np.broadcast_to(self._defense.levels, (len(places), len(self._defense.steps))),
            static=(self._edge, self._defense.structure, self._releases, self._number > 0),
            shared=(self._params, self._key, np.int32(self._number)),
        )

    def each(self) -> list["Release"]:
        """Returns the single releases that an attacker combines, the first one first."""
        alone = []
        for number in range(self._releases):
            one = Release(self._edge, self._params, self._images, self._defense, self._key)
            one._number = number
            alone.append(one)
        return alone


def defended_inputs(edge: Network, images: ArrayLike, defense: Defense, key: Array) -> np.ndarray:
    """Returns the edge's inputs for the first release of images: `[N, H, W, C]`, scaled as these.

    Noise takes them out of unit space.

    Args:
      edge, images, defense, key: as for `Release`, with the same draws.

    Raises:
      UsageError: as for `Release`.
    """
    arguments.check_key("key", key)
    images = unit_space.images(images, edge.input_shape)
    places = jnp.arange(len(images), dtype=jnp.int32)
    levels = np.broadcast_to(defense.levels, (len(images), len(defense.steps)))
    args = (key, places, jnp.asarray(images), jnp.asarray(levels))
    return np.asarray(_inputs(edge, defense.structure, *args))


@partial(jax.jit, static_argnums=(0, 1))
def _inputs(edge, structure, key, indices, images, levels):
    keys = jax.vmap(partial(jax.random.fold_in, key))(indices)
    if all(site == "feature" for _, site in structure):
        return images
    return edge.denormalize(_defended("input", structure, keys, edge.normalize(images), levels))


def _released(edge, structure, releases, later, params, key, number, indices, images, levels):
    keys = jax.vmap(partial(jax.random.fold_in, key))(indices)
    if later:  # the first release is drawn without its number
        keys = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
    return _release(edge, structure, releases, params, keys, images, levels)


def _release(
    edge: Network,
    structure: Structure,
    releases: int,
    params: Params,
    keys: Array,
    images: Array,
    levels: Array,
) -> Array:
    """Computes features `[B, ...]` from keys `[B]`, images `[B, H, W, C]` and levels `[B, P]`."""
    if not structure:
        return edge.apply(params, images)
    first = _release_once(edge, structure, params, keys, images, levels)
    if releases == 1 or not any(mechanism.random for mechanism, _ in structure):
        return first

    def another(number: Array) -> Array:
        own = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
        return _release_once(edge, structure, params, own, images, levels)

    others = jax.lax.map(another, jnp.arange(1, releases))
    number, *more = acting(structure)
    only, site = structure[number]
    alone = not more and site == "feature"
    every = jnp.concatenate([first[None], others])
    return jax.vmap(only.combine if alone else mean, (1, 0))(every, levels[:, number])


def _release_once(edge, structure, params, keys, images, levels) -> Array:
    if any(site == "input" for _, site in structure):
        normalized = _defended("input", structure, keys, edge.normalize(images), levels)
        features = edge.without_normalization.apply(params, normalized)
    else:
        features = edge.apply(params, images)
    return _defended("feature", structure, keys, features, levels)


def _defended(site: Site, structure: Structure, keys: Array, x: Array, levels: Array) -> Array:
    """Applies the steps at one site to a batch."""
    for number, (mechanism, place) in enumerate(structure):
        if place == site:
            own = keys
            if len(structure) > 1:
                own = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
            x = jax.vmap(mechanism.apply)(own, x, levels[:, number])
    return x
