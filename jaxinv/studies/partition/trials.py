"""Numbers of the choices that were tried on report images, counted over a work folder. No JAX.

Whoever has seen a study and asks for another choice selects by report images. So choices are
numbered in the order in which the studies of a work folder try them. A list that is damaged or lost
would begin anew, and make verdicts too kind: no study goes on without it.
"""

import json
import os
from pathlib import Path
from typing import Any

from jaxinv.constants.halves import REPORT
from jaxinv.errors import UserError
from jaxinv.machine import hosts
from jaxinv.store import files, kept, locks, records
from jaxinv.store.record import PartitionRecord


class Trials:
    """Choices that were tried on the report images of a target, in order.

    Args:
      workdir: folder of runs, which keeps the list.
      scene: names target and images.
    """

    def __init__(self, workdir: str | os.PathLike[str], scene: str):
        name = f"trials-{records.config_hash({'scene': scene})}.json"
        self._workdir, self._scene = workdir, scene
        self._path = Path(workdir) / "learned" / name
        self._lock = Path(workdir) / "locks" / name

    def check(self) -> None:
        """Checks that the list is whole, and as long as finished studies say.

        Raises:
          UserError: it is not.
        """

        def checked() -> None:
            tried = len(self._read())
            if tried < self._told():
                raise self._refusal(f"has {tried} of {self._told()} choices")

        hosts.first(checked)

    def number(self, choice: dict[str, Any]) -> int:
        """Returns the number of a choice, from 1: its own if it was tried before, else the next.

        Args:
          choice: everything that identifies a trial: cut, defense, images and attackers.

        Raises:
          UserError: the list is damaged, or cannot be written.
        """
        own = records.config_hash(choice)

        def counted() -> int:
            with locks.held(self._lock):
                known = self._read()
                if own not in known:
                    known.append(own)
                    kept.write(self._path, known)
                return known.index(own) + 1

        return hosts.first(counted)

    def _read(self) -> list[str]:
        """Returns the choices that were tried, in order; a damaged list stays where it is."""
        try:
            found = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise UserError(f"Cannot read {self._path}: {files.reason(error)}.") from error
        except (ValueError, RecursionError) as error:
            raise self._refusal("is damaged") from error
        if not _is_list(found):
            raise self._refusal("is damaged")
        return found

    def _told(self) -> int:
        """Returns how many choices were tried, as far as records of finished studies tell."""
        told = [0]
        for record in records.find(self._workdir, "partition"):
            if isinstance(record, PartitionRecord):
                own = " ".join(str(record.config.get(name)) for name in _OF_SCENE)
                if f"{own} {REPORT}" == self._scene:
                    told += _numbers(record.config.get("tried"))
        return max(told)

    def _refusal(self, why: str) -> UserError:
        return UserError(
            f"workdir={self._workdir}: {self._path} {why}. It counts the choices that were tried "
            "on report images, and verdicts would be too kind without it: put back a copy, or "
            "give another workdir."
        )


_OF_SCENE = ("target", "data_fingerprint")
"""Settings of a study that, with the half of its images, are the key of a scene."""


def _numbers(value: Any) -> list[int]:
    return [each for each in value if type(each) is int] if isinstance(value, list) else []


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)
