"""Devices as users name them: a profile, or an edge that is timed and a profile of all else.

* `NAME` and `FILE.toml` are profiles.
* `this` is this machine, whose edges are timed (`timing`), and `FILE.csv` has times that were
  measured elsewhere (`times`). Power, memory, radio and cloud are those of `phone-wifi`, or of
  another profile behind an @, as in `this@phone-lte` or `times.csv@my_device.toml`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxinv.errors import UsageError
from jaxinv.measures import profiles
from jaxinv.measures.profiles import Profile, times
from jaxinv.measures.profiles.times import Times
from jaxinv.store import files

THIS, USUAL = "this", "phone-wifi"


class Device(NamedTuple):
    """A device as a user names it.

    Attributes:
      profile: of all but the times of the edge, where these are measured.
      times: measured elsewhere; None if there are none.
      is_this: whether the edge is to be timed on this machine.
    """

    profile: Profile
    times: Times | None = None
    is_this: bool = False

    def with_cuts(self, cuts: Sequence[str]) -> "Device":
        """Returns the device with the times that were measured elsewhere, if any, in its profile.

        Raises:
          UsageError: these are not times of a network with such cuts.
        """
        if self.times is None:
            return self
        file, seconds = Path(self.times.path).name, self.times.of_edges(cuts)
        how = self.times.source or "the file does not say how it was timed"
        return Device(timed(self.profile, seconds, name=file, where=f"elsewhere ({file})", how=how))


def named(text: str) -> Device:
    """Returns a device by its name or its file.

    Raises:
      UsageError: there is no such device, or its file is not as it should be.
    """
    edge, at, other = text.rpartition("@")
    if not at or not _is_timed(edge):
        edge, other = text, USUAL
    edge, other = (files.expanded("profile", part) for part in (edge, other))
    if edge == THIS:
        return Device(profiles.load(other), is_this=True)
    if edge.endswith(".csv"):
        return Device(profiles.load(other), times.read(edge))
    if edge not in profiles.names() and not edge.endswith(".toml"):
        known = ", ".join((*profiles.names(), THIS))
        raise UsageError(
            f"profile={text}: no such profile; choose from {known}, or name a file, .toml or .csv."
        )
    return Device(profiles.load(edge))


def _is_timed(edge: str) -> bool:
    return edge == THIS or edge.endswith(".csv")


def timed(
    profile: Profile, seconds: Mapping[str, float], *, name: str, where: str, how: str
) -> Profile:
    """Returns a profile whose edge was timed.

    Args:
      profile: of all else.
      seconds: of the whole edge, by cut.
      name: of the device.
      where, how: it was timed, in words.
    """
    return dataclasses.replace(
        profile,
        name=f"{name}@{profile.name}",
        description=f"edge timed {where}, else {profile.description}",
        source=f"Edge: {how.rstrip('.')}. Else: {profile.source}",
        edge_times=dict(seconds),
    )
