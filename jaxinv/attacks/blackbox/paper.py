"""The authors' black-box attack: a decoder that is trained on one query for each image. JAX."""

import dataclasses
import math
from typing import ClassVar, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.tree_util import Partial

from jaxinv.attacks.attack import Attack, LearnedAttack, QueriesKnown
from jaxinv.attacks.blackbox.decoder import Decoder
from jaxinv.attacks.blackbox.learning import (
    KNOWLEDGE,
    check_budget,
    learn_and_judge,
)
from jaxinv.attacks.learned import inverse, maps
from jaxinv.attacks.learned.maps import TrainedMap
from jaxinv.attacks.learned.pairs import Answers, Pairs
from jaxinv.attacks.learned.queries import BEHAVIOUR, Pool, Queries, check_images, kept, make_pool
from jaxinv.attacks.shelf import NOWHERE, Shelf
from jaxinv.machine import memory, rows
from jaxinv.networks import Params
from jaxinv.training.amsgrad import amsgrad
from jaxinv.training.fit import epochs_of, fit
from jaxinv.unit_space import Images

STEPS = 56_250
"""30 epochs of the authors' 60,000 images; the rate is halved after each third."""

_BATCH, _RATE, _EPS = 32, 1e-3, 1e-3
_AT_ONCE = 2**28  # bytes of images, summed up in float32


@dataclasses.dataclass(frozen=True)
class DecodedQueries(Attack[QueriesKnown]):
    """The authors' decoder, which is asked each image once.

    Attributes:
      num_queries: different queries, at most; None asks for every image.
      fit_steps: of training.
    """

    num_queries: int | None = None
    fit_steps: int = STEPS

    knowledge: ClassVar[str] = KNOWLEDGE

    def __post_init__(self) -> None:
        check_budget(self.num_queries, self.fit_steps)

    def learn(self, known: QueriesKnown, key: Array, shelf: Shelf = NOWHERE) -> LearnedAttack:
        check_images("paper", len(known.images))
        keys = inverse.split_key(key)
        _, key_held = jax.random.split(keys.correction)
        number = self.num_queries or len(known.images)

        def train(known: QueriesKnown, queries: int) -> TrainedMap:
            return learn_decoder(
                known, key=keys.inverse, num_queries=queries, steps=self.fit_steps, shelf=shelf
            )

        return learn_and_judge(train, known, number, key=key_held, way="decoder")


def _of_channels(images: Images) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and standard deviation of each channel, float32."""
    if images.nbytes <= _AT_ONCE:
        whole = np.asarray(images)
        return whole.mean((0, 1, 2)), whole.std((0, 1, 2)) + 1e-6
    mean, variance = rows.mean_and_variance(images, (0, 1, 2))
    return mean.astype(np.float32), np.sqrt(variance).astype(np.float32) + 1e-6


def learn_decoder(
    known: QueriesKnown,
    *,
    key: Array,
    num_queries: int,
    steps: int = STEPS,
    shelf: Shelf = NOWHERE,
) -> TrainedMap:
    """Trains a decoder as the authors did, on one query an image; see `inverse.learn`."""
    images = known.images[:num_queries]
    pool = make_pool(
        dataclasses.replace(known, images=images), len(images), jax.random.fold_in(key, 0)
    )
    return fit_decoder(pool, key=key, steps=steps, shelf=shelf)


def fit_decoder(
    pool: Pool | Pairs, *, key: Array, steps: int = STEPS, shelf: Shelf = NOWHERE
) -> TrainedMap:
    """Trains a decoder on pairs as the authors did; see `inverse.fit_map` for the arguments.

    Mean squared error in normalised pixels, of which the attacker knows its own images' mean and
    standard deviation; Adam with AMSGrad.
    """
    images = pool.images
    keys = [jax.random.fold_in(key, number) for number in range(3)]
    asked = _answered(pool)
    mean, std = (jnp.asarray(value).reshape(1, 1, 1, -1) for value in _of_channels(images))
    decoder = Decoder(images.shape[1:])

    def estimate(params: Params, features: Array) -> Array:
        return cast(Array, decoder.apply({"params": params}, features)) * std + mean

    def loss(queries: Queries | Answers, params: Params, batch: tuple[Array, Array], key: Array):
        del key
        features, wanted = queries.ask(*batch, jnp.zeros(len(batch[1]), jnp.int32))
        return jnp.mean(((estimate(params, features) - wanted) / std) ** 2), {}

    seen = pool.features(BEHAVIOUR)
    params = jax.jit(decoder.init)(keys[1], seen[:1])["params"]
    # It follows from the edge, too, whether or not answers are kept.
    each_step = Partial(loss, pool.queries)
    batch_size = maps.fitting(each_step, params, pool.batch, min(_BATCH, len(images)))
    third = max(1, steps // 3)
    rate = optax.piecewise_constant_schedule(_RATE, {third: 0.5, 2 * third: 0.5})
    checkpoint = None
    if isinstance(pool, Pool):
        checkpoint = kept(shelf, "decoder", __name__, pool, seen, steps=steps)
    trained = fit(
        Partial(loss, asked.queries),
        params,
        asked.batch,
        optimizer=optax.chain(amsgrad(1.0, eps=_EPS), optax.scale_by_schedule(rate)),
        epochs=epochs_of(steps, len(images), batch_size),
        steps=steps,
        batch_size=batch_size,
        key=keys[2],
        checkpoint=checkpoint,
        description=f"decoder {shelf.label}",
    )
    return TrainedMap(
        estimate, trained.params, trained.seconds, trained.compile_seconds, pool.queries.size
    )


def _answered(pool: Pool | Pairs) -> Pool | Pairs:
    """Returns the pairs of a pool that asks each image once, if a step of a computation may hold
    the answers; else the pool, whose images are asked in every step.

    Kept answers have all digits, which on an accelerator are more than those of a step.
    """
    if not isinstance(pool, Pool) or pool.members or pool.queries.size != len(pool.images):
        return pool
    size = 4 * len(pool.images) * math.prod(pool.feature_shape)
    return Pairs(pool.images, pool.features()) if size <= memory.step() else pool
