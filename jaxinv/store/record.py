"""A record of a run, typed, in base units (seconds, bytes, joules, dB, shares in [0, 1]).

Its file is flat JSON. `kind` tells which class reads it: `Attack`, `Partition`, `Convergence`,
`Benchmark`, `Target`, or `Record` for an experiment that is not known here. None stands for null: a
value that was not measured, or is not finite. Keys that a class does not name stay in `fields`.

A file of an older version is upgraded here, once, before it is read. No JAX.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct, field

SCHEMA = 1
"""Of the form of records; raised when a key changes its name or its meaning."""

Count = Annotated[int, Meta(ge=0)]
Interval = tuple[float | None, float | None]
UNKNOWN: Interval = (None, None)

_LARGEST = 1e30  # nothing that is measured here is beyond
_LONGEST = 1000  # characters of a text
# Control characters, separators that end a line in JavaScript, and what a terminal acts on.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]+")


def level_text(level: float | Sequence[float]) -> str:
    """Returns a defence's level as flags spell it: `0.6`, or of several steps `0.2+0.3`."""
    levels = level if isinstance(level, Sequence) else [level]
    return "+".join(f"{value:g}" for value in levels)


class VersionError(ValueError):
    """A record was written by another version of this package, in a form that is not read."""


class Defense(Struct, frozen=True):
    """A defence; of several steps, `kind` joins their names and `level` lists their levels."""

    kind: str
    site: Annotated[str, Meta(pattern=r"^(input|feature)(\+(input|feature))*$")]
    level: float | tuple[float, ...]

    @property
    def levels(self) -> tuple[float, ...]:
        """The level of each step."""
        return self.level if isinstance(self.level, tuple) else (self.level,)

    @property
    def level_text(self) -> str:
        """The level as flags spell it."""
        return level_text(self.level)

    @property
    def is_none(self) -> bool:
        """Whether nothing is done; the level 0 of a defence is no defence."""
        if "nopeek" in self.kind.split("+"):  # the edge is trained on all the same
            return False
        return self.kind == "none" or not any(self.levels)

    @property
    def name(self) -> str:
        """`dropout, feature`."""
        return f"{self.kind}, {self.site}"

    @property
    def words(self) -> str:
        """`dropout 0.6 at the features`, or `undefended`."""
        if self.is_none:
            return "undefended"
        sites = {"feature": "features", "input": "input"}
        return f"{self.kind} {self.level_text} at the {sites.get(self.site, 'input and features')}"


class Origin(Struct):
    """The network that was attacked: where it is from, and the digest of its parameters."""

    source: str | None = None
    fingerprint: str | None = None


class Printed(Struct):
    """Quality as the paper prints it: PSNR in dB, SSIM."""

    psnr: float
    ssim: float


class Record(Struct, kw_only=True):
    """Facts that every run leaves.

    Attributes:
      kind: of result: "attack", "partition", "convergence", "benchmark", "target" or another.
      schema: version of the file's form.
      code: digest of the code that decides the result; None where it was not noted.
      cuts: the network's cuts, in order; empty where they were not noted.
      flags: of the command that makes this run, by their names.
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
    target: Origin | None = None
    cuts: list[str] = field(default_factory=list)
    flags: dict[str, str] = field(default_factory=dict)
    path: str = ""
    fields: dict[str, Any] = field(default_factory=dict)


class Joint(Struct):
    """The answer of several attackers together."""

    psnr_mean: float | None
    ssim_mean: float | None


class Attack(Record, kw_only=True):
    """Images that were reconstructed at a cut.

    Attributes:
      psnr, ssim, mse: of each image `[N]`; the mean over draws or attackers of several seeds, None
        where one diverged.
      psnr_by_seed, ssim_by_seed: means of each attacker `[S]`, where there are several.
      threat_model: what the attacker knows, where the experiment's name does not tell it.
    """

    split: str
    method: str
    attacker_knowledge: str
    surrogate: str
    num_images: Count
    defense: Defense
    releases: Count
    accuracy: float | None
    accuracy_undefended: float | None
    exact_fraction: float | None
    diverged: Count
    paper: Printed | None
    psnr_mean: float | None
    psnr_std: float | None
    psnr_median: float | None
    psnr: list[float | None]
    ssim_mean: float | None
    ssim_std: float | None
    ssim_median: float | None = None
    ssim: list[float | None]
    mse: list[float | None] = field(default_factory=list)
    compile_s: float | None
    fit_s: float | None
    attack_s: float | None
    images_per_s: float | None
    psnr_ci: Interval = UNKNOWN
    ssim_ci: Interval = UNKNOWN
    reid_top1: float | None = None
    reid_ci: Interval = UNKNOWN
    accuracy_ci: Interval = UNKNOWN
    judge_accuracy: float | None = None
    threat_model: str | None = None
    draws: Count = 1
    retrain: str = "none"
    level_units: list[str] = field(default_factory=list)
    queries: Count | None = None
    num_queries: Count | None = None
    num_shadows: Count | None = None
    psnr_by_seed: list[float | None] = field(default_factory=list)
    psnr_seed_std: float | None = None
    ssim_by_seed: list[float | None] = field(default_factory=list)
    joint: Joint | None = None

    @property
    def threat(self) -> str:
        """The threat model: "whitebox", "blackbox" or "queryfree"."""
        return self.threat_model or self.experiment

    @property
    def is_measured(self) -> bool:
        """Whether re-identification was measured too, which older versions did not."""
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


class Attacker(Struct):
    """Who attacked; `surrogate` is "same" if it learned from the target's own training images."""

    threat_model: str
    method: str
    surrogate: str | None = None


class Attempt(Attacker, kw_only=True):
    """An attack on a choice; `path` is that of its record, from the work folder."""

    psnr_mean: float | None = None
    ssim_mean: float | None = None
    reid_top1: float | None = None
    diverged: int = 0
    path: str = ""


class Bound(Struct):
    """What theory allows: of `quantity` "psnr" (dB) or "reid" (a share); None for no limit."""

    name: str
    kind: str
    quantity: str
    assumptions: str
    value: float | None = None
    dithered: bool = True


class Choice(Struct, kw_only=True):
    """A cut and a defence: what they cost, and what they leave to the strongest attacker."""

    split: str
    defense: Defense
    accuracy: float | None
    accuracy_ci: Interval = UNKNOWN
    latency_s: float | None
    edge_s: float | None
    uplink_s: float | None
    cloud_s: float | None
    energy_j: float | None
    memory_bytes: float | None
    sent_bytes: float | None
    psnr_mean: float | None
    psnr_ci: Interval = UNKNOWN
    psnr_of_mean: float | None = None
    ssim_mean: float | None
    ssim_ci: Interval = UNKNOWN
    reid_top1: float | None
    reid_ci: Interval = UNKNOWN
    attacker: Attacker | None = None
    diverged: bool = False
    attacks: list[Attempt] = field(default_factory=list)
    bounds: list[Bound] = field(default_factory=list)
    pareto: bool
    meets: bool
    fails: list[str] = field(default_factory=list)


class Profile(Struct, kw_only=True):
    """A device, its uplink and the cloud."""

    name: str
    description: str = ""
    source: str = ""
    edge_flops_per_s: float | None = None
    edge_joules_per_flop: float | None = None
    uplink_bits_per_s: float | None = None
    uplink_joules_per_bit: float | None = None
    round_trip_s: float | None = None
    cloud_flops_per_s: float | None = None


class Certain(Struct):
    """Gaussian noise that surely holds re-identification down at a cut, and the accuracy left."""

    split: str
    sigma: float | None
    accuracy: float | None


class Quality(Struct):
    """What the strongest attacker gets at a cut."""

    split: str
    ssim_mean: float | None


class Advice(Struct):
    """The paper's advice, tested: the cuts before and after the first dense layer."""

    before: Quality
    after: Quality
    holds: bool


class Partition(Record, kw_only=True):
    """Choices of where to split, and the places of those that are recommended."""

    num_images: Count
    profile: Profile
    constraints: dict[str, float | None]
    prefer: str
    choices: list[Choice]
    recommendation: int | None
    recommendation_split: int | None
    reason: str
    certain: list[Certain] = field(default_factory=list)
    advice: Advice | None = None


class Curve(Struct):
    """Quality after so many steps."""

    steps: list[Count]
    psnr_mean: list[float | None]


class Convergence(Record, kw_only=True):
    """How methods come near at a cut, step by step."""

    cut: str
    curves: dict[str, Curve]


class Benchmark(Record, kw_only=True):
    """How fast attacks are."""


class Target(Record, kw_only=True):
    """A network that was trained."""

    test_accuracy: float | None
    num_test_images: Count
    fingerprint: str
    fit_s: float | None


KINDS: dict[str, type[Record]] = {
    "attack": Attack,
    "partition": Partition,
    "convergence": Convergence,
    "benchmark": Benchmark,
    "target": Target,
}


def loads(content: bytes) -> dict[str, Any]:
    """Parses a file as strict JSON in UTF-8, without what Python takes and JSON has not.

    Text is made printable and short, and a number beyond 1e30 is null.

    Raises:
      ValueError: it is no JSON object, has a key twice, a number that is not finite, or half a
        surrogate pair.
      RecursionError: it is nested too deeply.
    """
    found = json.loads(
        content.decode(),
        object_pairs_hook=_object,
        parse_constant=_refuse,
        parse_float=_number,
        parse_int=_number,
    )
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    json.dumps(found, ensure_ascii=False).encode()  # half a surrogate pair is no text
    return found


def typed(fields: Mapping[str, Any], path: str = "") -> Record:
    """Makes a record of a file's content, which is upgraded if an older version wrote it.

    Args:
      fields: of JSON's types.
      path: of the file.

    Raises:
      VersionError: another version wrote it, and it is not read.
      ValueError: a key is missing or of another type.
    """
    schema = fields.get("schema")
    if "schema" in fields and not (isinstance(schema, int) and not isinstance(schema, bool)):
        raise ValueError("schema is not a whole number")
    if schema is not None and schema != SCHEMA:
        age = "a newer" if schema > SCHEMA else "an older"
        raise VersionError(f"was written by {age} version (schema {schema})")
    given = dict(fields) if schema is not None else _upgraded(fields)
    given |= {"path": path, "fields": dict(fields)}
    try:
        return msgspec.convert(given, KINDS.get(str(given.get("kind")), Record))
    except msgspec.ValidationError as error:
        if schema is None and {"experiment", "config_hash"} <= fields.keys():
            raise VersionError(f"was written by an older version ({error})") from error
        raise ValueError(str(error)) from error


def _upgraded(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Reads a record that has no schema, as the first version wrote them.

    Its experiment tells its kind; those that had a `split` were attacks. An image's squared error
    is that of its PSNR.
    """
    experiment = str(fields.get("experiment"))
    kinds = {"train_target": "target", **{kind: kind for kind in KINDS if kind != "attack"}}
    kind = kinds.get(experiment, "attack" if "split" in fields else experiment)
    found = {"kind": kind, **fields, "schema": 0}
    psnr = fields.get("psnr")
    if kind == "attack" and isinstance(psnr, list):
        errors = [10 ** (-max(x, -99) / 10) if type(x) in (int, float) else None for x in psnr]
        found["mse"] = errors
    if kind == "benchmark":  # whose `cuts` are those that were attacked
        found.pop("cuts", None)
    return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = {_text(key): _printable(value) for key, value in pairs}
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next((name for name in names if names.count(name) > 1), names[0])
        raise ValueError(f"{twice!r} is there twice")
    return found


def _printable(value: Any) -> Any:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list) and any(isinstance(item, str | list) for item in value):
        return [_printable(item) for item in value]
    return value


def _text(value: str) -> str:
    clean = _UNPRINTABLE.sub(" ", value)
    return clean if len(clean) <= _LONGEST else f"{clean[: _LONGEST - 1]}…"


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _number(text: str) -> int | float | None:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large a number")
    if abs(value) > _LARGEST:
        return None
    return value if set(text) & set(".eE") else int(text)
