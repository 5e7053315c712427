"""Black-box attackers who train a map on their queries (He, Zhang & Lee 2021, Eq. 2). JAX.

The attacker may query the release with images of its own, and sees the features to be inverted. It
is given nothing else: neither layers nor parameters, and no constant of the network's.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jax import Array

from jaxinv import arguments, defenses
from jaxinv.attacks.attack import Features, LearnedAttack, QueriesKnown, Reconstruction
from jaxinv.attacks.learned import inverse, retrieval
from jaxinv.attacks.learned.maps import TrainedMap
from jaxinv.attacks.learned.queries import answers, divide
from jaxinv.attacks.learned.retrieval import Retrieval
from jaxinv.attacks.stopwatch import Stopwatch
from jaxinv.measures import intervals, quality
from jaxinv.unit_space import Images

KNOWLEDGE = "answers to queries of the release; surrogate images"

FEWEST_QUERIES = 20


def check_budget(num_queries: int | None, fit_steps: int) -> None:
    """Checks how much an attacker asks and trains.

    Raises:
      UsageError: there are too few queries, or no steps.
    """
    if num_queries is not None:
        arguments.check_whole("num_queries", num_queries, least=FEWEST_QUERIES)
    arguments.check_whole("fit_steps", fit_steps, least=1)


@dataclasses.dataclass(frozen=True)
class InvertedQueries(LearnedAttack):
    """Attacker who has trained a map from features to images.

    Attributes:
      trained: the map.
      shape: of features of one input.
      fit_seconds: wall time of querying and learning, compilation included.
      info: of its reconstructions.
      members: number of defenses that the map serves; 0 where it is that of one.
      retrieval: images to answer with, as another way; None for an attacker who has the map alone.
    """

    trained: TrainedMap
    shape: tuple[int, ...]
    fit_seconds: float
    info: Mapping[str, Any]
    members: int = 0
    retrieval: Retrieval | None = None

    def invert(self, observed: Features, member: int = 0) -> Reconstruction:
        defenses.check_features(observed, self.shape, name="observed")
        trained = self.trained.of(member) if self.members else self.trained
        images, compile_seconds, seconds = trained.timed(observed)
        found = Reconstruction(images, seconds, compile_seconds, self.fit_seconds, self.info)
        if self.retrieval is None:
            return found
        began = time.perf_counter()
        ways = {inverse.WAY: images, retrieval.WAY: self.retrieval(images)}
        seconds += time.perf_counter() - began
        return dataclasses.replace(found, seconds=seconds, ways=ways)

    def invert_each(self, observed: Sequence[Features]) -> list[Reconstruction]:
        found = super().invert_each(observed)
        share = self.fit_seconds / len(found)
        return [dataclasses.replace(each, fit_seconds=share) for each in found]


def learn_and_judge(
    train: Callable[[QueriesKnown, int], TrainedMap],
    known: QueriesKnown,
    budget: int,
    *,
    asked: int = 0,
    saved: int = 0,
    key: Array,
    way: str,
) -> InvertedQueries:
    """Trains a map on most of a budget, and judges it with the rest on images held out.

    Args:
      train: `(known, queries) -> map`, trained on the images of `known`.
      known: the query and all images.
      budget: number of queries that may be asked.
      asked: number of queries that were asked before.
      saved: how many of them are saved on images held out, so that the map is the one of an
        attacker who asked none.
      key: of the queries of images held out.
      way: name of the map in a record.
    """
    stopwatch = Stopwatch()
    taught, held, size = divide(known.images, budget)
    size = min(size, budget - saved)
    began = time.perf_counter()
    trained = stopwatch.lap(began, train(dataclasses.replace(known, images=taught), size))
    held = held[: budget - size - saved]
    info = {
        "queries": asked + trained.queries + len(held),
        "way": way,
        "held_out_psnr": _held_out_psnr(trained, known, held, key),
    }
    return InvertedQueries(trained, known.output_shape, stopwatch.seconds, info)


def _held_out_psnr(
    trained: TrainedMap, known: QueriesKnown, images: Images, key: Array
) -> float | None:
    """Mean PSNR in dB on images that taught nothing, at one query each; None without images."""
    if not len(images):
        return None
    features = answers(known.query, images, np.arange(len(images)), key)
    return intervals.summarise(quality.psnr(images, trained(features))).mean
