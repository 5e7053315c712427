"""Records as the page needs them: attacks, partitions and the rest, their values checked.

Nothing that starts JAX. `sort` makes them of records; a number of a place on the page is that of
the order in which they come.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from jaxinv.constants.threats import THREATS
from jaxinv.report.values import (
    Measure,
    Record,
    count,
    items,
    mapping,
    measure,
    number,
    text,
)
from jaxinv.store.records import RECORD_NAME

# The layers of the networks that come with jaxinv, in order: importing them would start JAX.
LAYERS = (
    (
        *("conv1", "relu1", "pool1", "conv2", "relu2", "pool2"),
        *("fc1", "relu3", "fc2", "relu4", "fc3"),
    ),
    (
        *("conv11", "relu11", "conv12", "relu12", "pool1", "conv21", "relu21", "conv22", "relu22"),
        *("pool2", "conv31", "relu31", "conv32", "relu32", "pool3", "fc1", "sigmoid1", "fc2"),
    ),
)

CLOUD, DEVICE = "cloud-only", "edge-only"
"""The two choices that split nothing."""


class Defense(NamedTuple):
    """What a device does. `level` is as flags spell it, `levels` for sorting."""

    kind: str
    site: str
    level: str
    levels: tuple[float, ...]

    @property
    def is_none(self) -> bool:
        """Whether nothing is done; the level 0 of a defence is no defence."""
        if "nopeek" in self.kind.split("+"):  # the edge is trained on all the same
            return False
        return self.kind == "none" or all(level == 0 for level in self.levels)

    @property
    def name(self) -> str:
        """`dropout, feature`."""
        return f"{self.kind}, {self.site}"

    @property
    def words(self) -> str:
        """`dropout 0.6 at the features`, or `undefended`."""
        if self.is_none:
            return "undefended"
        sites = {"feature": "features", "input": "input", "input+feature": "input and features"}
        return f"{self.kind} {self.level} at the {sites.get(self.site, self.site)}"


@dataclass(frozen=True, eq=False)
class Run:
    """What every record has.

    Attributes:
      number: of its card on the page.
      name: `<experiment>/<run>`, where it lies in the workdir.
      folder: of its files.
      record: as it was read.
    """

    number: int
    name: str
    folder: Path
    record: Record

    @property
    def experiment(self) -> str:
        return text(self.record["experiment"], "?")

    @property
    def dataset(self) -> str:
        return text(self.record["dataset"], "?")

    @property
    def seed(self) -> str:
        return text(self.record["seed"])

    @property
    def num_images(self) -> int | None:
        return count(self.record.get("num_images"))

    @property
    def device(self) -> str:
        return text(self.record["device"])

    @property
    def versions(self) -> dict[str, str]:
        """Of packages; those that were not there are left out."""
        found = mapping(self.record["versions"])
        return {text(name): text(value) for name, value in found.items() if value is not None}

    @property
    def config_hash(self) -> str:
        return text(self.record["config_hash"])


@dataclass(frozen=True, eq=False)
class Attack(Run):
    """A run that reconstructed images at a cut."""

    defense: Defense
    accuracy: Measure
    undefended: float | None
    psnr: Measure
    ssim: Measure
    reid: Measure

    @property
    def split(self) -> str:
        return text(self.record["split"], "?")

    @property
    def method(self) -> str:
        return text(self.record["method"], "?")

    @property
    def threat(self) -> str:
        return text(self.record.get("threat_model"), self.experiment)

    @property
    def threat_rank(self) -> tuple[int, str]:
        """For sorting: the best informed first."""
        known = list(THREATS)
        return (known.index(self.threat) if self.threat in THREATS else len(known), self.threat)

    @property
    def attacker_rank(self) -> tuple[Any, ...]:
        """For sorting: by threat model, and there the paper's attacker first."""
        return (self.threat_rank, self.method != "paper", self.method)

    @property
    def attacker(self) -> str:
        """`white-box, hybrid`, and whether it learned from the target's own images."""
        return _named(self.threat, self.method, self.record["surrogate"])

    @property
    def diverged(self) -> int:
        return count(self.record["diverged"]) or 0

    @property
    def releases(self) -> int:
        return count(self.record["releases"]) or 1

    @property
    def retrain(self) -> str:
        return text(self.record.get("retrain"), "none")

    @property
    def loss(self) -> float | None:
        """Of accuracy, by the defence; a share."""
        if self.undefended is None or self.accuracy.mean is None:
            return None
        return self.undefended - self.accuracy.mean

    @property
    def setting(self) -> tuple[str, ...]:
        """What the device does: attacks with equal ones attack the same."""
        defense = self.defense
        does = ("none",) if defense.is_none else (defense.kind, defense.site, defense.level)
        return (self.dataset, self.split, *does, self.retrain, str(self.releases))

    @property
    def printed(self) -> tuple[float, float] | None:
        """PSNR and SSIM as the paper prints them."""
        found = mapping(self.record["paper"])
        psnr, ssim = number(found.get("psnr")), number(found.get("ssim"))
        return None if psnr is None or ssim is None else (psnr, ssim)


class Bound(NamedTuple):
    """What theory allows. `value` is dB of "psnr", a share of "reid", None for nothing.

    `binds` is whether it is about the attacks of its choice: about test images as they are, and
    about attackers of any kind.
    """

    name: str
    kind: str
    quantity: str
    value: float | None
    assumptions: str
    binds: bool


class Attempt(NamedTuple):
    """An attack on a choice. `run` is the name of its `Run`."""

    attacker: str
    psnr: float | None
    ssim: float | None
    reid: float | None
    diverged: int
    run: str


@dataclass(frozen=True, eq=False)
class Choice:
    """A cut and a defence: costs in base units, and what is left to the strongest attacker.

    `psnr` is the mean over images, `psnr_of_mean` that of the mean error: what bounds are about.
    """

    index: int
    split: str
    defense: Defense
    accuracy: Measure
    latency_s: float | None
    parts_s: tuple[float | None, float | None, float | None]
    energy_j: float | None
    memory_bytes: float | None
    sent_bytes: float | None
    psnr: Measure
    ssim: Measure
    psnr_of_mean: float | None
    reid: Measure
    attacker: str
    attacks: tuple[Attempt, ...]
    bounds: tuple[Bound, ...]
    pareto: bool
    meets: bool
    fails: tuple[str, ...]

    @property
    def name(self) -> str:
        """`relu2, dropout 0.6 at the features`."""
        return self.split if self.defense.is_none else f"{self.split}, {self.defense.words}"


@dataclass(frozen=True, eq=False)
class Partition(Run):
    """Choices of where to split, and one that is recommended."""

    choices: tuple[Choice, ...]
    recommended: Choice | None
    recommended_split: Choice | None

    @property
    def profile(self) -> Record:
        return mapping(self.record.get("profile"))

    @property
    def profile_name(self) -> str:
        return text(self.profile.get("name"), "an unnamed device")

    @property
    def constraints(self) -> dict[str, float]:
        """Those that there are."""
        found = {text(k): number(v) for k, v in mapping(self.record.get("constraints")).items()}
        return {name: value for name, value in found.items() if value is not None}

    @property
    def prefer(self) -> str:
        return text(self.record.get("prefer"))

    @property
    def reason(self) -> str:
        return text(self.record.get("reason"))


class Found(NamedTuple):
    """All runs, by what they are; `superseded` is how many older studies are left out."""

    attacks: list[Attack]
    partitions: list[Partition]
    others: list[Run]
    superseded: int = 0

    @property
    def runs(self) -> list[Run]:
        """All of them, in the order of their numbers."""
        return sorted([*self.attacks, *self.partitions, *self.others], key=lambda run: run.number)

    @property
    def datasets(self) -> list[str]:
        """Names; first those with a recommendation, then those with more runs."""
        counted = Counter(run.dataset for run in self.runs)
        counted.update({each.dataset: len(self.runs) for each in self.partitions})
        return sorted(counted, key=lambda name: (-counted[name], name))


def sort(records: Iterable[Record]) -> Found:
    """Makes runs of records as `records.find` returns them; of equal studies the newest is left."""
    found = Found([], [], [])
    for place, record in enumerate(records, 1):
        path = Path(text(record.get("path"), "unknown/unknown/record.json"))
        name = "/".join(path.parts[-3:-1])
        common = (place, name, path.parent, record)
        if record["experiment"] == "partition":
            found.partitions.append(_partition(*common))
        elif "split" in record:
            found.attacks.append(_attack(*common))
        else:
            found.others.append(Run(*common))
    newest: dict[str, Partition] = {}
    for study in found.partitions:
        key = _question(study.record)
        if key not in newest or _written(study) >= _written(newest[key]):
            newest[key] = study
    kept = sorted(newest.values(), key=lambda study: study.number)
    return found._replace(partitions=kept, superseded=len(found.partitions) - len(kept))


def _question(record: Record) -> str:
    """What a study asked, of what: those that differ in how or when they were made have it too."""
    target = mapping(record.get("target"))
    rows = map(mapping, items(record.get("choices")))
    asked = ("data_fingerprint", "seed", "num_images", "profile", "constraints", "prefer")
    return json.dumps(
        [
            target.get("fingerprint"),
            [record.get(key) for key in asked],
            [[row.get("split"), row.get("defense")] for row in rows],
        ],
        sort_keys=True,
    )


def _written(run: Run) -> float:
    try:
        return (run.folder / RECORD_NAME).stat().st_mtime
    except OSError:
        return -math.inf


def in_order(splits: Iterable[str]) -> list[str]:
    """Different names of cuts, as data flow; those of other networks as they come."""
    names = list(dict.fromkeys(splits))
    known = max(LAYERS, key=lambda layers: len(set(layers) & set(names)))
    order = {CLOUD: -1, DEVICE: math.inf, **{name: place for place, name in enumerate(known)}}
    return sorted(names, key=lambda name: order.get(name, len(known)))


def _attack(place: int, name: str, folder: Path, record: Record) -> Attack:
    return Attack(
        place,
        name,
        folder,
        record,
        defense=_defense(record["defense"]),
        accuracy=measure(record, "accuracy", "accuracy_ci"),
        undefended=number(record["accuracy_undefended"]),
        psnr=measure(record, "psnr_mean", "psnr_ci"),
        ssim=measure(record, "ssim_mean", "ssim_ci"),
        reid=measure(record, "reid_top1", "reid_ci"),
    )


def _defense(value: object) -> Defense:
    found = mapping(value)
    level = found.get("level")
    parts = items(level) if isinstance(level, list) else [level]
    # One that is no number is not known, and so not zero.
    levels = tuple(math.nan if x is None else x for x in map(number, parts))
    kind = text(found.get("kind"), "none")
    told = "+".join("?" if math.isnan(x) else f"{x:g}" for x in levels)
    return Defense(kind, text(found.get("site"), "feature"), told, levels)


def _partition(place: int, name: str, folder: Path, record: Record) -> Partition:
    choices = tuple(
        _choice(index, mapping(row)) for index, row in enumerate(items(record.get("choices")))
    )

    def chosen(key: str) -> Choice | None:
        index = count(record.get(key))
        return choices[index] if index is not None and index < len(choices) else None

    return Partition(
        place,
        name,
        folder,
        record,
        choices=choices,
        recommended=chosen("recommendation"),
        recommended_split=chosen("recommendation_split"),
    )


def _choice(index: int, row: Record) -> Choice:
    attacker = mapping(row.get("attacker"))
    return Choice(
        index=index,
        split=text(row.get("split"), "?"),
        defense=_defense(row.get("defense")),
        accuracy=measure(row, "accuracy", "accuracy_ci"),
        latency_s=number(row.get("latency_s")),
        parts_s=(
            number(row.get("edge_s")),
            number(row.get("uplink_s")),
            number(row.get("cloud_s")),
        ),
        energy_j=number(row.get("energy_j")),
        memory_bytes=number(row.get("memory_bytes")),
        sent_bytes=number(row.get("sent_bytes")),
        psnr=measure(row, "psnr_mean", "psnr_ci"),
        ssim=measure(row, "ssim_mean", "ssim_ci"),
        psnr_of_mean=number(row.get("psnr_of_mean")),
        reid=measure(row, "reid_top1", "reid_ci"),
        attacker=_attacker(attacker) if attacker else "",
        attacks=tuple(_attempt(mapping(each)) for each in items(row.get("attacks"))),
        bounds=tuple(_bound(mapping(each)) for each in items(row.get("bounds"))),
        pareto=row.get("pareto") is True,
        meets=row.get("meets") is True,
        fails=tuple(text(each) for each in items(row.get("fails"))),
    )


def _attacker(row: Record) -> str:
    threat, method = text(row.get("threat_model"), "?"), text(row.get("method"), "?")
    return _named(threat, method, row.get("surrogate"))


def _named(threat: str, method: str, surrogate: object) -> str:
    told = ", by the target's images" if surrogate == "same" else ""
    return f"{THREATS.get(threat, threat)}, {method}{told}"


def _attempt(row: Record) -> Attempt:
    return Attempt(
        _attacker(row),
        number(row.get("psnr_mean")),
        number(row.get("ssim_mean")),
        number(row.get("reid_top1")),
        int(row["diverged"]) if isinstance(row.get("diverged"), bool | int) else 0,
        "/".join(Path(text(row.get("path"))).parts[-3:-1]),
    )


def _bound(row: Record) -> Bound:
    name, kind, quantity, assumptions = (
        text(row.get(key)) for key in ("name", "kind", "quantity", "assumptions")
    )
    binds = row.get("dithered") is False and name != "Cramer-Rao"
    return Bound(name, kind, quantity, number(row.get("value")), assumptions, binds)


def strongest(attacks: Sequence[Attack]) -> Attack | None:
    """By SSIM to the digits that are shown, then by PSNR; None of none, and if all diverged."""

    def rank(each: Attack) -> tuple[float, float]:
        return round(each.ssim.or_nothing, 3), each.psnr.or_nothing

    best = max(attacks, key=rank, default=None)
    return best if best and best.ssim.mean is not None else None
