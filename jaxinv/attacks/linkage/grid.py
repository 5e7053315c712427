"""Scores of candidates by the numbers that noise takes (Mironov 2012). NumPy.

The release less the right candidate's features is a number that the mechanism draws; less those of
others it seldom is. That holds at a noise that hides all else. The attacker makes releases of some
candidates to see how often either is the case, and makes no use of it where they are alike.
"""

from collections.abc import Sequence

import numpy as np
from jax import Array

from jaxinv import defenses
from jaxinv.attacks import support
from jaxinv.attacks.attack import EdgeKnown, Features
from jaxinv.attacks.support import Hits
from jaxinv.defenses import Release
from jaxinv.unit_space import Images

_LEARNED = 64  # candidates whose releases tell how often numbers are hit
_FEATURES = 1024  # at most, those that vary most
_COMPARED = 5e7  # features of candidates, for all releases
_DIGIT = 2.0**-24
_ENOUGH, _MOST = 2000, 32  # features that one million draws are enough for; millions of draws


def scores(
    known: EdgeKnown,
    candidates: Images,
    observed: Sequence[Features],
    key: Array,
    member: int = 0,
) -> np.ndarray | None:
    """Computes how much likelier each candidate is by the numbers of the noise, in nats.

    Args:
      known: the edge and its defenses.
      candidates: `[G, *input_shape]` in unit space.
      observed: single releases of each input, each `[N, ...]`.
      key: of the attacker's own releases.
      member: number of the defense in the family.

    Returns:
      `[N, G]`; None where the numbers tell nothing.
    """
    defense = known.family[member]
    noise = support.added(defense)
    if noise is None or len(candidates) < 2:
        return None
    before = defenses.before_noise(defense)
    clean = _all(Release(known.edge, known.params, candidates, before, key))
    own = _all(Release(known.edge, known.params, candidates[:_LEARNED], defense, key))
    shape, flat = clean.shape[1:], _flat(clean)
    used = np.argsort(-flat.std(axis=0))[:_FEATURES]
    right, seen = flat[: len(own), used], _flat(own)[:, used]
    if (right == right[:1]).all():
        return None
    numbers = support.numbers(*noise, shape)
    if not _hits(numbers, right, seen).tell:
        return None
    numbers = support.numbers(*noise, shape, min(_MOST, -(-_ENOUGH // len(used))))
    hits = _hits(numbers, right, seen)
    count = len(observed[0])
    used = used[: max(1, int(_COMPARED // (count * len(candidates))))]
    parts = [_flat(part[np.arange(count)])[:, used] for part in observed]
    return np.sum([_scored(numbers, hits, flat[:, used], part) for part in parts], axis=0)


def _hits(numbers: np.ndarray, clean: np.ndarray, seen: np.ndarray) -> Hits:
    """Returns how often releases hit numbers at their own features, and at those of the next.

    It counts where the two differ: what they share tells neither from the other.
    """
    others = np.roll(clean, 1, axis=0)
    differ = clean != others
    shares = [_hit(numbers, each, seen)[differ].mean() for each in (clean, others)]
    least = 1 / (differ.sum() + 2)
    return Hits(*(float(np.clip(share, least, 1 - least)) for share in shares))


def _scored(numbers: np.ndarray, hits: Hits, clean: np.ndarray, seen: np.ndarray) -> np.ndarray:
    found = np.stack([_hit(numbers, clean, row[None]).sum(axis=1) for row in seen])
    if_hit = np.log(hits.right / hits.others)
    if_missed = np.log((1 - hits.right) / (1 - hits.others))
    return found * if_hit + (clean.shape[1] - found) * if_missed


def _hit(numbers: np.ndarray, clean: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Tells where releases less features are one of the numbers, but for rounding."""
    noise = seen - clean
    rounding = _DIGIT * (np.abs(seen) + np.abs(noise) + 2 * np.abs(clean))
    return support.hit(numbers, noise, rounding)


def _all(release: Release) -> np.ndarray:
    return release[np.arange(len(release))]


def _flat(features: np.ndarray) -> np.ndarray:
    return np.asarray(features, np.float64).reshape(len(features), -1)
