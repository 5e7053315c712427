"""Verdicts on defenses from the records of all attacks on them. Standard library."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxinv.constants.verdicts import SAFE_REID, SAFE_SSIM
from jaxinv.store.fields import level_text


def point(record: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Returns a row of a chart of trade-offs; `kind` is the name of the defense there."""
    keys = ("accuracy", "accuracy_ci", "ssim_mean", "ssim_ci", "psnr_mean", "psnr_ci")
    defense = record["defense"]
    return {
        "attacker": record["method"],
        "kind": kind,
        "site": defense["site"],
        "level": level_text(defense["level"]),
        **{key: record[key] for key in keys},
    }


def protection(finished: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Finds the least loss of accuracy at which every attacker is held, by split and defense.

    The strongest of those that attacked is held where its whole 95% interval is below `SAFE_SSIM`
    and `SAFE_REID`. An attack that diverged proves nothing.

    Returns:
      Rows of `split`, `defense` ("kind, site"), and `loss`, `level` and the strongest attacker's
      `ssim` and `reid` there, or None for all of these where no level holds.
    """
    groups: dict[tuple[str, str], dict[str, list[dict[str, Any]]]] = {}
    for record in finished:
        defense = record["defense"]
        group = (record["split"], f"{defense['kind']}, {defense['site']}")
        levels = groups.setdefault(group, {})
        levels.setdefault(level_text(defense["level"]), []).append(record)
    rows = []
    for (split, name), levels in groups.items():
        held = []
        for level, records in levels.items():
            if any(record["diverged"] for record in records):
                continue
            ssim = max(record["ssim_ci"][1] for record in records)
            reid = max(record["reid_ci"][1] for record in records)
            loss = records[0]["accuracy_undefended"] - records[0]["accuracy"]
            if ssim < SAFE_SSIM and reid < SAFE_REID:
                held.append({"loss": loss, "level": level, "ssim": ssim, "reid": reid})
        best = min(held, key=lambda row: row["loss"], default=None)
        nothing = dict.fromkeys(("loss", "level", "ssim", "reid"))
        rows.append({"split": split, "defense": name, **(best or nothing)})
    return rows
