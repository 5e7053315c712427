"""Log-likelihoods of candidates estimated from draws, where they have no closed form. NumPy.

The attacker makes several releases of each candidate and fits several densities to them: normal
ones of a common covariance (`whitening`), and mixtures feature by feature (`mixtures`). It takes
the one that identifies most of the releases that it left out; what it attacks plays no part in it.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from jaxinv import defenses
from jaxinv.attacks.attack import EdgeKnown, Features, QueriesKnown
from jaxinv.attacks.linkage import exact, mixtures, whitening
from jaxinv.attacks.linkage.whitening import Score
from jaxinv.defenses import GAUSSIAN, LAPLACE
from jaxinv.machine import devices
from jaxinv.unit_space import Images

DRAWS = 16
"""Releases of each candidate that an attacker asks for to learn, beside one to choose by."""

_ALONE = 32
"""Draws of each candidate by an attacker who makes them itself."""

_DEVIATIONS = 1500  # rows that the covariance is estimated from, at most
_BYTES = 2**28  # of these rows, at most; and of draws that are kept
_CHOOSE = 32  # candidates that the density is chosen by, among all


class Drawn(NamedTuple):
    """Scores of candidates `[N, G]`, and the number of queries behind them."""

    scores: np.ndarray
    queries: int


def by_queries(
    known: QueriesKnown,
    candidates: Images,
    observed: Sequence[Features],
    key: Array,
    member: int = 0,
) -> Drawn:
    """Scores candidates by answers to queries, whose noise the device draws.

    Args:
      known: the query.
      candidates: `[G, *input_shape]` in unit space.
      observed: single releases of each input, each `[N, ...]`.
      key: of the draws.
      member: number of the defense that released them, in the family that the query stands for.
    """
    ask = _Asked(known, candidates, key, member)
    first = ask(0)
    if np.array_equal(first, ask(1)):  # nothing is drawn
        return Drawn(_nearest(first, observed), 2 * len(candidates))
    draws = _Draws(ask, DRAWS)
    deviations = draws.deviations(draws.mean)

    def ways() -> Iterator[Score]:
        yield from whitening.scores(draws.mean, deviations)
        yield from mixtures.scores(draws.some, deviations)

    score = _chosen(ways(), ask(DRAWS))
    return Drawn(_sum(score, observed), (DRAWS + 1) * len(candidates))


def by_edge(
    known: EdgeKnown,
    candidates: Images,
    observed: Sequence[Features],
    key: Array,
    member: int = 0,
) -> Drawn:
    """Scores candidates by releases that an attacker who knows edge and defense makes itself.

    The means of all candidates are of the same draws of noise, so that the error of one is nearly
    that of another. Where the last step adds a noise of its own, its density is known.

    Args:
      known: the edge and its defenses.
      candidates, observed, key, member: as for `by_queries`.
    """
    key_common, key_own = jax.random.split(key)
    defense = known.family[member]
    query = QueriesKnown(defenses.query_function(known.edge, known.params, defense), candidates)
    common = _Draws(_Asked(query, candidates, key_common, 0, common=True), _ALONE)
    own = _Asked(query, candidates, key_own, 0)
    draws = _Draws(own, DRAWS)
    deviations = draws.deviations(common.mean)
    last = defenses.in_order(defense)[-1]

    def ways() -> Iterator[Score]:
        yield from whitening.scores(common.mean, deviations)
        if last.site == "feature" and last.mechanism in (GAUSSIAN, LAPLACE):
            before = defenses.before_noise(defense)
            query = defenses.query_function(known.edge, known.params, before)
            ask = _Asked(QueriesKnown(query, candidates), candidates, key_own, 0)
            yield mixtures.known_noise(last.mechanism, last.level, _Draws(ask, DRAWS).some)
        else:
            yield from mixtures.scores(draws.some, deviations)

    return Drawn(_sum(_chosen(ways(), own(DRAWS)), observed), 0)


def _nearest(features: np.ndarray, observed: Sequence[Features]) -> np.ndarray:
    return exact.nearness(features, _flat(observed[0][np.arange(len(observed[0]))]))


def _sum(score: Score, observed: Sequence[Features]) -> np.ndarray:
    """Adds up the log-likelihoods of independent releases."""
    every = np.arange(len(observed[0]))
    return np.sum([score(_flat(part[every])) for part in observed], axis=0)


def _chosen(ways: Iterable[Score], left: np.ndarray) -> Score:
    """Returns the first density that identifies most of a draw `[G, F]` that was left out.

    Those behind one that identifies all are not asked for.
    """
    places = np.linspace(0, len(left) - 1, min(_CHOOSE, len(left))).astype(int)

    def rank(way: Score) -> float:
        found = way(left[places])
        own = found[np.arange(len(places)), places]
        if not np.isfinite(own).all():
            return np.inf
        return float(np.log((found >= own[:, None]).sum(axis=1)).mean())

    best: tuple[float, Score] | None = None
    for way in ways:
        found = rank(way)
        if best is None or found < best[0]:
            best = found, way
        if best[0] == 0:
            break
    assert best is not None
    return best[1]


class _Asked:
    """Releases of all candidates, by the number of the draw: `[G, F]`."""

    def __init__(
        self,
        known: QueriesKnown,
        candidates: Images,
        key: Array,
        member: int,
        *,
        common: bool = False,
    ):
        self._known, self.candidates, self._key = known, candidates, key
        self._which = (np.full(len(candidates), member, np.int32),) if known.members else ()
        places = np.arange(len(candidates), dtype=np.int32)
        self._places = np.zeros_like(places) if common else places

    def __call__(self, number: int) -> np.ndarray:
        key = jax.random.fold_in(self._key, number)
        rows = (self._places, self.candidates, *self._which)
        return _flat(devices.in_slices(_ask, *rows, shared=(self._known.query, key)))


def _ask(query: Any, key: Array, places: Array, images: Array, *which: Array) -> Array:
    keys = jax.vmap(lambda place: jax.random.fold_in(key, place))(places)
    return query(keys, images, *which)


class _Draws:
    """Several draws of all candidates.

    Attributes:
      mean: `[G, F]`, of each candidate's draws.
      some: `[D, G, S]`, the draws at the features that `mixtures` compares.
    """

    def __init__(self, ask: _Asked, count: int):
        self._ask, self._count, self._kept = ask, count, list[np.ndarray]()
        total, part = np.zeros(1, np.float32), []
        for number in range(count):
            draw = ask(number)
            total = total + draw
            part.append(draw[:, mixtures.some(draw.shape[1])])
            if count * draw.nbytes <= _BYTES:
                self._kept.append(draw)
        self.mean, self.some = total / count, np.stack(part)

    def deviations(self, means: np.ndarray) -> np.ndarray:
        """Returns draws less means `[G, F]`: rows `[M, F]`, of a release's variance."""
        most = max(2, min(_DEVIATIONS, _BYTES // means[0].nbytes))
        each = max(1, len(means) * self._count // most)
        draws = self._kept or map(self._ask, range(self._count))
        rows = [draw[i % each :: each] - means[i % each :: each] for i, draw in enumerate(draws)]
        bias = self._count / (self._count - 1) if means is self.mean else 1.0
        return np.concatenate(rows)[:most] * np.float32(bias**0.5)


def _flat(features: np.ndarray) -> np.ndarray:
    return np.asarray(features, np.float32).reshape(len(features), -1)
