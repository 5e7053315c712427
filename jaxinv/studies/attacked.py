"""From an attack's reconstruction to what a run records of it. NumPy."""

from pathlib import Path
from typing import Any

import numpy as np

from jaxinv.attacks.attack import Attack, Reconstruction
from jaxinv.attacks.learned.queries import FEWEST_IMAGES
from jaxinv.attacks.shelf import Shelf
from jaxinv.errors import UserError
from jaxinv.inputs.data import Dataset
from jaxinv.inputs.samples import Samples
from jaxinv.studies import runs
from jaxinv.studies.config import AttackConfig


def identity(attack: Attack[Any], surrogate: str) -> dict[str, Any]:
    """Returns the part of a configuration that an attack decides.

    The images that it may learn from belong to it only if it learns.
    """
    return attack.identity | ({"surrogate": surrogate} if attack.learns else {})


def outcome(
    attack: Attack[Any], found: Reconstruction, surrogate: str, **fields: Any
) -> runs.Outcome:
    """Returns the outcome of an attack.

    Args:
      attack: that was run.
      found: its reconstruction, whose `info` becomes part of the record, as does the number of
        images that are dead for any draw or seed; none of an attack that has no plain start.
      surrogate: which images it may have learned from.
      fields: more for the record.
    """
    info: dict[str, Any] = {"attacker_knowledge": attack.knowledge}
    info |= {"surrogate": surrogate if attack.learns else "none", **found.info}
    dead = np.zeros((1, 1), bool) if found.dead is None else found.dead
    info["dead"] = int(dead.reshape(-1, dead.shape[-1]).any(axis=0).sum())
    return runs.Outcome(
        found.images,
        info.pop("attacker_knowledge"),
        info.pop("surrogate"),
        found.fit_seconds,
        found.compile_seconds,
        found.seconds,
        {**info, **fields},
    )


def samples(attack: Attack[Any], scene: runs.Scene, config: AttackConfig) -> Samples:
    """Returns the surrogate samples that an attack is handed: none if it does not learn."""
    own = scene.surrogate(config.surrogate)
    return own if attack.learns else own[:0]


def check_surrogates(method: str, dataset: Dataset, surrogate: str) -> None:
    """Checks that there are images enough for an attack that learns from them.

    Raises:
      UserError: there are not.
    """
    count = len(dataset.surrogate(surrogate))
    if count < FEWEST_IMAGES:
        raise UserError(
            f"surrogate={surrogate}: {count} images, and {method} needs {FEWEST_IMAGES} to learn "
            "from."
        )


def shelf(config: AttackConfig, cut: str) -> Shelf:
    """Returns the shelf of what attackers of a cut train."""
    return Shelf(Path(config.workdir) / "learned", cut)
