"""Numbers of the choices that were tried on report images, counted over a work folder. No JAX.

Whoever has seen a study and asks for another choice selects by report images. So choices are
numbered in the order in which the studies of a work folder try them.
"""

import os
from pathlib import Path
from typing import Any

from jaxinv.machine import hosts
from jaxinv.store import kept, locks, records


class Trials:
    """Choices that were tried on the report images of a target, in order.

    Args:
      workdir: folder of runs, which keeps the list.
      scene: names target and images.
    """

    def __init__(self, workdir: str | os.PathLike[str], scene: str):
        name = f"trials-{records.config_hash({'scene': scene})}.json"
        self._path = Path(workdir) / "learned" / name
        self._lock = Path(workdir) / "locks" / name

    def number(self, choice: dict[str, Any]) -> int:
        """Returns the number of a choice, from 1: its own if it was tried before, else the next.

        Args:
          choice: everything that identifies a trial: cut, defense, images and attackers.

        Raises:
          UserError: the list cannot be written.
        """
        own = records.config_hash(choice)

        def counted() -> int:
            with locks.held(self._lock):
                known = kept.read(self._path, _is_list, "a list of choices") or []
                if own not in known:
                    known.append(own)
                    kept.write(self._path, known)
                return known.index(own) + 1

        return hosts.first(counted)


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)
