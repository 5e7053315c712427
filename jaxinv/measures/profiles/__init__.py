"""Profiles of devices, from the `.toml` files beside this module or a file of the user."""

import dataclasses
import math
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from jaxinv.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Profile:
    """A device, its network, and a cloud.

    Attributes:
      name, description, source: for people; the source names the origin of the numbers.
      edge_flops_per_s, edge_joules_per_flop: of the device when it runs networks.
      uplink_bits_per_s, uplink_joules_per_bit: of data that the device sends.
      round_trip_s: of an empty message and its answer.
      cloud_flops_per_s: of the cloud. The built-in profiles have the peak of a T4, which no network
        reaches: the cloud's share of the time is a lower bound there.
      memory_bytes: of the device, for parameters and activations together as float32; None if it
        does not matter.
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


_BUILT_IN = resources.files(__name__)
_TEXTS = ("name", "description", "source")
_OPTIONAL = ("memory_bytes",)


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
        try:
            text = Path(name).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "not a text file"
            raise UsageError(f"{argument}: cannot be read: {why}.") from error
    elif name in names():
        text = (_BUILT_IN / f"{name}.toml").read_text()
    else:
        known = ", ".join(names())
        raise UsageError(
            f"{argument}: no such profile; choose from {known}, or name a file, .toml."
        )
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{argument}: not TOML: {error}.") from error
    return _checked(argument, {"name": Path(name).stem, **table})


def _checked(argument: str, table: Mapping[str, Any]) -> Profile:
    known = [field.name for field in dataclasses.fields(Profile)]
    if unknown := [key for key in table if key not in known]:
        raise UsageError(f"{argument}: {unknown[0]} is unknown; expected {', '.join(known)}.")
    if missing := [key for key in known if key not in table and key not in _OPTIONAL]:
        raise UsageError(f"{argument}: {missing[0]} is missing.")
    for key, value in table.items():
        if key in _TEXTS:
            if not isinstance(value, str):
                raise UsageError(f"{argument}: {key}={value!r}: expected a text.")
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool)
        least = 0 if key == "round_trip_s" else math.ulp(0)
        if not number or not least <= value < math.inf:
            raise UsageError(f"{argument}: {key}={value!r}: expected a positive number.")
    return Profile(**table)
