"""Linkage by the release itself, as a record has it. JAX."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxinv.attacks.attack import Known, LearnedAttack, QueriesKnown
from jaxinv.attacks.linkage import drawn, exact, link
from jaxinv.attacks.linkage.mixtures import FEATURES
from jaxinv.constants.verdicts import GALLERY
from jaxinv.defenses import Release, Rows
from jaxinv.inputs.data import Dataset
from jaxinv.measures import intervals, linkage
from jaxinv.studies import evaluation
from jaxinv.unit_space import Images, Scaled

_BYTES = 2**28  # of the features of all candidates, at most
_LEAST = 100  # candidates, and releases that are looked up
_WORK = 5e8  # features that are compared, about


def candidates(dataset: Dataset) -> Scaled:
    """Returns the candidates `[G, *input_shape]`: the first test images."""
    return dataset.test[:GALLERY].scaled


def gallery_size(features: int, wanted: int) -> int:
    """Returns how many candidates there are, of so many features each."""
    return min(wanted, max(_LEAST, _BYTES // (4 * features)))


def fields(
    known: Known,
    learned: LearnedAttack | None,
    release: Release,
    gallery: Images,
    *,
    seed: int,
    member: int = 0,
) -> dict[str, Any]:
    """Counts how often the likeliest candidate is the input of a release.

    Args:
      known: the attacker's knowledge.
      learned: the attacker.
      release: of the candidates, each by its place.
      gallery: `[G, *input_shape]` in unit space, the candidates.
      seed: of draws and guesses.
      member: number of the defense that released them, in the family that is known.

    Returns:
      `reid_likelihood`, a share; `reid_likelihood_ci`, its exact 95% limits;
      `reid_likelihood_images`, of how many releases; and `reid_likelihood_way`: "exact" is the
      Bayes attacker, whom none with this knowledge beats, "draws" and "shadows" are estimates. All
      of them None where the attacker has nothing to compare with, or where the scores of a release
      are not finite: a guess in place of these would look like protection.
    """
    features = release[np.arange(1)].size
    count = gallery_size(features, len(gallery))
    number = min(count, max(_LEAST, int(_WORK / (count * _compared(known, member, features)))))
    own = release if isinstance(known, QueriesKnown) else release.each()
    observed: Sequence[Any] = own if isinstance(own, list) else [own]
    found = link(
        known,
        learned,
        gallery[:count],
        [Rows(part, np.arange(number)) for part in observed],
        jax.random.fold_in(jax.random.key(seed), 3),
        member=member,
    )
    if found is None or not np.isfinite(found.scores).any(axis=1).all():
        return evaluation.NO_LINK
    right = linkage.singled_out(found.scores, gallery[:count], seed=seed)
    summary = intervals.summarise_share(right)
    return {
        "reid_likelihood": summary.mean,
        "reid_likelihood_ci": [summary.low, summary.high],
        "reid_likelihood_images": number,
        "reid_likelihood_way": found.way,
    }


def _compared(known: Known, member: int, features: int) -> int:
    """Returns about how many comparisons it takes to look up one release among one candidate."""
    family = getattr(known, "family", ())
    if family and exact.applies(family[member]):
        return features
    return drawn.DRAWS * min(features, FEATURES)
