"""Black-box attackers who know the levels of a defense: one inverse map for all of them. JAX."""

import dataclasses
from typing import ClassVar

from jax import Array

from jaxinv.attacks.attack import Attack, LearnedAttack, QueriesKnown
from jaxinv.attacks.blackbox.learning import KNOWLEDGE, InvertedQueries
from jaxinv.attacks.learned import inverse, maps
from jaxinv.attacks.learned.queries import check_images, divide
from jaxinv.attacks.learned.retrieval import Retrieval
from jaxinv.attacks.shelf import NOWHERE, Shelf

FIT_STEPS = 1000
"""Default steps of training an inverse map, and as many of a white-box attacker's correction."""


@dataclasses.dataclass(frozen=True)
class AdaptiveQueries(Attack[QueriesKnown]):
    """The inverse map from which the adaptive white-box attacker starts, and retrieval by it.

    Attributes:
      fit_steps: of training.
    """

    fit_steps: int = FIT_STEPS

    knowledge: ClassVar[str] = f"{KNOWLEDGE}; the level of their defence"
    together: ClassVar[bool] = True

    def learn(self, known: QueriesKnown, key: Array, shelf: Shelf = NOWHERE) -> LearnedAttack:
        check_images("an adaptive attacker", len(known.images))
        trained = learn_map(known, inverse.split_key(key).inverse, self.fit_steps, shelf)
        fit_seconds = trained.seconds + trained.compile_seconds
        info = {"queries": trained.queries}
        taught, _, _ = divide(known.images, inverse.NUM_QUERIES)
        return InvertedQueries(
            trained, known.output_shape, fit_seconds, info, known.members, Retrieval.of(taught)
        )


def learn_map(known: QueriesKnown, key: Array, steps: int, shelf: Shelf) -> maps.TrainedMap:
    """Trains the map that adaptive attackers of one key share; see `inverse.learn`."""
    taught, _, num_queries = divide(known.images, inverse.NUM_QUERIES)
    return inverse.learn(
        dataclasses.replace(known, images=taught),
        key=key,
        num_queries=num_queries,
        steps=steps,
        shelf=shelf,
    )
