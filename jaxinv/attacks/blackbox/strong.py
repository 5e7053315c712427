"""The strongest black-box attack: exact recovery of affine edges, else an inverse map. JAX."""

import dataclasses
import time
from typing import ClassVar

import jax
import numpy as np
from jax import Array

from jaxinv import defenses
from jaxinv.attacks.attack import Attack, Features, LearnedAttack, QueriesKnown, Reconstruction
from jaxinv.attacks.blackbox import affine
from jaxinv.attacks.blackbox.learning import (
    FEWEST_QUERIES,
    KNOWLEDGE,
    InvertedQueries,
    check_budget,
    learn_and_judge,
)
from jaxinv.attacks.learned import inverse, maps
from jaxinv.attacks.learned.queries import check_images
from jaxinv.attacks.shelf import NOWHERE, Shelf
from jaxinv.errors import UsageError

KNOWLEDGE_OF_ANSWERS = "answers to queries of the release; no images"


@dataclasses.dataclass(frozen=True)
class StrongQueries(Attack[QueriesKnown]):
    """Exact recovery (`affine`) where the edge is affine; else `inverse.learn`.

    A white-box attacker with the same key trains the same map.

    Attributes:
      num_queries: different queries, at most.
      fit_steps: of training.
    """

    num_queries: int = inverse.NUM_QUERIES
    fit_steps: int = maps.STEPS

    knowledge: ClassVar[str] = KNOWLEDGE

    def __post_init__(self) -> None:
        check_budget(self.num_queries, self.fit_steps)

    def learn(self, known: QueriesKnown, key: Array, shelf: Shelf = NOWHERE) -> LearnedAttack:
        check_images("strong", len(known.images))
        return _Asker(self, known, key, shelf)


class _Asker(LearnedAttack):
    """Attacker who asks once it has seen features: these can save it the queries."""

    def __init__(self, attack: StrongQueries, known: QueriesKnown, key: Array, shelf: Shelf):
        self._attack, self._known, self._shelf = attack, known, shelf
        self._keys = inverse.split_key(key)
        # A black-box attacker has no other use for this one.
        self._key_affine, self._key_held = jax.random.split(self._keys.correction)
        self._tried: affine.AffineAttempt | None = None
        self._learned: InvertedQueries | None = None
        self._asking_seconds = 0.0

    def invert(self, observed: Features, member: int = 0) -> Reconstruction:
        del member
        defenses.check_features(observed, self._known.output_shape, name="observed")
        tried = self._ask(observed[np.arange(1)])
        if tried.system is not None:
            began = time.perf_counter()
            found = tried.system.solve(observed)
            if found is not None:
                found = found.reshape(-1, *self._known.images.shape[1:])
                seconds = time.perf_counter() - began
                info = {"way": "affine", "queries": tried.queries, "held_out_psnr": None}
                info["edge"] = tried.found
                info |= {"attacker_knowledge": KNOWLEDGE_OF_ANSWERS, "surrogate": "none"}
                return Reconstruction(found, seconds, fit_seconds=self._asking_seconds, info=info)
        self._learned = self._learned or self._learn(tried)
        return self._learned.invert(observed)

    def _ask(self, first: np.ndarray) -> affine.AffineAttempt:
        if self._tried is None:
            began = time.perf_counter()
            self._tried = affine.ask(
                self._known.query,
                first,
                self._known.images.shape[1:],
                key=self._key_affine,
                num_queries=self._attack.num_queries,
            )
            self._asking_seconds = time.perf_counter() - began
        return self._tried

    def _learn(self, tried: affine.AffineAttempt) -> InvertedQueries:
        number = self._attack.num_queries
        left = number - tried.weights
        if left < FEWEST_QUERIES:
            raise UsageError(
                f"num_queries={number}: the edge takes {tried.weights} to be found not affine; "
                f"expected at least {tried.weights + FEWEST_QUERIES}, or fewer than "
                f"{tried.weights}."
            )

        def train(known: QueriesKnown, queries: int) -> maps.TrainedMap:
            return inverse.learn(
                known,
                key=self._keys.inverse,
                num_queries=queries,
                steps=self._attack.fit_steps,
                shelf=self._shelf,
            )

        learned = learn_and_judge(
            train,
            self._known,
            left,
            asked=tried.queries,
            saved=tried.probes,
            key=self._key_held,
            way=inverse.WAY,
        )
        fit_seconds = learned.fit_seconds + self._asking_seconds
        info = {**learned.info, "edge": tried.found}
        return dataclasses.replace(learned, fit_seconds=fit_seconds, info=info)
