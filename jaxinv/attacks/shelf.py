"""Files of what attackers train, each named by all that it depends on. NumPy."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jaxinv.machine import environment, source
from jaxinv.store import checkpoints


@dataclasses.dataclass(frozen=True)
class Shelf:
    """Folder where an attacker keeps what it trains.

    A complete file is read, an incomplete one is trained on from where it ends.

    Attributes:
      folder: of the files; None keeps nothing.
      label: name of the edge, for people.
    """

    folder: Path | None = None
    label: str = "edge"

    def path(self, kind: str, by: str, known: Callable[[], Mapping[str, Any]]) -> Path | None:
        """Returns the file of one training, or None where nothing is kept.

        Args:
          kind: of training, part of the name.
          by: module that trains; the code that it depends on is part of what is known.
          known: makes the arrays that the training depends on; called only if something is kept.
        """
        if self.folder is None:
            return None
        computed = {"code": source.digest(by), **environment.numeric_mode()}
        fingerprint = checkpoints.fingerprint({**known(), **computed})
        return self.folder / f"{self.label}-{fingerprint}-{kind}.safetensors"

    def part(self, name: str) -> "Shelf":
        """Returns a shelf in the same folder whose files carry one more name."""
        return dataclasses.replace(self, label=f"{self.label}-{name}")


NOWHERE = Shelf()
"""Keeps nothing."""
