"""Values that records of several kinds hold, with their ranges: shares, intervals, defences."""

from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

_SLACK = 1e-3  # a mean may be rounded past its limit

Count = Annotated[int, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Psnr = Annotated[float, Meta(le=100 + _SLACK)]
Ssim = Annotated[float, Meta(ge=-1 - _SLACK, le=1 + _SLACK)]
Amount = Annotated[float, Meta(ge=0)]
"""A time, an energy, a size, or a rate of these."""
Interval = tuple[float | None, float | None]
_NearShare = Annotated[float, Meta(ge=-1, le=2)]
ShareInterval = tuple[_NearShare | None, _NearShare | None]
"""Interval of a share; a symmetric one reaches past 0 or 1."""
UNKNOWN: Interval = (None, None)


class RecordedUsability(Struct):
    """Usability behind a defence: see `measures.usability` for the kinds.

    Attributes:
      value, value_undefended: a share, or a mean cosine or closeness.
      ci: 95% interval of the value.
      relative_error: of the output beside the undefended one, for a cosine or closeness.
      scores: of each image, of a cosine or closeness; empty in older records, and where a study
        tells them no more.
    """

    kind: str
    value: Ssim | None
    value_undefended: Ssim | None = None
    ci: Interval = UNKNOWN
    relative_error: Amount | None = None
    scores: list[Ssim] = field(default_factory=list)


class RecordedObstacles(Struct, frozen=True):
    """Facts about what was in a white-box attacker's way to some images, without a defence.

    Attributes:
      counts: number of images by what was in the way: "solver", "prior", "nothing" or "unknown".
      misfit: of each, the length of the features that stay unexplained by that of all.
      levels: of each, the grey levels of noise that change the features as much.
      directions: number of an image's values.
      shown: of each, the directions in which a change shows in the features; None if not counted.
    """

    counts: dict[str, Count]
    misfit: list[Amount | None]
    levels: list[Amount | None]
    directions: Count
    shown: list[Count | None]

    @property
    def words(self) -> str:
        """`prior; 240 to 271 of 784 directions show`."""
        found = {name: count for name, count in self.counts.items() if count}
        names = [name if len(found) == 1 else f"{name} {count}" for name, count in found.items()]
        shown = sorted({count for count in self.shown if count is not None})
        told = ", ".join(names) or "unknown"
        if not shown:
            return told
        ends = " to ".join(f"{count:,}" for count in dict.fromkeys([shown[0], shown[-1]]))
        return f"{told}; {ends} of {self.directions:,} directions show"


def level_text(level: float | Sequence[float]) -> str:
    """Returns a defence's level as flags spell it: `0.6`, or of several steps `0.2+0.3`."""
    levels = level if isinstance(level, Sequence) else [level]
    return "+".join(f"{value:g}" for value in levels)


class RecordedDefense(Struct, frozen=True, omit_defaults=True):
    """A defence; of several steps, `kind` joins their names and `level` lists their levels.

    `grid` is the grid that a release is rounded to after noise, of each step; older records have
    none. `trained` tells whether the target was trained on for it, and `code` is the digest of a
    user's file that makes it.
    """

    kind: str
    site: Annotated[str, Meta(pattern=r"^(input|feature)(\+(input|feature))*$")]
    level: float | tuple[float, ...]
    grid: float | tuple[float | None, ...] | None = None
    trained: bool = False
    code: str = ""

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
        """Tells whether nothing is done; the level 0 of a defence is no defence."""
        # The target is trained on all the same; older records do not say so of nopeek.
        if self.trained or "nopeek" in self.kind.split("+"):
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


class RecordedColumn(Struct, frozen=True):
    """A column of a table or a channel of series: its name, its unit, and its range in that."""

    name: str
    unit: str
    low: float
    high: float


class RecordedInputs(Struct, frozen=True):
    """Series or rows of a table: `shape` is that of one, as its file has it."""

    kind: Literal["series", "table"]
    shape: list[int]
    columns: list[RecordedColumn]
