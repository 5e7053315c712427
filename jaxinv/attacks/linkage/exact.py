"""Exact log-likelihoods of candidates, for an attacker who knows edge and defense. JAX.

With candidates that are equally likely, nobody identifies more inputs than who takes the likeliest
one: this is the Bayes attacker.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxinv import defenses
from jaxinv.attacks.attack import EdgeKnown, Features
from jaxinv.defenses import Defense, Mechanism, Release
from jaxinv.unit_space import Images

_DIGITS = 1e-5  # of the largest feature: errors of features that are computed twice


def applies(defense: Defense) -> bool:
    """Returns whether the likelihood of a release has a closed form; see `defenses.last_noise`."""
    return not defense.is_random or defenses.last_noise(defense) is not None


def scores(
    known: EdgeKnown, candidates: Images, observed: Sequence[Features], member: int = 0
) -> np.ndarray:
    """Computes the log-likelihood of each candidate, up to a constant of each release.

    A defense that draws nothing leaves one release of a candidate: the nearest is the likeliest,
    as features that are computed twice differ in their last digits (`nearness`).

    Args:
      known: the edge and its defenses, for which `applies` holds.
      candidates: `[G, *input_shape]` in unit space.
      observed: single releases of each input, each `[N, ...]`.
      member: number of the defense in the family.

    Returns:
      `[N, G]`.
    """
    defense = known.family[member]
    last = defenses.last_noise(defense)
    certain = defense if last is None else defenses.before_noise(defense)
    release = Release(known.edge, known.params, candidates, certain, jax.random.key(0))
    clean = release[np.arange(len(candidates))]
    every = np.arange(len(observed[0]))
    # What draws nothing is released alike each time.
    told = observed if last is not None else observed[:1]
    found = np.zeros((len(every), len(candidates)), np.float32)
    for part in told:
        mechanism, level = last if last is not None else (None, 0.0)
        found += np.asarray(_scored(mechanism, clean, part[every], jnp.float32(level)))
    return found


def nearness(clean: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Returns the log-likelihood of features `[G, ...]` that are computed again, `[N, G]`.

    They differ by normal errors in their last digits, for all that is known of these.

    Args:
      clean: `[G, ...]`, the features of candidates.
      observed: `[N, ...]`, those that were released.
    """
    return np.asarray(_scored(None, clean, observed, jnp.float32(0)))


@partial(jax.jit, static_argnums=0)
def _scored(mechanism: Mechanism | None, clean: Array, observed: Array, level: Array) -> Array:
    """Scores `[G, ...]` against `[N, ...]`, one release after another: `[N, G]`."""
    clean, observed = clean.astype(jnp.float32), observed.astype(jnp.float32)
    finite = jnp.where(jnp.isfinite(clean), jnp.abs(clean), 0)
    digits = _DIGITS * jnp.maximum(finite.max(), 1e-30)

    def one(released: Array) -> Array:
        if mechanism is None or mechanism.log_likelihood is None:
            same = clean == released[None]  # infinite ones have no difference
            apart = jnp.where(same, 0, clean - released[None])
            each = -((apart / digits) ** 2) / 2
        else:
            each = jax.vmap(mechanism.log_likelihood, (0, None, None))(clean, released, level)
        return each.reshape(len(clean), -1).sum(axis=1)

    return jax.lax.map(one, observed)
