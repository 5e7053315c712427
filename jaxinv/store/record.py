"""A record of a run, typed, in base units (seconds, bytes, joules, dB, shares in [0, 1]).

Its file is flat JSON. `kind` tells which class reads it: `Attack`, `Partition`, `Convergence`,
`Leakage`, `Benchmark`, `Target`, or `Record` for an experiment that is not known here. None stands
for null: a value that was not measured, or is not finite. Keys that a class does not name stay in
`fields`.

A file of an older version is upgraded here, once, before it is read. No JAX.
"""

import math
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct, field

from jaxinv.constants import kinds
from jaxinv.constants.choices import SCREEN
from jaxinv.constants.halves import ALL
from jaxinv.constants.threats import FLOOR
from jaxinv.store import similarity
from jaxinv.store.choice import Advice, Certain, RecordedChoice, RecordedProfile
from jaxinv.store.fields import (
    UNKNOWN,
    Amount,
    Count,
    Interval,
    Psnr,
    RecordedDefense,
    RecordedInputs,
    RecordedObstacles,
    RecordedUsability,
    Share,
    ShareInterval,
    Ssim,
)
from jaxinv.store.standing import Standing
from jaxinv.store.upgrades import VersionError, upgraded

SCHEMA = 3
"""Version of the form of records; raised when a key changes its name or its meaning."""


class Origin(Struct):
    """The network that was attacked: where it is from, the digest of its parameters, its seed.

    The seed is that of its training by the dataset's own recipe; None where it is not known.
    """

    source: str | None = None
    fingerprint: str | None = None
    seed: Count | None = None


class RecordedNetwork(Struct, frozen=True):
    """A network as it was asked for, and the digest of what it computes, parameters apart."""

    name: str
    fingerprint: str | None = None

    @property
    def title(self) -> str:
        """Its name; of a file without its folder, which is the user's own affair."""
        return title_of(self.name)


def title_of(network: str) -> str:
    """Returns the name of a network for people, of a file without its folder."""
    return network.replace("\\", "/").rsplit("/", 1)[-1]


class Printed(Struct):
    """Quality as the paper prints it: PSNR in dB, SSIM."""

    psnr: Psnr
    ssim: Ssim


class Record(Struct, kw_only=True):
    """Facts that every run leaves.

    Attributes:
      kind: of result: "attack", "partition", "convergence", "leakage", "benchmark", "target" or
        another.
      schema: version of the file's form.
      code: digest of the code that decides the result; None where it was not noted.
      network: that was attacked or trained; None in older records, of the paper's networks.
      cuts: the network's cuts, in order; empty where they were not noted.
      flags: of the command that makes this run, by their names.
      inputs: what is attacked where it is no images.
      processor: name of the CPU, also beside an accelerator.
      numerics: what else changes the last digits, as `machine.environment.facts` tells it.
      path: of the record's file, "" where it has none.
      fields: all of the file, in JSON's types.
    """

    kind: str
    schema: int
    experiment: str
    dataset: str
    data_source: str | None
    seed: Count
    device: str | None
    versions: dict[str, str | None]
    config: dict[str, Any]
    config_hash: str
    code: str | None = None
    data_fingerprint: str | None = None
    network: RecordedNetwork | None = None
    target: Origin | None = None
    cuts: list[str] = field(default_factory=list)
    flags: dict[str, str] = field(default_factory=dict)
    inputs: RecordedInputs | None = None
    processor: str | None = None
    numerics: dict[str, Any] = field(default_factory=dict)
    path: str = ""
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def kind_of_input(self) -> kinds.Kind:
        """The kind of input that it is about."""
        return kinds.IMAGE if self.inputs is None else kinds.KINDS[self.inputs.kind]


class Joint(Struct):
    """The answer of several attackers together."""

    psnr_mean: Psnr | None
    ssim_mean: Ssim | None


class Way(Struct, kw_only=True):
    """Quality of one of an attacker's ways; the mean and the spread of images' scores.

    `ssim` is that of each image `[N]`, as in the record; empty in older records.
    """

    psnr_mean: Psnr | None
    psnr_std: Amount | None
    psnr_ci: Interval = UNKNOWN
    ssim_mean: Ssim | None
    ssim_std: Amount | None
    ssim_ci: Interval = UNKNOWN
    ssim: list[Ssim | None] = field(default_factory=list)
    reid_top1: Share
    reid_top1_ci: ShareInterval = UNKNOWN
    diverged: Count = 0


class AttackRecord(Record, kw_only=True):
    """Images that were reconstructed at a cut.

    Attributes:
      psnr, ssim, mse: of each image `[N]`; the mean over draws or attackers of several seeds, None
        where one diverged. Of other inputs `ssim` is the correlation, as files name it.
      rmse, rmse_by_column: of each series or row `[N]`, in shares of the range; of each column
        `[C]`, in its unit. Images have none.
      psnr_by_seed, ssim_by_seed: means of each attacker `[S]`, where there are several.
      ways: each of an attacker's ways by name, where there are several. Quality and `reid_top1` of
        the record are those of the answer that the attacker chose; another may do better in one.
      reid_top1: share of inputs that are re-identified by their reconstruction.
      reid_likelihood: share that is re-identified by the release itself, of
        `reid_likelihood_images`; None where the attacker has nothing to compare with.
      reid: the greatest of these, of all ways.
      accuracy, accuracy_undefended: None where usability is another measure.
      surrogate_images: number of images that it had to learn from; None where it learns from none,
        and where an older version did not note it.
      threat_model: what the attacker knows, where the experiment's name does not tell it.
      test_images: the half of the test split that there was, one of `HALVES`.
      dead: number of images whose reconstruction did not move from a plain start, or whose features
        gave it no direction there, for any draw or attacker; they are in the means. None where an
        older version did not note it.
      obstacles: facts about what was in a white-box attacker's way; None where nobody asked.
    """

    split: str
    method: str
    attacker_knowledge: str
    surrogate: str
    surrogate_images: Count | None = None
    num_images: Count
    defense: RecordedDefense
    releases: Count
    accuracy: Share | None
    accuracy_undefended: Share | None
    exact_fraction: Share | None = None
    diverged: Count
    dead: Count | None = None
    paper: Printed | None
    psnr_mean: Psnr | None
    psnr_std: Amount | None
    psnr_median: Psnr | None
    psnr: list[Psnr | None]
    ssim_mean: Ssim | None
    ssim_std: Amount | None
    ssim_median: Ssim | None = None
    ssim: list[Ssim | None]
    mse: list[Amount | None] = field(default_factory=list)
    rmse: list[Amount | None] = field(default_factory=list)
    rmse_mean: Amount | None = None
    rmse_ci: Interval = UNKNOWN
    rmse_by_column: list[Amount | None] = field(default_factory=list)
    compile_s: Amount | None
    fit_s: Amount | None
    attack_s: Amount | None
    images_per_s: Amount | None
    psnr_ci: Interval = UNKNOWN
    ssim_ci: Interval = UNKNOWN
    reid_top1: Share | None = None
    reid_top1_ci: ShareInterval = UNKNOWN
    reid_likelihood: Share | None = None
    reid_likelihood_ci: ShareInterval = UNKNOWN
    reid_likelihood_images: Count | None = None
    reid_likelihood_way: str | None = None
    reid: Share | None = None
    reid_ci: ShareInterval = UNKNOWN
    accuracy_ci: ShareInterval = UNKNOWN
    usability: RecordedUsability | None = None
    judge_accuracy: Share | None = None
    threat_model: str | None = None
    test_images: str = ALL
    draws: Count = 1
    retrain: str = "none"
    level_units: list[str] = field(default_factory=list)
    queries: Count | None = None
    num_queries: Count | None = None
    num_shadows: Count | None = None
    psnr_by_seed: list[Psnr | None] = field(default_factory=list)
    psnr_seed_std: Amount | None = None
    ssim_by_seed: list[Ssim | None] = field(default_factory=list)
    joint: Joint | None = None
    ways: dict[str, Way] = field(default_factory=dict)
    obstacles: RecordedObstacles | None = None

    def __post_init__(self) -> None:
        for name in ("psnr", "ssim", "mse"):
            count = len(getattr(self, name))
            if count != self.num_images and (count or name != "mse"):
                raise ValueError(f"{count} values of {name} for {self.num_images} images")
        for name, way in self.ways.items():
            if len(way.ssim) not in (0, self.num_images):
                raise ValueError(
                    f"{len(way.ssim)} values of ssim by {name} for {self.num_images} images"
                )
        for name in ("diverged", "dead"):
            count = getattr(self, name) or 0
            if count > self.num_images:
                raise ValueError(f"{count} of {self.num_images} images are {name}")

    @property
    def usable(self) -> RecordedUsability:
        """Usability behind the defence; older records know accuracy alone."""
        known = (self.accuracy, self.accuracy_undefended, self.accuracy_ci)
        return self.usability or RecordedUsability("accuracy", *known)

    @property
    def has_diverged(self) -> bool:
        """Tells whether an image diverged, by any way."""
        return any([self.diverged, *(way.diverged for way in self.ways.values())])

    @property
    def is_able(self) -> bool:
        """Tells whether an attack looked at the release, and is known to have left its start."""
        return self.dead == 0 and self.method != FLOOR

    @property
    def learned(self) -> bool:
        """Tells whether an attack learned from images before it looked at the release."""
        return self.surrogate != "none" and self.method != FLOOR

    @property
    def is_lost(self) -> bool:
        """Tells whether all images diverged, by every way."""
        found = (self.diverged, *(way.diverged for way in self.ways.values()))
        return min(found) >= self.num_images

    @property
    def threat(self) -> str:
        """The threat model: "whitebox", "blackbox" or "queryfree"."""
        return self.threat_model or self.experiment

    @property
    def is_measured(self) -> bool:
        """Tells whether re-identification was measured too, which older versions did not."""
        return self.reid_ci != UNKNOWN

    @property
    def psnr_of_mean(self) -> float | None:
        """PSNR of the mean squared error over all images, in dB, at most 100; bounds are about it.

        At most the mean of PSNRs, to which an image that is nearly exact adds much. None where an
        image diverged, which has no error, and where errors were not noted.
        """
        errors = [error for error in self.mse if error is not None]
        if not errors or len(errors) < len(self.mse):
            return None
        return -10 * math.log10(max(sum(errors) / len(errors), 1e-10))


class PartitionRecord(Record, kw_only=True):
    """Choices of where to split, and the places of those that are recommended.

    Attributes:
      effort: "full" if every choice was attacked with everything; see `RecordedChoice`.
      threat_models: of the attackers that count.
      releases: of each image that attackers see.
    """

    num_images: Count
    profile: RecordedProfile
    constraints: dict[str, float | None]
    prefer: str
    choices: list[RecordedChoice]
    recommendation: int | None
    recommendation_split: int | None
    reason: str
    reason_split: str = ""
    certain: list[Certain] = field(default_factory=list)
    advice: Advice | None = None
    effort: str = SCREEN
    threat_models: list[str] = field(default_factory=list)
    releases: Count = 1


class Curve(Struct):
    """Quality after so many steps."""

    steps: list[Count]
    psnr_mean: list[Psnr | None]

    def __post_init__(self) -> None:
        if len(self.steps) != len(self.psnr_mean):
            raise ValueError(
                f"{len(self.psnr_mean)} values of psnr_mean at {len(self.steps)} steps"
            )


class ConvergenceRecord(Record, kw_only=True):
    """Convergence of methods at a cut, step by step."""

    cut: str
    curves: dict[str, Curve]


class LeaderboardRecord(Record, kw_only=True):
    """Defences at equal accuracy: what attackers find behind each, and what it costs."""

    split: str
    num_images: Count
    losses: list[float]
    seeds: Count
    standings: list[Standing]
    accuracy_undefended: Share | None = None


class LeakageRecord(Record, kw_only=True):
    """Leakage of a release that was predicted without an attack.

    Attributes:
      retrain: parts of the target that were trained on with the defence.
      statistics: by name, as `measures.leakage` has them; None where one could not be had.
    """

    split: str
    defense: RecordedDefense
    retrain: str = "none"
    statistics: dict[str, float | None]


class BenchmarkRecord(Record, kw_only=True):
    """Speed of attacks."""


class TargetRecord(Record, kw_only=True):
    """A network that was trained."""

    test_accuracy: Share | None
    num_test_images: Count
    fingerprint: str
    fit_s: Amount | None


KINDS: dict[str, type[Record]] = {
    "attack": AttackRecord,
    "partition": PartitionRecord,
    "convergence": ConvergenceRecord,
    "leaderboard": LeaderboardRecord,
    "leakage": LeakageRecord,
    "benchmark": BenchmarkRecord,
    "target": TargetRecord,
}


def typed(fields: Mapping[str, Any], path: str = "") -> Record:
    """Makes a record of a file's content, which is upgraded if an older version wrote it.

    Args:
      fields: of JSON's types.
      path: of the file.

    Raises:
      VersionError: another version wrote it, and it is not read.
      ValueError: a key is missing or of another type.
    """
    fields = similarity.inward(fields)
    schema = fields.get("schema")
    if "schema" in fields and not (isinstance(schema, int) and not isinstance(schema, bool)):
        raise ValueError("schema is not a whole number")
    if schema not in (None, 1, 2, SCHEMA):
        age = "a newer" if schema > SCHEMA else "an older"
        raise VersionError(f"was written by {age} version (schema {schema})")
    given = upgraded(fields, schema)
    given |= {"path": path, "fields": dict(fields)}
    try:
        return msgspec.convert(given, KINDS.get(str(given.get("kind")), Record))
    except msgspec.ValidationError as error:
        if schema is None and {"experiment", "config_hash"} <= fields.keys():
            raise VersionError(f"was written by an older version ({error})") from error
        raise ValueError(str(error)) from error
