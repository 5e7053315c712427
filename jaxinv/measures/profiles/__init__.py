"""Profiles of devices, from the `.toml` files beside this module or a file of the user."""

import dataclasses
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from jaxinv.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Profile:
    """A device, its network, and a cloud.

    Entries with a default may be left out: then what they describe costs nothing.

    Attributes:
      name, description, source: for people; the source names the origin of the numbers.
      edge_flops_per_s, edge_joules_per_flop: of the device when it runs networks. Together they are
        the power at which it computes.
      uplink_bits_per_s, uplink_joules_per_bit: of data that the device sends, headers included. The
        bandwidth is the median.
      round_trip_s: of an empty message and its answer.
      cloud_flops_per_s: of the cloud. Some built-in profiles have the peak of a T4, which no
        network reaches: the cloud's share of the time is a lower bound there.
      memory_bytes: of the device, for parameters and activations together as float32; None if it
        does not matter.
      edge_bytes_per_s, cloud_bytes_per_s: of memory that a layer reads or writes.
      edge_launch_s, cloud_launch_s: of starting a layer, whatever its size.
      uplink_p5_bits_per_s: the bandwidth that 5% of the transmissions fall below. The bandwidth is
        log-normal. By default it is always the median.
      packet_bytes, header_bytes: a packet carries so much data at most, behind such a header.
      wait_watts: of the device while it waits for the answer.
      promotion_s, promotion_watts: of waking the radio.
      tail_s, tail_watts: of the radio, which stays awake after the answer.
      edge_times: cut -> seconds of the whole edge, where they are measured; these take the place of
        the edge's rates. No file of a profile has them: see `device`.
    """

    name: str
    description: str
    source: str
    edge_flops_per_s: float
    edge_joules_per_flop: float
    uplink_bits_per_s: float
    uplink_joules_per_bit: float
    round_trip_s: float
    cloud_flops_per_s: float
    memory_bytes: float | None = None
    edge_bytes_per_s: float | None = None
    edge_launch_s: float = 0.0
    cloud_bytes_per_s: float | None = None
    cloud_launch_s: float = 0.0
    uplink_p5_bits_per_s: float | None = None
    packet_bytes: float = 1460.0
    header_bytes: float = 0.0
    wait_watts: float = 0.0
    promotion_s: float = 0.0
    promotion_watts: float = 0.0
    tail_s: float = 0.0
    tail_watts: float = 0.0
    edge_times: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def edge_watts(self) -> float:
        """Power of the device while it computes."""
        return self.edge_flops_per_s * self.edge_joules_per_flop


_BUILT_IN = resources.files(__name__)
_TEXTS = ("name", "description", "source")
_MAY_BE_ZERO = (
    *("round_trip_s", "edge_launch_s", "cloud_launch_s", "header_bytes", "wait_watts"),
    *("promotion_s", "promotion_watts", "tail_s", "tail_watts"),
)
LEAST, MOST = 1e-21, 1e21
"""Range of positive numbers: whatever is computed of these is finite."""


def names() -> tuple[str, ...]:
    """Returns the names of the profiles that come with the package."""
    files = (Path(file.name) for file in _BUILT_IN.iterdir())
    return tuple(sorted(file.stem for file in files if file.suffix == ".toml"))


def load(name: str) -> Profile:
    """Loads a profile by its name, or from a `.toml` file.

    Raises:
      UsageError: there is no such profile, or its file lacks an entry or has a wrong one.
    """
    argument = f"profile={name}"
    if name.endswith(".toml"):
        text = text_of(argument, name)
    elif name in names():
        text = (_BUILT_IN / f"{name}.toml").read_text("utf-8")
    else:
        known = ", ".join(names())
        raise UsageError(
            f"{argument}: no such profile; choose from {known}, or name a file, .toml."
        )
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{argument}: not TOML: {' '.join(str(error).split())}.") from error
    return _checked(argument, {"name": Path(name).stem, **table})


def text_of(argument: str, path: str) -> str:
    """Returns the text of a file.

    Raises:
      UsageError: it cannot be read; the message begins with the argument.
    """
    try:
        return Path(path).read_text("utf-8-sig")
    except (OSError, ValueError) as error:  # a null character in a path is a ValueError
        why = getattr(error, "strerror", None) or "not a text file"
        raise UsageError(f"{argument}: cannot be read: {why}.") from error


def _checked(argument: str, table: Mapping[str, Any]) -> Profile:
    fields = {field.name: field for field in dataclasses.fields(Profile)}
    del fields["edge_times"]
    if unknown := [key for key in table if key not in fields]:
        raise UsageError(f"{argument}: {unknown[0]} is unknown; expected {', '.join(fields)}.")
    needed = (key for key, field in fields.items() if field.default is dataclasses.MISSING)
    if missing := [key for key in needed if key not in table]:
        raise UsageError(f"{argument}: {missing[0]} is missing.")
    for key, value in table.items():
        if wanted := _wanted(key, value):
            raise UsageError(f"{argument}: {key}={value!r}: expected {wanted}.")
    profile = Profile(**table)
    slow = profile.uplink_p5_bits_per_s
    if slow is not None and slow > profile.uplink_bits_per_s:
        raise UsageError(
            f"{argument}: uplink_p5_bits_per_s={slow!r}: expected at most the median, "
            f"uplink_bits_per_s={profile.uplink_bits_per_s!r}."
        )
    return profile


def _wanted(key: str, value: Any) -> str:
    """Returns what an entry should be; "" for one that is right."""
    if key in _TEXTS:
        return "" if isinstance(value, str) else "a text"
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and (LEAST <= value <= MOST or (key in _MAY_BE_ZERO and value == 0)):
        return ""
    positive = "0, or a positive number" if key in _MAY_BE_ZERO else "a positive number"
    return f"{positive}, from {LEAST:g} to {MOST:g}"
