"""Blind cleaning of noisy features behind a rectifier, by the numbers that noise takes. JAX.

A feature that was zero crosses as a number of the noise itself, which others seldom are. The
attacker sets these to zero, and learns from releases that are cleaned alike. Releases of
`sampler.noisy` are not cleaned: all of them lie on one grid.
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxinv import defenses
from jaxinv.attacks import support
from jaxinv.attacks.attack import EdgeKnown, Features
from jaxinv.attacks.support import Hits
from jaxinv.defenses import Defense, Mechanism, Release

_IMAGES = 64  # of the attacker's, whose releases tell whether numbers tell anything
_TIMES = 32  # millions of draws of the numbers that are looked for


@dataclasses.dataclass(frozen=True)
class Cleaning:
    """Cleaning of what a family of defenses releases.

    Attributes:
      known: the attacker's knowledge, with defenses whose releases are cleaned.
      numbers: `[T]`, sorted, that noise of level 1 takes.
      levels: of each member's noise.
    """

    known: EdgeKnown
    numbers: Array
    levels: tuple[float, ...]

    def __call__(self, seen: Features, member: int) -> Features:
        """Returns the features that a member released, cleaned."""
        return _Cleaned(seen, self.numbers, self.levels[member])


def find_cleaning(known: EdgeKnown, key: Array) -> Cleaning | None:
    """Returns the cleaning of releases; None where it tells nothing.

    Several releases of one input are combined before they are seen, and are not cleaned.

    Args:
      known: the edge, its defenses, and images of the attacker's.
      key: of releases of these.
    """
    noises = [support.added(defense) for defense in known.family]
    levels = tuple(noise[1] if noise else 0.0 for noise in noises)
    strongest = int(np.argmax(levels))
    noise = noises[strongest]
    if noise is None or known.releases > 1:
        return None
    images, defense = known.images[:_IMAGES], known.family[strongest]
    clean, seen = (
        Release(known.edge, known.params, images, each, key)[np.arange(len(images))]
        for each in (defenses.before_noise(defense), defense)
    )
    mechanism, level = noise
    numbers = partial(support.numbers, mechanism, 1.0, clean.shape[1:])
    zero = clean == 0
    if not zero.any() or zero.all() or not _hits(numbers(), zero, seen, level).tell:
        return None
    found = jnp.asarray(numbers(_TIMES), jnp.float32)
    family = tuple(_cleaned(each, mechanism, found) for each in known.family)
    return Cleaning(dataclasses.replace(known, family=family), found, levels)


def _hits(numbers: np.ndarray, zero: np.ndarray, seen: np.ndarray, level: float) -> Hits:
    """Returns how often zeros and other features cross as numbers of the noise."""
    found = np.asarray(_is_number(jnp.asarray(numbers, jnp.float32), seen, jnp.float32(level)))
    return Hits(float(found[zero].mean()), float(found[~zero].mean()))


def _cleaned(defense: Defense, mechanism: Mechanism, numbers: Array) -> Defense:
    """Returns the defense, with the noise of a mechanism at the features cleaned."""

    def apply(key: Array, x: Array, level: Array) -> Array:
        return clean(numbers, mechanism.apply(key, x, level), level)

    cleaned = dataclasses.replace(mechanism, apply=apply)
    steps = (
        step._replace(mechanism=cleaned) if step[:2] == (mechanism, "feature") else step
        for step in defense.steps
    )
    return Defense(tuple(steps))


def clean(numbers: Array, released: Array, level: Array) -> Array:
    """Sets to zero the released values that are numbers `[T]` of the noise at a level."""
    return jnp.where(_is_number(numbers, released, level), 0, released)


@jax.jit
def _is_number(numbers: Array, released: Array, level: Array) -> Array:
    place = jnp.searchsorted(numbers, released / jnp.where(level > 0, level, 1))
    near = (jnp.clip(place + step, 0, len(numbers) - 1) for step in (-1, 0, 1))
    below, at, above = (level * numbers[one] == released for one in near)
    return below | at | above


class _Cleaned:
    """Features that are cleaned when they are indexed."""

    def __init__(self, seen: Features, numbers: Array, level: float):
        self._seen, self._numbers, self._level = seen, numbers, level

    @property
    def shape(self) -> tuple[int, ...]:
        return self._seen.shape

    def __len__(self) -> int:
        return len(self._seen)

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        seen: Any = self._seen[indices]
        return np.asarray(_clean(self._numbers, seen, jnp.float32(self._level)))


_clean = jax.jit(clean)
