"""Black-box attackers who were handed pairs of images and features, and no network at all. JAX.

They train the maps that other black-box attackers do, on no more than these pairs.
"""

import dataclasses
from typing import Any, ClassVar

from jax import Array

from jaxinv import arguments
from jaxinv.attacks.blackbox import paper
from jaxinv.attacks.blackbox.learning import InvertedQueries
from jaxinv.attacks.learned import inverse, maps
from jaxinv.attacks.learned.pairs import Pairs
from jaxinv.attacks.learned.queries import FEWEST_IMAGES, divide
from jaxinv.errors import UserError
from jaxinv.measures import intervals, quality

KNOWLEDGE = "pairs of images and the features that were sent for them"

METHODS = ("strong", "paper")


@dataclasses.dataclass(frozen=True)
class PairsAttack:
    """An inverse map that is trained on pairs, a tenth of which is held out and judges it.

    Attributes:
      method: "strong", ridge regression and a residual network, or "paper", the authors' decoder.
      fit_steps: of training; by default those of the method.
    """

    method: str = "strong"
    fit_steps: int | None = None

    knowledge: ClassVar[str] = KNOWLEDGE

    def __post_init__(self) -> None:
        arguments.check_choice("method", self.method, METHODS)
        if self.fit_steps is not None:
            arguments.check_whole("fit_steps", self.fit_steps, least=1)

    def check(self, count: int) -> None:
        """Checks that there are pairs enough to learn from.

        Raises:
          UserError: there are not; the message continues a sentence about them.
        """
        if count < FEWEST_IMAGES:
            raise UserError(f"{count} pairs; at least {FEWEST_IMAGES} are needed to learn from.")

    def learn(self, known: Pairs, key: Array) -> InvertedQueries:
        """Trains a map from features to images.

        Raises:
          UserError: there are too few pairs.
        """
        self.check(len(known.images))
        count = len(divide(known.images, len(known.images)).taught)
        keys = inverse.split_key(key)
        if self.method == "paper":
            steps = self.fit_steps or paper.STEPS
            trained = paper.fit_decoder(known[:count], key=keys.inverse, steps=steps)
        else:
            steps = self.fit_steps or maps.STEPS
            trained = inverse.fit_map(known[:count], key=keys.inverse, steps=steps)
        held = known[count:]
        info: dict[str, Any] = {
            "way": "decoder" if self.method == "paper" else inverse.WAY,
            "num_pairs": count,
            "num_held_out": len(held.images),
            "fit_steps": steps,
            "held_out_psnr": intervals.summarise(
                quality.psnr(held.images, trained(held.answers))
            ).mean,
        }
        seconds = trained.seconds + trained.compile_seconds
        return InvertedQueries(trained, known.answers.shape[1:], seconds, info)
