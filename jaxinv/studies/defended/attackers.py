"""Attackers of a defense at all its levels. JAX."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxinv.attacks import registry
from jaxinv.attacks.attack import CloudKnown, EdgeKnown, Known, LearnedAttack, Reconstruction
from jaxinv.defenses import Joined, Rows
from jaxinv.machine import own_code
from jaxinv.studies import attacked, evaluation, linked, runs
from jaxinv.studies.defended.choices import DefenseConfig
from jaxinv.studies.defended.deployment import Deployment

_PAPER_STEPS = 500  # of rMLE, with which the authors' program attacks defenses
_STREAM = 9000  # features that a query-free attacker learns from, at most


class _Lesson(NamedTuple):
    """An attacker's knowledge, what it learned, and the number of a level among those it knows."""

    known: Known
    learned: LearnedAttack
    member: int


class Attacker:
    """One attacker of one defense, by level.

    Attributes:
      deployment: the defense.
      threat: key of `THREATS`.
      method: name of the attack.
      attack: the attack.
    """

    def __init__(
        self,
        config: DefenseConfig,
        scene: runs.Scene,
        deployment: Deployment,
        threat: str,
        method: str,
    ):
        self._config, self._scene, self.deployment = config, scene, deployment
        self.threat, self.method = threat, method
        self.attack = registry.make(
            threat,
            method,
            network=scene.target.network,
            cut=deployment.cut,
            overrides={"steps": _PAPER_STEPS} if method == "paper" else None,
            fit_steps=config.fit_steps,
            shadow_steps=config.shadow_steps,
            correction=config.correction,
        )
        self._found: dict[int, Reconstruction] = {}
        self._lessons: dict[int, _Lesson] = {}
        self._recorded: set[int] = set()

    @property
    def identity(self) -> dict[str, Any]:
        """Settings, beyond the common ones, that identify the run."""
        config, deployment = self._config, self.deployment
        levels = [[step.level for step in defense.steps] for defense in deployment.family]
        known: dict[str, Any] = {"threat_model": self.threat, "draws": deployment.draws}
        if own_code.is_spelled(self.method):
            known["attacker_code"] = registry.digest_of_own(self.method)
        if deployment.retrain != "none":
            # Levels are trained together.
            retrained = {"retrain": deployment.retrain, "retrain_steps": config.retrain_steps}
            known |= retrained | {"levels": levels}
        if self.attack.learns and self.attack.together:
            known |= {"levels": levels}
        return known | attacked.identity(self.attack, config.surrogate)

    def found(self, number: int) -> Reconstruction:
        """Returns the reconstructions of a level, with images `[draws, N, H, W, C]`.

        Levels that are learned together are attacked when the first is asked for, and kept until
        each is recorded.
        """
        if number not in self._found:
            self._found |= self._attacked(number)
        return self._found[number]

    def linked(self, number: int) -> dict[str, Any]:
        """Returns the fields of a record about linkage by the release of a level.

        They are of the first draw, and made once for attackers who know the same.
        """
        self.found(number)
        gallery = linked.candidates(self._scene.dataset)
        release = self.deployment.releases(number, gallery, self._config.releases)[0]
        made, key = self.deployment.links, (self.threat, number, self._config.releases)
        if self.threat == "queryfree" or key not in made:
            made[key] = linked.fields(
                *self._lessons[number][:2],
                release,
                gallery,
                seed=self._config.seed,
                member=self._lessons[number].member,
            )
        return made[key]

    def recorded(self, number: int) -> None:
        """Frees the images of a level: they are not asked for again."""
        self._recorded.add(number)
        self._found.pop(number, None)
        self._lessons.pop(number, None)

    def _attacked(self, number: int) -> dict[int, Reconstruction]:
        """Attacks a level, and with it those that are learned together and not recorded yet."""
        together = self.attack.together and self.deployment.same_edge
        group = range(len(self.deployment.family)) if together else [number]
        known = self._known(group)
        learned = self._learned(known)
        parts = learned.invert_each([self._observed(each) for each in group])
        left = [member for member, each in enumerate(group) if each not in self._recorded]
        self._lessons |= {group[member]: _Lesson(known, learned, member) for member in left}
        return {group[member]: self._by_draw(parts[member]) for member in left}

    def _observed(self, number: int) -> Joined:
        images = self._scene.images(self._config)
        return Joined(self.deployment.releases(number, images, self._config.releases))

    def _learned(self, known: Known) -> LearnedAttack:
        shelf = attacked.shelf(self._config, self.deployment.cut)
        return self.attack.learn(known, self.deployment.key_learn, shelf)

    def _known(self, group: Sequence[int]) -> Known:
        """The attacker's knowledge of levels that stand at one edge."""
        if self.threat == "queryfree":
            (number,) = group
            return self._cloud_known(number)
        deployment = self.deployment
        known = EdgeKnown(
            deployment.edge,
            deployment.params[group[0]],
            attacked.samples(self.attack, self._scene, self._config).scaled,
            tuple(deployment.family[number] for number in group),
            self._config.releases,
        )
        if self.threat == "whitebox":
            return known
        return known.queries() if self.attack.together else known.queries(0)

    def _cloud_known(self, number: int) -> CloudKnown:
        """The stream is of test images behind those that are attacked, as the cloud got them."""
        config, deployment, dataset = self._config, self.deployment, self._scene.dataset
        defense, edge = deployment.family[number], deployment.edge
        everything = deployment.releases(number, dataset.test.scaled, config.releases)[0]
        rest = np.arange(self._scene.num_images(config), len(dataset.test))[:_STREAM]
        at_input = any(step.site == "input" for step in defense.steps)
        return CloudKnown(
            deployment.cloud,
            deployment.cloud.select(deployment.params[number]),
            attacked.samples(self.attack, self._scene, config),
            Rows(everything, rest) if len(rest) else self._observed(number),
            defense,
            config.releases,
            (edge.mean, edge.std) if at_input and edge.mean and edge.std else None,
        )

    def _by_draw(self, found: Reconstruction) -> Reconstruction:
        """Returns an answer draw by draw; of other ways it keeps no more than their quality."""
        originals, answer = self._scene.images(self._config), found.answer
        shape = (self.deployment.draws, *originals.shape)
        dead = found.dead
        if dead is not None:  # for any shadow
            dead = np.any(dead.reshape(-1, *shape[:2]), axis=0)
        ways = {way: images.reshape(shape) for way, images in found.ways.items()}
        dataset = self._scene.dataset
        measured = evaluation.ways_fields(originals, ways, dataset.test, dataset.columns)
        return dataclasses.replace(
            found,
            images=answer.reshape(shape),
            joint=None,
            ways={},
            dead=dead,
            info={**found.info, "ways": measured},
        )
