"""The log-likelihood of every candidate, as far as a threat model allows to know it. JAX."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax import Array

from jaxinv.attacks.attack import CloudKnown, Features, Known, LearnedAttack, QueriesKnown
from jaxinv.attacks.linkage import drawn, exact, grid, shadowed
from jaxinv.unit_space import Images


class Link(NamedTuple):
    """Scores of candidates.

    Attributes:
      scores: `[N, G]`, of each of G candidates for each of N releases, greatest for the likeliest.
      way: how they were found, "exact", "draws" or "shadows"; "grid" where the numbers that noise
        takes tell more than its density.
      queries: how many releases of candidates were asked for.
    """

    scores: np.ndarray
    way: str
    queries: int = 0


def link(
    known: Known,
    learned: LearnedAttack | None,
    candidates: Images,
    observed: Sequence[Features],
    key: Array,
    *,
    member: int = 0,
) -> Link | None:
    """Scores candidates for the inputs of releases.

    Args:
      known: the attacker's knowledge. Its candidates are all alike likely.
      learned: the attacker, whose shadows stand in for the edge where it is not known.
      candidates: `[G, *input_shape]` in unit space.
      observed: releases of each input, each `[N, ...]`: single ones, or to an attacker who queries
        one that is as the query answers.
      key: of the draws.
      member: number of the defense that released them, in the family that is known.

    Returns:
      Scores; None where the attacker has nothing to compare with.
    """
    if isinstance(known, CloudKnown):
        features = learned.believed(candidates) if learned is not None else None
        if features is None:
            return None
        return Link(shadowed.scores(features, known.stream, observed), "shadows")
    if isinstance(known, QueriesKnown):
        asked = drawn.by_queries(known, candidates, observed, key, member)
        return Link(asked.scores, "draws", asked.queries)
    if exact.applies(known.family[member]):
        found = Link(exact.scores(known, candidates, observed, member), "exact")
    else:
        found = Link(drawn.by_edge(known, candidates, observed, key, member).scores, "draws")
    more = grid.scores(known, candidates, observed, jax.random.fold_in(key, 1), member)
    return found if more is None else Link(found.scores + more, "grid")
