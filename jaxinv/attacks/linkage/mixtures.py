"""Scores of candidates whose features vary independently, as their own draws tell. JAX.

A value that is dropped or not, or that is rounded after noise, is not normal. The density of each
feature of a candidate is a mixture of one kernel for each draw of it.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxinv.attacks.linkage.whitening import Score
from jaxinv.defenses import Mechanism

FEATURES = 1024
"""Features that are compared, at most; of more, some that are drawn once."""

_WIDTHS = (0.3, 0.03, 0.002)  # of a normal kernel, in spreads of a feature's releases


def some(count: int) -> np.ndarray:
    """Returns the places of the features that are compared, in order."""
    places = np.arange(count)
    if count > FEATURES:
        places = np.sort(np.random.default_rng(0).choice(count, FEATURES, replace=False))
    return places


def scores(draws: np.ndarray, deviations: np.ndarray) -> list[Score]:
    """Returns scores by normal kernels of several widths.

    One more kernel of each feature is as wide as its values over all candidates: it stands for
    values that none of the draws took, and weighs as much as one draw.

    Args:
      draws: `[D, G, S]`, releases of each candidate, at `some` of F features.
      deviations: `[M, F]`, of releases from their candidate's mean.
    """
    spread = deviations[:, some(deviations.shape[1])].std(axis=0)
    values = draws.reshape(-1, draws.shape[-1])
    middle, whole = values.mean(axis=0), np.maximum(values.std(axis=0), 1e-30)
    floor = max(1e-6 * float(spread.max()), 1e-30)
    given = jax.device_put(draws)
    widths = [np.maximum(width * spread, floor) for width in _WIDTHS]
    return [partial(_by_kernels, given, width, middle, whole) for width in widths]


def _by_kernels(draws, width, middle, whole, observed) -> np.ndarray:
    seen = observed[:, some(observed.shape[1])]
    return np.asarray(_kernels(draws, *map(jnp.asarray, (width, middle, whole, seen))))


@jax.jit
def _kernels(draws: Array, width: Array, middle: Array, whole: Array, observed: Array) -> Array:
    def one(released: Array) -> Array:
        near = jnp.exp(-(((released[None, None] - draws) / width[None, None]) ** 2) / 2).sum(axis=0)
        apart = jnp.exp(-(((released - middle) / whole) ** 2) / 2) * width / whole
        return jnp.log(near + apart[None] + 1e-30).sum(axis=1)

    return jax.lax.map(one, observed)


def known_noise(mechanism: Mechanism, level: float, draws: np.ndarray) -> Score:
    """Returns scores where the last noise is known, and acts on every value by itself.

    Args:
      mechanism: adds that noise, with a log-likelihood of its own.
      level: of it.
      draws: `[D, G, S]`, without that noise, at `some` features.
    """
    given = jax.device_put(draws)

    def score(observed: np.ndarray) -> np.ndarray:
        seen = jnp.asarray(observed[:, some(observed.shape[1])])
        return np.asarray(_mixed(mechanism, given, seen, jnp.float32(level)))

    return score


@partial(jax.jit, static_argnums=0)
def _mixed(mechanism: Mechanism, draws: Array, observed: Array, level: Array) -> Array:
    assert mechanism.log_likelihood is not None
    each = jax.vmap(jax.vmap(mechanism.log_likelihood, (0, None, None)), (0, None, None))

    def one(released: Array) -> Array:
        return jax.nn.logsumexp(each(draws, released, level), axis=0).sum(axis=1)

    return jax.lax.map(one, observed)
