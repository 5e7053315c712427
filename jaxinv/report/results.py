"""Records as the page needs them: runs with numbers, attacks and studies as their words and means.

Nothing here starts JAX. `sort` makes runs of records; the number of a run is its place among them.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from jaxinv.constants import kinds
from jaxinv.constants.choices import FULL
from jaxinv.constants.halves import ALL
from jaxinv.constants.threats import THREATS
from jaxinv.measures.leaks import LEAKS, REID
from jaxinv.report import datasets
from jaxinv.report.values import Measure
from jaxinv.store import choice as stored_choice
from jaxinv.store import record as stored
from jaxinv.store.fields import RecordedDefense
from jaxinv.store.record import Record
from jaxinv.store.standing import Reconstructed, Standing


@dataclass(frozen=True, eq=False)
class ShownRun:
    """A run of any experiment.

    Attributes:
      number: of its card on the page.
      record: of the run.
      dataset: its name, and that of the network where the page has several of it: networks are
        never mixed.
    """

    number: int
    record: Record
    dataset: str

    @property
    def kind(self) -> kinds.Kind:
        """The kind of input that it is about."""
        return self.record.kind_of_input

    @property
    def name(self) -> str:
        """`<experiment>/<run>`, where it lies in the workdir."""
        return "/".join(Path(self.record.path).parts[-3:-1])

    @property
    def folder(self) -> Path:
        return Path(self.record.path).parent

    @property
    def experiment(self) -> str:
        return self.record.experiment

    @property
    def seed(self) -> str:
        """The seed, and that of the target unless it is the one that ships."""
        target = self.record.target
        told = f"; target of seed {target.seed}" if target and target.seed else ""
        return f"{self.record.seed}{told}"

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the installed packages."""
        return {name: value for name, value in self.record.versions.items() if value is not None}

    @cached_property
    def written(self) -> float:
        """When its record was written, in seconds; minus infinity if its file is gone."""
        try:
            return Path(self.record.path).stat().st_mtime
        except (OSError, ValueError):  # the name of a folder may be no text
            return -math.inf


class _Measured:
    """An attack or a choice: a cut, a defence, and means beside their 95% intervals."""

    record: Any

    @property
    def split(self) -> str:
        return self.record.split

    @property
    def defense(self) -> RecordedDefense:
        return self.record.defense

    @property
    def usability(self) -> Measure:
        return Measure(self.record.usable.value, *self.record.usable.ci)

    @property
    def usability_kind(self) -> str:
        """Accuracy, agreement, cosine or closeness."""
        return self.record.usable.kind

    @property
    def psnr(self) -> Measure:
        return Measure(self.record.psnr_mean, *self.record.psnr_ci)

    @property
    def ssim(self) -> Measure:
        return Measure(self.record.ssim_mean, *self.record.ssim_ci)

    @property
    def reid(self) -> Measure:
        return Measure(self.record.reid, *self.record.reid_ci)


@dataclass(frozen=True, eq=False)
class ShownAttack(_Measured, ShownRun):
    """A run that reconstructed images at a cut."""

    record: stored.AttackRecord

    @property
    def place(self) -> int:
        """Place of its cut in the network; behind all others if unknown."""
        cuts = self.record.cuts
        return cuts.index(self.split) if self.split in cuts else len(cuts)

    @property
    def method(self) -> str:
        return self.record.method

    @property
    def threat(self) -> str:
        return self.record.threat

    @property
    def attacker(self) -> str:
        """`white-box, hybrid`, and whether it learned from the target's own images."""
        return attacker(self.threat, self.method, self.record.surrogate)

    @property
    def attacker_rank(self) -> tuple[Any, ...]:
        """For sorting: by threat model, and there the paper's attacker first."""
        return (threat_rank(self.threat), self.method != "paper", self.method)

    @property
    def num_images(self) -> int:
        return self.record.num_images

    @property
    def images(self) -> str:
        """The number of images, and the half of the test split that they are of."""
        half = self.record.test_images
        return f"{self.num_images:,}" + ("" if half == ALL else f" ({half})")

    @property
    def diverged(self) -> int:
        return self.record.diverged

    @property
    def releases(self) -> int:
        return self.record.releases

    @property
    def retrain(self) -> str:
        return self.record.retrain

    @property
    def loss(self) -> float | None:
        """Loss of usability by the defence, a share."""
        before, behind = self.record.usable.value_undefended, self.record.usable.value
        return None if before is None or behind is None else before - behind

    @property
    def setting(self) -> tuple[object, ...]:
        """Names the release: attacks with equal settings attack the same, of whichever images."""
        record = self.record
        does = None if self.defense.is_none else self.defense
        network = record.target and record.target.fingerprint
        known = (record.data_fingerprint, network)
        return (self.dataset, *known, self.split, does, self.retrain, self.releases)

    @property
    def printed(self) -> tuple[float, float] | None:
        """PSNR and SSIM as the paper prints them."""
        paper = self.record.paper
        return (paper.psnr, paper.ssim) if paper else None


@dataclass(frozen=True, eq=False)
class Choice(_Measured):
    """A cut and a defence; `index` is its place in the study."""

    index: int
    record: stored_choice.RecordedChoice
    constraints: Mapping[str, float | None]

    @property
    def name(self) -> str:
        """`relu2, dropout 0.6 at the features`."""
        return self.split if self.defense.is_none else f"{self.split}, {self.defense.words}"

    @property
    def attacker(self) -> str:
        """The strongest that attacked, in words; "" if nobody did."""
        who = self.record.attacker
        return attacker(who.threat_model, who.method, who.surrogate) if who else ""

    @property
    def latency_s(self) -> float | None:
        return self.record.latency_s

    @property
    def energy_j(self) -> float | None:
        return self.record.energy_j

    @property
    def memory_bytes(self) -> float | None:
        return self.record.memory_bytes

    @property
    def pareto(self) -> bool:
        return self.record.pareto

    @property
    def meets(self) -> bool:
        return self.record.meets and not self.screened

    @property
    def screened(self) -> list[str]:
        """Limits on leakage that older records call kept because quick attacks did not break them.

        A certificate keeps a limit, whoever attacked.
        """
        if self.record.effort == FULL:
            return []
        named = {*self.record.fails, *self.record.undecided}
        asked = {leak.limit for leak in LEAKS if self.constraints.get(leak.limit) is not None}
        return sorted(asked - named - ({REID.limit} if self.is_certified else set()))

    @property
    def is_certified(self) -> bool:
        """True if a certificate keeps the limit on re-identification."""
        share, limit = self.record.certified_reid, self.constraints.get(REID.limit)
        return share is not None and limit is not None and share <= limit


@dataclass(frozen=True, eq=False)
class Partition(ShownRun):
    """Choices of where to split, and those that are recommended."""

    record: stored.PartitionRecord

    @cached_property
    def choices(self) -> list[Choice]:
        return [
            Choice(index, row, self.record.constraints)
            for index, row in enumerate(self.record.choices)
        ]

    @property
    def recommended(self) -> Choice | None:
        return self._at(self.record.recommendation)

    @property
    def recommended_split(self) -> Choice | None:
        """The best of those that split."""
        return self._at(self.record.recommendation_split)

    def _at(self, index: int | None) -> Choice | None:
        known = index is not None and 0 <= index < len(self.choices)
        return self.choices[index] if index is not None and known else None


@dataclass(frozen=True, eq=False)
class Board(ShownRun):
    """A leaderboard: defences at equal accuracy."""

    record: stored.LeaderboardRecord

    def at(self, loss: float) -> list[Standing]:
        """Returns the defences at a loss of accuracy, the one that leaks least first."""
        own = [each for each in self.record.standings if each.loss == loss]
        return sorted(own, key=lambda each: Measure(_ssim_of(each.strongest)).or_all)


def _ssim_of(found: Reconstructed | None) -> float | None:
    return None if found is None else found.ssim_mean


class Found(NamedTuple):
    """All runs, by their kinds; `superseded` is how many older studies are left out."""

    attacks: list[ShownAttack]
    partitions: list[Partition]
    boards: list[Board]
    others: list[ShownRun]
    superseded: int = 0

    @property
    def runs(self) -> list[ShownRun]:
        """All of them, in the order of their numbers."""
        every = [*self.attacks, *self.partitions, *self.boards, *self.others]
        return sorted(every, key=lambda run: run.number)

    @property
    def datasets(self) -> list[str]:
        """Names; first those with a recommendation, then those with more runs."""
        counted = Counter(run.dataset for run in self.runs)
        counted.update({each.dataset: len(self.runs) for each in self.partitions})
        return sorted(counted, key=lambda name: (-counted[name], name))


def sort(records: Sequence[Record]) -> Found:
    """Makes runs of records; of studies that ask the same the newest is kept.

    A record of an older version has no cuts: it takes those of another on the same network.
    """
    names = datasets.names(records)
    cuts = {name: record.cuts for name, record in zip(names, records, strict=True) if record.cuts}
    found = Found([], [], [], [])
    for number, (name, record) in enumerate(zip(names, records, strict=True), 1):
        record.cuts = record.cuts or cuts.get(name, [])
        if isinstance(record, stored.PartitionRecord):
            found.partitions.append(Partition(number, record, name))
        elif isinstance(record, stored.AttackRecord):
            found.attacks.append(ShownAttack(number, record, name))
        elif isinstance(record, stored.LeaderboardRecord):
            found.boards.append(Board(number, record, name))
        else:
            found.others.append(ShownRun(number, record, name))
    newest: dict[str, Partition] = {}
    for study in sorted(found.partitions, key=_rank):
        newest[_question(study.record)] = study
    kept = sorted(newest.values(), key=lambda study: study.number)
    return found._replace(partitions=kept, superseded=len(found.partitions) - len(kept))


def _rank(study: Partition) -> tuple[bool, Any, int]:
    """Returns a rank for sorting: of two that ask the same, more effort counts, then the newer."""
    return study.record.effort == FULL, study.written, study.number


def _question(record: stored.PartitionRecord) -> str:
    """Names what a study asks, of which network; not how or when it was made."""
    network = record.target and record.target.fingerprint
    profile = msgspec.structs.replace(record.profile, edge_times={})  # measured, not asked
    attackers = (record.threat_models, record.releases)
    asked = (record.seed, record.num_images, *attackers, profile, record.constraints, record.prefer)
    choices = [(row.split, row.defense) for row in record.choices]
    question = [record.data_fingerprint, network, asked, choices]
    return json.dumps(msgspec.to_builtins(question), sort_keys=True)


def in_order(attacks: Iterable[ShownAttack]) -> list[str]:
    """Returns the different cuts of attacks, in the order of their network."""
    return list(dict.fromkeys(each.split for each in sorted(attacks, key=lambda each: each.place)))


def threat_rank(threat: str) -> tuple[int, str]:
    """Returns a rank for sorting: the best informed first."""
    known = list(THREATS)
    return (known.index(threat) if threat in THREATS else len(known), threat)


def attacker(threat: str, method: str, surrogate: str | None) -> str:
    """Names an attacker: `white-box, hybrid`, and whether it learned from the target's images."""
    told = ", by the target's images" if surrogate == "same" else ""
    return f"{THREATS.get(threat, threat)}, {method}{told}"


def strongest(attacks: Sequence[ShownAttack]) -> ShownAttack | None:
    """By SSIM to the digits that are shown, then by PSNR; None of none, and if all diverged."""

    def rank(each: ShownAttack) -> tuple[float, float]:
        return round(each.ssim.or_nothing, 3), each.psnr.or_nothing

    best = max(attacks, key=rank, default=None)
    return best if best and best.ssim.mean is not None else None
