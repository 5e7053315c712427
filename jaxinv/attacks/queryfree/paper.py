"""The authors' query-free attack: shadows trained by cross-entropy, inverted by rMLE. JAX."""

import dataclasses
import time
from functools import partial
from typing import Any, ClassVar

import jax
from jax import Array

from jaxinv import arguments
from jaxinv.attacks.attack import Attack, CloudKnown, Features, Reconstruction
from jaxinv.attacks.learned.queries import check_images
from jaxinv.attacks.queryfree import shadow
from jaxinv.attacks.queryfree.shadow import Recipe
from jaxinv.attacks.queryfree.shadowed import ShadowedEdge, designed, look_rectified
from jaxinv.attacks.shelf import NOWHERE, Shelf
from jaxinv.attacks.stopwatch import Stopwatch
from jaxinv.attacks.whitebox import rmle
from jaxinv.attacks.whitebox.settings import RmleSettings, paper_settings
from jaxinv.defenses import NONE
from jaxinv.networks import Network, Params

RECIPE = Recipe(steps=5625, batch_size=32, cross_entropy=1.0, authors=True, longer=2)
WIDTH = 8


@dataclasses.dataclass(frozen=True)
class PaperShadows(Attack[CloudKnown]):
    """Shadows trained by cross-entropy alone and inverted by rMLE with the authors' settings.

    The attacker ignores defenses.

    Attributes:
      num_shadows: number of shadows, which differ in their seeds.
      shadow_steps: of training them; twice as many where features are rectified by default.
    """

    num_shadows: int = 3
    shadow_steps: int | None = None

    knowledge: ClassVar[str] = (
        "the cloud's layers and parameters; labelled surrogate images; the sign of features"
    )

    @property
    def identity(self) -> dict[str, Any]:
        steps = self.shadow_steps or RECIPE.steps
        return {"num_shadows": self.num_shadows, "shadow_steps": steps}

    def learn(self, known: CloudKnown, key: Array, shelf: Shelf = NOWHERE) -> ShadowedEdge:
        check_images("paper", len(known.samples))
        arguments.check_key("key", key)
        rectified = look_rectified(known.stream, NONE)
        stopwatch = Stopwatch()
        key_shadows, _ = jax.random.split(key)
        steps = self.shadow_steps or RECIPE.steps * (RECIPE.longer if rectified else 1)
        began = time.perf_counter()
        shadows = shadow.fit(
            known.cloud,
            known.params,
            known.samples,
            network=designed(known, rectified=rectified, width=WIDTH, authors=True),
            recipe=dataclasses.replace(RECIPE, steps=steps),
            seeds=self.num_shadows,
            key=key_shadows,
            releases=known.releases,
            shelf=shelf,
        )
        stopwatch.lap(began, shadows)
        inverters = [partial(_inverted, shadows.network, params) for params in shadows.params]
        return ShadowedEdge(shadows, inverters, stopwatch.seconds)


def _inverted(network: Network, params: Params, observed: Features) -> Reconstruction:
    return rmle.invert(network, params, observed, inversion_settings(network))


def inversion_settings(network: Network) -> RmleSettings:
    """Returns the authors' settings for a shadow: those for an edge, but 500 large steps."""
    settings = paper_settings(network, network.cuts[-1])
    return dataclasses.replace(settings, steps=500, learning_rate=0.1, tv_weight=2.0, tv_start=2.0)
