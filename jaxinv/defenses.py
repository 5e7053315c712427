"""Defences as values, and the release: the only thing that crosses the wire. JAX.

A defence is a randomised map of one example, applied to the input or to the features on the edge.
Whatever is measured, usability or privacy, is measured on the same release. An attacker sees it as
a `Release` of images it does not know, and may call it as a `Query` with images of its own.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxinv.networks import Network, Params

Site = Literal["input", "feature"]


@dataclasses.dataclass(frozen=True)
class Defense:
    """A randomised map of one example, and where it stands.

    Attributes:
      kind: its name, as flags and records spell it.
      site: "input", before the edge, or "feature", after it.
      level: its strength, in the units of its kind; 0 changes nothing.
      apply: `(key, x) -> y` for one input `[H, W, C]` or one example's features, pure, of the same
        shape.
    """

    kind: str
    site: Site
    level: float
    apply: Callable[[Array, Array], Array]

    def describe(self) -> dict[str, str | float]:
        """`{kind, site, level}`, as a record keeps it."""
        return {"kind": self.kind, "site": self.site, "level": self.level}


def _unchanged(key: Array, x: Array) -> Array:
    del key
    return x


NONE = Defense("none", "feature", 0.0, _unchanged)
"""No defence: features cross the wire as they are."""


Query = Callable[[Array, Array], Array]
"""`(keys [B], images [B, H, W, C] in unit space) -> features [B, ...]`: the release as a function.

Pure. An image's key decides what a randomised defence draws for it, so the same key and image are
the same query. This is all that a black-box attacker is given of a network.
"""


def query_function(edge: Network, params: Params, defense: Defense = NONE) -> Query:
    """The release as a black-box attacker may call it.

    Args:
      edge: the part of the network on the device.
      params: its parameters.
      defense: what the device does against attackers.
    """
    return partial(_release, edge, defense, edge.select(params))


class Release:
    """What the cloud receives for a batch of inputs: input defence, edge, feature defence.

    Features are computed when they are asked for, so that many images need little memory:
    `release[indices]` is `[len(indices), *edge.output_shape]`, NumPy. The draw of an image depends
    on the key and on the image's place alone, never on what is asked for with it.

    Args:
      edge: the part of the network on the device.
      params: its parameters.
      images: `[N, H, W, C]` in unit space.
      defense: what the device does against attackers.
      key: of the defence's randomness.
    """

    def __init__(
        self, edge: Network, params: Params, images: np.ndarray, defense: Defense, key: Array
    ):
        self._edge, self._params, self._defense = edge, edge.select(params), defense
        self._images, self._key = images, key

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        indices = np.arange(len(self))[indices]
        chosen, places = jnp.asarray(self._images[indices]), jnp.asarray(indices, jnp.int32)
        args = (self._edge, self._defense, self._params, self._key, places, chosen)
        return np.asarray(_released(*args))


@partial(jax.jit, static_argnums=(0, 1))
def _released(edge, defense, params, key, indices, images):
    keys = jax.vmap(partial(jax.random.fold_in, key))(indices)
    return _release(edge, defense, params, keys, images)


def _release(edge: Network, defense: Defense, params: Params, keys: Array, images: Array) -> Array:
    defend = jax.vmap(defense.apply)
    if defense.site == "input":
        return edge.apply(params, defend(keys, images))
    return defend(keys, edge.apply(params, images))
