"""Finished attacks on the releases of a target, whichever experiment made them. NumPy."""

import json
from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from jaxinv.attacks import registry
from jaxinv.constants.halves import REPORT
from jaxinv.defenses import NONE
from jaxinv.machine import own_code
from jaxinv.store import records
from jaxinv.store.record import AttackRecord
from jaxinv.studies import runs
from jaxinv.studies.defended.choices import EXPERIMENT
from jaxinv.studies.defended.run import decided_by


def known(
    workdir: str, scene: runs.Scene, *, images: int, releases: int, threats: Collection[str]
) -> dict[str, list[AttackRecord]]:
    """Reads finished attacks on releases of a target, by `release_key`.

    Attacks on defences by other code are left out, and those that lack a measure.

    Args:
      workdir: the folder of results.
      scene: the target and the data.
      images: of the scene's half of the test split, at least, from the first.
      releases: of each image, at most: who sees more may look at fewer.
      threats: threat models of the attacks.
    """
    found: dict[str, list[AttackRecord]] = {}
    for record in records.find(workdir):
        if (
            isinstance(record, AttackRecord)
            and _is_on_target(record, scene)
            and _is_on_half(record, scene)
            and _is_current(record)
            and record.is_measured
            and record.num_images >= images
            and record.releases <= releases
            and record.threat in threats
        ):
            key = release_key(record.split, msgspec.to_builtins(record.defense))
            found.setdefault(key, []).append(record)
    return found


def release_key(cut: str, defense: Mapping[str, Any]) -> str:
    """Returns the key of a release; a mechanism at level 0 is no part of a defence."""
    kinds, sites = (defense[name].split("+") for name in ("kind", "site"))
    columns = (kinds, sites, _listed(defense["level"]), _listed(defense.get("grid")))
    alike = (column * len(kinds) if len(column) == 1 else column for column in columns)
    own = [defense["code"]] if defense.get("code") else []
    return json.dumps([cut, *(step for step in zip(*alike, strict=True) if step[2]), *own])


def plain(defense: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a defence as records describe it; without any level it is none."""
    return dict(defense) if any(_listed(defense["level"])) else NONE.describe()


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _is_on_target(record: AttackRecord, scene: runs.Scene) -> bool:
    return (
        record.data_fingerprint == scene.dataset.fingerprint
        and record.target is not None
        and record.target.fingerprint == scene.target.fingerprint
        and record.retrain == "none"
    )


def _is_on_half(record: AttackRecord, scene: runs.Scene) -> bool:
    """Tells whether a record is about images of a scene's half of the test split alone."""
    if REPORT in (record.test_images, scene.half):
        return record.test_images == scene.half
    seen = max(record.num_images, record.reid_likelihood_images or 0)
    return seen <= len(scene.dataset.test)


def _is_current(record: AttackRecord) -> bool:
    """Tells whether a record attacked what is released now; other experiments defend nothing."""
    if record.experiment != EXPERIMENT:
        return True
    is_own = own_code.is_spelled(record.method)
    if not is_own and record.method not in registry.methods(EXPERIMENT, record.threat):
        return False
    return record.code == runs.code_of(*decided_by(record.threat, record.method))
