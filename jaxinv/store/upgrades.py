"""Records of older versions, brought into the form that is read now. No JAX."""

from collections.abc import Mapping
from typing import Any

from jaxinv.store.fields import UNKNOWN

_KINDS = ("partition", "convergence", "benchmark", "target")


class VersionError(ValueError):
    """A record was written by another version of this package, in a form that is not read."""


def upgraded(fields: Mapping[str, Any], schema: int | None) -> dict[str, Any]:
    """Returns the content of a file in the form of now.

    Args:
      fields: of JSON's types.
      schema: version of their form; None for the first, which had no number.

    Raises:
      VersionError: it recommends a choice by what is known no more to be right.
    """
    given = dict(fields)
    if schema is None:
        given = _with_schema(given)
    if schema in (None, 1):
        given = _with_linkage(given)
    if schema in (None, 1, 2):
        given = _without_students(given)
    return given


def _with_linkage(fields: dict[str, Any]) -> dict[str, Any]:
    """Reads a record that knows linkage by the reconstruction alone, whose interval was `reid_ci`.

    Raises:
      VersionError: it recommends a choice, and whom its releases single out was not looked at.
    """
    if fields.get("kind") == "partition":
        raise VersionError("was written by an older version, which did not compare releases")
    if fields.get("kind") == "attack":
        fields["reid_top1_ci"] = fields.pop("reid_ci", UNKNOWN)
    return fields


def _without_students(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Reads a record whose means had Student's interval, which is too narrow where leaks are rare.

    Raises:
      VersionError: it recommends a choice by such intervals.
    """
    if fields.get("kind") == "partition":
        raise VersionError("was written by an older version, whose intervals missed rare leaks")
    if fields.get("kind") != "attack":
        return dict(fields)
    found = {**fields, "ssim_ci": UNKNOWN}
    if isinstance(ways := fields.get("ways"), dict):
        found["ways"] = {
            name: {**way, "ssim_ci": UNKNOWN} if isinstance(way, dict) else way
            for name, way in ways.items()
        }
    usable = fields.get("usability")
    if isinstance(usable, dict) and usable.get("kind") in ("cosine", "closeness"):
        found["usability"] = {**usable, "ci": UNKNOWN}
    return found


def _with_schema(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Reads a record that has no schema, as the first version wrote them.

    Its experiment tells its kind; those that had a `split` were attacks. An image's squared error
    is that of its PSNR, unless that is a mean over several reconstructions, which tells no error.
    """
    experiment = str(fields.get("experiment"))
    kinds = {"train_target": "target", **{kind: kind for kind in _KINDS}}
    kind = kinds.get(experiment, "attack" if "split" in fields else experiment)
    found = {"kind": kind, **fields, "schema": 0}
    psnr = fields.get("psnr")
    several = fields.get("draws", 1) != 1 or "psnr_by_seed" in fields
    if kind == "attack" and isinstance(psnr, list) and not several:
        errors = [10 ** (-max(x, -99) / 10) if type(x) in (int, float) else None for x in psnr]
        found["mse"] = errors
    if kind == "benchmark":  # whose `cuts` are those that were attacked
        found.pop("cuts", None)
    return found
