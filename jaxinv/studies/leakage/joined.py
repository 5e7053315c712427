"""Predictions beside the strongest finished attack on each release, over networks. NumPy."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxinv.look.charts import predictions, style
from jaxinv.machine import environment, hosts
from jaxinv.measures import ranks
from jaxinv.measures.leakage import STATISTICS
from jaxinv.measures.leaks import PSNR, REID, SSIM
from jaxinv.store import records
from jaxinv.store.record import AttackRecord, LeakageRecord, Record
from jaxinv.studies import runs
from jaxinv.studies.defended.known import release_key

if TYPE_CHECKING:
    from jaxinv.studies.leakage import LeakageConfig

FEWEST = ranks.FEWEST
PICTURE = "predictions.png"
LEAKS = {"ssim": SSIM, "psnr": PSNR, "reid": REID}
"""Measures of what the strongest attack finds, by the names of the comparison."""

_TRAINED = ("retrain_steps", "levels")


class Triple(NamedTuple):
    """A network, a cut and a defence, with what was predicted and what attacks found.

    Attributes:
      network: the network and its target, in words.
      split, defense: cut and defence, in words.
      kind: of the defence.
      statistics: by name; None where one is not known.
      leaks: by the names of `LEAKS`, the most that any attack found; None where none measured it.
      attacks: number of attacks.
      hashes: of the configurations of the prediction and of all attacks.
    """

    network: str
    split: str
    defense: str
    kind: str
    statistics: Mapping[str, float | None]
    leaks: Mapping[str, float | None]
    attacks: int
    hashes: tuple[str, ...]


def join(workdir: str, *, images: int) -> list[Triple]:
    """Reads predictions of a work folder, and the attacks on the same releases.

    Args:
      workdir: folder of runs, of any targets.
      images: that an attack must be on, at least. Those that see several releases are left out.
    """
    attacks: dict[str, list[AttackRecord]] = {}
    predicted: dict[str, LeakageRecord] = {}
    for record in records.find(workdir):
        if isinstance(record, LeakageRecord):
            predicted[_key(record)] = record
        elif isinstance(record, AttackRecord) and _counts(record, images):
            attacks.setdefault(_key(record), []).append(record)
    return [_triple(predicted[key], attacks[key]) for key in sorted(predicted) if key in attacks]


def _counts(record: AttackRecord, images: int) -> bool:
    enough = record.num_images >= images and record.releases == 1
    return record.target is not None and enough and not record.is_lost


def _key(record: AttackRecord | LeakageRecord) -> str:
    """Names a release: target, data, cut, defence, and how the target was trained on."""
    assert record.target is not None
    released = release_key(record.split, record.fields["defense"])
    told = [record.target.fingerprint, record.data_fingerprint, released, record.retrain]
    trained = {name: record.config.get(name) for name in _TRAINED}
    return json.dumps([*told, trained if record.retrain != "none" else None])


def _triple(record: LeakageRecord, attacks: Sequence[AttackRecord]) -> Triple:
    defense = record.defense
    return Triple(
        _network(record),
        record.split,
        "none" if defense.is_none else f"{defense.kind} {defense.level_text}",
        "none" if defense.is_none else defense.kind,
        record.statistics,
        {name: _strongest(leak, attacks) for name, leak in LEAKS.items()},
        len(attacks),
        (record.config_hash, *sorted(each.config_hash for each in attacks)),
    )


def _network(record: Record) -> str:
    assert record.target is not None
    name = record.network.title if record.network else ""
    return f"{name} {record.dataset} {(record.target.fingerprint or '')[:6]}".strip()


def _strongest(leak: Any, attacks: Sequence[AttackRecord]) -> float | None:
    found = (leak.highest(each) for each in attacks)
    return max((value for value in found if value is not None), default=None)


def compare(
    config: "LeakageConfig", scene: runs.Scene, triples: Sequence[Triple]
) -> dict[str, Any]:
    """Returns the record of rank correlations, with its `path`; draws the picture beside it."""
    identity = {"triples": [list(each.hashes) for each in triples]}

    def make(folder: Path, common: dict[str, Any]) -> None:
        fields = {
            "triples": [each._asdict() for each in triples],
            "correlations": correlations(triples),
            **environment.facts(),
        }
        records.write(folder, {**common, **fields}, images=None)

    record = runs.read_or_make(
        "leakage",
        "correlations",
        config,
        scene,
        make,
        identity=identity,
        label=f"compared-{len(triples)}",
        flags=runs.flags_of(config, scene),
        decided_by=(__name__, "jaxinv.measures.ranks"),
    )
    path = Path(record["path"]).parent / PICTURE
    if hosts.is_first() and not path.is_file():
        style.save(path, predictions.figure(record["triples"]))
    return record


def correlations(triples: Sequence[Triple]) -> dict[str, dict[str, Any]]:
    """Computes rank correlations: statistic -> measure -> over networks, and of each.

    Of each pair `value` and `ci` over all triples, `within`, the mean of networks' own, `count`,
    and `networks`, the same of each network of at least `FEWEST` triples.
    """
    return {
        each.name: {leak: _correlated(triples, each.name, leak) for leak in LEAKS}
        for each in STATISTICS
    }


def _correlated(triples: Sequence[Triple], statistic: str, leak: str) -> dict[str, Any]:
    known = [
        (each.network, each.statistics[statistic], each.leaks[leak])
        for each in triples
        if each.statistics.get(statistic) is not None and each.leaks[leak] is not None
    ]
    if len(known) < FEWEST:
        return {"value": None, "ci": [None, None], "within": None, "count": 0, "networks": {}}
    groups, x, y = zip(*known, strict=True)
    networks = {}
    for name in dict.fromkeys(groups):
        own = [row for row in known if row[0] == name]
        if len(own) >= FEWEST:
            names, a, b = zip(*own, strict=True)
            networks[name] = _told(ranks.correlation(a, b, names))
    inside = ranks.within(x, y, groups)
    told = _told(ranks.correlation(x, y, groups))
    return {**told, "within": _finite(inside), "networks": networks}


def _told(found: ranks.Correlation) -> dict[str, Any]:
    ends = [_finite(found.low), _finite(found.high)]
    return {"value": _finite(found.value), "ci": ends, "count": found.number}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
