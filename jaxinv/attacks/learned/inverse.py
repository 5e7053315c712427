"""Inverse maps, from features to images, trained on queries (He, Zhang & Lee 2021, Eq. 2). JAX."""

import dataclasses
import math
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial

from jaxinv import arguments
from jaxinv.attacks.attack import QueriesKnown
from jaxinv.attacks.learned import grids, maps
from jaxinv.attacks.learned.maps import TrainedMap
from jaxinv.attacks.learned.pairs import Answers, Pairs
from jaxinv.attacks.learned.queries import BEHAVIOUR, Pool, Queries, kept, make_pool
from jaxinv.attacks.learned.ridge import enlarged, kept_ridge
from jaxinv.attacks.shelf import NOWHERE, Shelf
from jaxinv.errors import UserError
from jaxinv.networks import Params

WAY = "inverse map"
"""Name of this way in records."""

NUM_QUERIES = 100_000
"""Default number of queries that an attacker may ask."""

_LINEAR_FEATURES = 5000  # up to so many features the best linear map is part; more overfit it
_SAMPLE = 500  # queries whose features tell their scale, at most
_SAMPLED = 2**26  # values of these features, at most


class AttackerKeys(NamedTuple):
    """Keys of an attacker's randomness, by use, in white-box and black-box attacks alike."""

    curvature: Array
    inverse: Array
    correction: Array


def split_key(key: Array) -> AttackerKeys:
    """Splits an attacker's key. Attackers of one key train one inverse map, which they share.

    Raises:
      UsageError: it is none.
    """
    arguments.check_key("key", key)
    return AttackerKeys(*jax.random.split(key, 3))


def learn(
    known: QueriesKnown,
    *,
    key: Array,
    num_queries: int = NUM_QUERIES,
    steps: int = maps.STEPS,
    shelf: Shelf = NOWHERE,
) -> TrainedMap:
    """Trains a map from features to images on pairs that it queries; see `fit_map`.

    A part of the images of a step are zoomed and shifted a little, as far as there are queries for
    that.

    Args:
      known: the query, and the images that teach; `TrainedMap.of` chooses among its members.
      key: of the initial parameters, the order of images, their jitter, and a defense's draws.
      num_queries: different queries, at most (of each member); fewer than there are images use the
        first images alone.
      steps: of training, as many for any number of queries.
      shelf: keeps what is trained.

    Raises:
      UserError: there are fewer images than members of the family.
    """
    if known.members > len(known.images[:num_queries]):
        raise UserError(
            f"{len(known.images)} images are too few to learn {known.members} levels from."
        )
    pool = make_pool(known, num_queries, jax.random.fold_in(key, 0))
    return fit_map(pool, key=key, steps=steps, shelf=shelf)


def fit_map(
    pool: Pool | Pairs, *, key: Array, steps: int = maps.STEPS, shelf: Shelf = NOWHERE
) -> TrainedMap:
    """Trains a map from features to images on pairs.

    The best linear map, where features are few enough for it, is found first (ridge regression);
    the network adds to it, and a sigmoid bounds the sum.

    One network serves all members of a family: it is told which one it sees, and adds to the
    linear map of that one. Every step has as many pairs of each.

    Args:
      pool: of pairs, asked for or given.
      key: of the initial parameters and of the order of images.
      steps: of training, as many for any number of pairs.
      shelf: keeps what is trained; only of pairs that are asked for.
    """
    family, shape = pool.members, pool.images.shape[1:]
    key_init, key_fit = (jax.random.fold_in(key, number) for number in (1, 2))
    sample = pool.features(_sample_size(pool))
    checkpoint = None
    if isinstance(pool, Pool):
        seen = sample.reshape(max(1, family), -1, *sample.shape[1:])[:, :BEHAVIOUR]
        checkpoint = kept(shelf, "inverse", __name__, pool, seen, steps=steps)
    linear = None
    if sample[0].size <= _LINEAR_FEATURES:
        linear = kept_ridge(_beside(checkpoint), pool)
    coarse = grids.coarse(shape, sample[0].size)
    constants = linear, *maps.center_and_spread(sample)
    network = maps.estimator_for(shape)

    def estimate(state: tuple[Params, Any], features: Array, *which: Array) -> Array:
        params, (linear, center, spread) = state
        inputs = [(features - center) / spread]
        logits: Any = 0.0
        if linear is not None:
            guess = _linear(linear, features.reshape(len(features), -1), *which)
            guess = enlarged(guess.reshape(-1, *coarse), shape)
            # A sigmoid of this slope follows the linear map where it is between black and white.
            logits = 5 * (guess - 0.5)
            inputs.append(logits)
        for one in which:
            every = jnp.broadcast_to(one, len(features))
            inputs.append(jax.nn.one_hot(every, family, dtype=features.dtype))
        return nn.sigmoid(logits + maps.applied(network, params, inputs))

    def loss(
        queries: Queries | Answers,
        constants: Any,
        params: Params,
        batch: tuple[Array, Array],
        key: Array,
    ):
        which = (jnp.arange(len(batch[1])) % family,) if family else ()
        features, wanted = queries.draw(key, *batch, *which)
        return maps.log_error(estimate((params, constants), features, *which), wanted), {}

    inputs = [sample[:1]] + ([] if linear is None else [np.asarray(pool.images[:1])])
    inputs += [np.zeros((1, family), np.float32)] if family else []
    learned = maps.train(
        Partial(loss, pool.queries, constants),
        maps.initial(network, key_init, inputs),
        constants,
        pool.batch,
        estimate,
        key=key_fit,
        steps=steps,
        checkpoint=checkpoint,
        description=f"inverse map {shelf.label}",
        batch_size=_batch_size(family, len(pool.images)),
        multiple=max(1, family),
    )
    return dataclasses.replace(learned, queries=pool.queries.size)


def _sample_size(pool: Pool | Pairs) -> int:
    """Returns how many images tell the scale of features: few of many values."""
    each = math.prod(pool.feature_shape)
    return -(-max(1, min(_SAMPLE, _SAMPLED // each)) // max(1, pool.members))


def _beside(checkpoint: Path | None) -> Path | None:
    """The file of the linear map that belongs to a network's."""
    return checkpoint and checkpoint.with_name(checkpoint.name.replace("-inverse.", "-ridge."))


def _batch_size(family: int, images: int) -> int:
    """A multiple of the members of a family."""
    if not family:
        return maps.BATCH_SIZE
    return family * max(1, min(-(-maps.BATCH_SIZE // family), images // family))


def _linear(weights: tuple[Array, Array], features: Array, which: Array | None = None) -> Array:
    """Applies linear maps `[L, M, D]`, `[L, D]` to features `[B, M]`: one, or each in its turn."""
    slopes, offsets = weights
    if which is None or not which.ndim:
        chosen = 0 if which is None else which
        return features @ slopes[chosen] + offsets[chosen][None]
    # Rows come in the order of the family, again and again: a product for each member.
    rows = features.reshape(-1, len(slopes), features.shape[1])
    found = jnp.einsum("glm,lmd->gld", rows, slopes) + offsets[None]
    return found.reshape(len(features), -1)
