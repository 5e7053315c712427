"""A defense at all its levels, at one cut, and the targets that live with it. JAX."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import Array

from jaxinv.constants.halves import REPORT
from jaxinv.defenses import Defense, Release, median_norm, plan
from jaxinv.measures import usability
from jaxinv.measures.usability import Scores, Usability
from jaxinv.networks import Params
from jaxinv.studies import runs
from jaxinv.studies.defended.accuracy import undefended, usable
from jaxinv.studies.defended.choices import DefenseChoice, DefenseConfig, family_of
from jaxinv.training import retraining
from jaxinv.unit_space import Images

_NORM_IMAGES = 2000


class Deployment:
    """Defense at all its levels, and the target that lives with it at each.

    Attributes:
      has_layer: True if the edge ends in a layer of the defense.
      links: by threat model, level and number of releases, how often these single out their inputs.
    """

    def __init__(self, config: DefenseConfig, scene: runs.Scene, cut: str, choice: DefenseChoice):
        network, params = scene.target.network, scene.target.params
        own = scene.dataset.target

        def norm(kind: str, site: str) -> float:
            edge = network.split(cut)[0]
            return median_norm(edge, params, own[:_NORM_IMAGES].images, site)  # type: ignore[arg-type]

        self.choice, self.family = choice, family_of(choice, norm)
        planned = plan(network, cut, self.family[0].structure)
        self.cut, self.edge, self.cloud = cut, *planned.network.split(planned.cut)
        self.has_layer = planned.layer is not None
        self.retrain = _part(self.family[0], config.retrain)
        random = any(defense.is_random for defense in self.family)
        self.draws = config.draws if random else 1
        self.links: dict[tuple[str, int, int], dict[str, Any]] = {}
        self._config, self._scene = config, scene
        self._scores: dict[int, Scores] = {}
        self._params: list[Params] | None = None
        key_release, self.key_learn, self._key_train = jax.random.split(
            jax.random.key(config.seed), 3
        )
        # No choice has seen the noise of report images either.
        self._key_release = (
            jax.random.fold_in(key_release, 2**31) if scene.half == REPORT else key_release
        )

    @property
    def kind(self) -> str:
        """The kind of the defenses of the family."""
        return self.family[0].describe()["kind"]

    @property
    def name(self) -> str:
        """Name for people: `dropout, feature`."""
        return f"{self.kind}, {self.family[0].describe()['site']}"

    @property
    def units(self) -> list[str]:
        """Unit of each step's level."""
        return [mechanism.unit for mechanism, _ in self.family[0].structure]

    # `functools.cached_property` has one lock for all instances before Python 3.12: two cuts that
    # are attacked side by side would wait for each other.
    @property
    def params(self) -> list[Params]:
        """Parameters of the whole target, for each level."""
        if self._params is None:
            self._params = self._trained()
        return self._params

    def _trained(self) -> list[Params]:
        target = self._scene.target
        if self.retrain == "none":
            return [target.params] * len(self.family)
        trained = retraining.retrain(
            target.network,
            target.params,
            self.cut,
            self.family,
            self._scene.dataset.target,
            part=self.retrain,  # type: ignore[arg-type]
            key=self._key_train,
            steps=self._config.retrain_steps,
            folder=Path(self._config.workdir) / "learned",
        )
        return list(trained.params)

    @property
    def same_edge(self) -> bool:
        """True if the edge is the same at all levels."""
        return self.retrain != "both" and not self.has_layer

    def coded_bits(self, number: int) -> float:
        """Returns the bits that a release tells, at most; see `Defense.coded_bits`."""
        return self.family[number].coded_bits(math.prod(self.edge.output_shape))

    def releases(self, number: int, images: Images, count: int = 1) -> list[Release]:
        """Returns what crosses the wire of images at a level, one `Release` for each draw."""
        params, defense = self.params[number], self.family[number]
        return [
            Release(self.edge, params, images, defense, key, releases=count) for key in self._keys
        ]

    @property
    def _keys(self) -> list[Array]:
        """Key of each draw."""
        # Beyond the places of images, which are folded in, too.
        return [self._key_release] + [
            jax.random.fold_in(self._key_release, 2**31 + draw) for draw in range(1, self.draws)
        ]

    def scores(self, number: int) -> Scores:
        """Returns the usability of the test images at a level, `[draws, N]`."""
        if self._is_undefended(number):
            return undefended(self._scene).as_draw()
        if number not in self._scores:
            # Levels that share a target are measured together.
            numbers = [number]
            if self.retrain == "none":
                numbers = [i for i, defense in enumerate(self.family) if defense.levels.any()]
            family, params = [self.family[i] for i in numbers], self.params[number]
            parts = (self.edge, self.cloud)
            draws = [usable(self._scene, parts, params, family, key) for key in self._keys]
            for place, member in enumerate(numbers):
                self._scores[member] = _of_level(draws, place)
        return self._scores[number]

    def usability(self, number: int) -> Usability:
        """Returns how usable the network is at a level."""
        undefended = self._scene.usability
        if self._is_undefended(number):
            return undefended
        return usability.summarise(undefended.kind, self.scores(number), undefended.value)

    def _is_undefended(self, number: int) -> bool:
        return self.retrain == "none" and not self.family[number].levels.any()


def _part(defense: Defense, asked: str) -> str:
    """Returns the part of the target that is trained on: as the defense has it, or as asked."""
    parts = {mechanism.training.part for mechanism, _ in defense.structure if mechanism.training}
    return max(parts, key=retraining.PARTS.index) if parts else asked


def _of_level(draws: Sequence[Scores], place: int) -> Scores:
    """Returns the scores `[draws, N]` of a level, of several draws of all levels `[L, N]`."""
    values = np.stack([each.values[place] for each in draws])
    errors = [each.errors[place] for each in draws if each.errors is not None]
    return Scores(values, np.stack(errors) if errors else None)
