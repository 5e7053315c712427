"""Columns of a table and channels of a series: names, units, ranges. NumPy.

The range of a column is unit space, and public: it is that of the samples that targets and
attackers train on, or it is given. Attackers know it, as they know that pixels have 8 bits.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxinv.constants import kinds
from jaxinv.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Columns:
    """Columns of the rows of a table, or channels of series.

    Attributes:
      shape: of one example as its file has it: `(F,)`, `(T,)` or `(T, C)`.
      kind: name of the kind of input.
      names, units: of each column; a unit that is not known is "".
      low, high: of each column in its unit: 0 and 1 of unit space.
      center, spread: mean and standard deviation of each in unit space, over the same samples.
    """

    shape: tuple[int, ...]
    kind: str
    names: tuple[str, ...]
    units: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    center: tuple[float, ...]
    spread: tuple[float, ...]

    @property
    def width(self) -> np.ndarray:
        """The range of each column in its unit, `[C]` float64."""
        return np.asarray(self.high) - np.asarray(self.low)

    @property
    def grid(self) -> tuple[int, ...]:
        """The grid that an example lies on; see `constants.kinds`."""
        return kinds.grid_of(self.shape, kinds.KINDS[self.kind])

    def to_unit(self, values: np.ndarray) -> np.ndarray:
        """Returns values `[N, *shape]` on their grid in unit space, `[N, H, W, C]`, not clipped."""
        placed = np.asarray(values, np.float64).reshape(-1, *self.grid)
        return (placed - np.asarray(self.low)) / self.width

    def to_values(self, placed: np.ndarray) -> np.ndarray:
        """Returns examples `[..., H, W, C]` in unit space as values in their units, on the grid."""
        return np.asarray(placed, np.float64) * self.width + np.asarray(self.low)

    def normalization(
        self, mean: Sequence[float] | None, std: Sequence[float] | None
    ) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Returns mean and std in unit space for a network that takes values in their units.

        Args:
          mean, std: that it expects to be applied to these values, for each column or one for all.
        """
        shift, scale = (
            np.broadcast_to(np.asarray(given or plain, np.float64), len(self.names))
            for given, plain in ((mean, 0.0), (std, 1.0))
        )
        center, spread = (shift - np.asarray(self.low)) / self.width, scale / self.width
        return tuple(center.tolist()), tuple(spread.tolist())

    @property
    def fields(self) -> dict[str, Any]:
        """Returns what a record says of the inputs."""
        told = zip(self.names, self.units, self.low, self.high, strict=True)
        return {
            "kind": self.kind,
            "shape": list(self.shape),
            "columns": [
                {"name": name, "unit": unit, "low": low, "high": high}
                for name, unit, low, high in told
            ],
        }

    @property
    def facts(self) -> dict[str, Any]:
        """Returns all of it in JSON's types; `from_facts` reads them."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self).items()
        }


def from_facts(facts: Mapping[str, Any]) -> Columns:
    """Returns the columns of these facts."""
    known: dict[str, Any] = {
        name: tuple(each) if isinstance(each, list) else each for name, each in facts.items()
    }
    return Columns(**known)


def measured(
    values: np.ndarray,
    kind: kinds.Kind,
    *,
    names: Sequence[str] | None = None,
    units: Sequence[str] | None = None,
    low: Any = None,
    high: Any = None,
) -> Columns:
    """Measures the columns of samples.

    A column that never varies has a range of 1 above its value.

    Args:
      values: `[N, *shape]`, those that train.
      kind: of input.
      names, units: of each column; by default numbered, and none.
      low, high: of each column, where they are given.

    Raises:
      UsageError: what is given is not one for each column, or low is not below high.
    """
    shape = values.shape[1:]
    grid = kinds.grid_of(shape, kind)
    rows = np.asarray(values, np.float64).reshape(-1, grid[-1])
    count = grid[-1]
    least, most = (
        _numbers(name, given, count)
        for name, given in (("low", rows.min(0) if low is None else low), ("high", rows.max(0)))
    )
    if high is not None:
        most = _numbers("high", high, count)
    elif low is None:
        most = np.where(most > least, most, least + 1)
    if not (most > least).all():
        place = int(np.argmin(most > least))
        raise UsageError(
            f"high={most[place]:g}: expected more than low, {least[place]:g}, in column {place}."
        )
    unit = (rows - least) / (most - least)
    spread, numbered = unit.std(0), [f"{_PLAIN[kind.name]}{n}" for n in range(count)]
    return Columns(
        shape,
        kind.name,
        _words("columns", numbered if names is None else names, count),
        _words("units", [""] * count if units is None else units, count),
        tuple(least.tolist()),
        tuple(most.tolist()),
        tuple(unit.mean(0).tolist()),
        tuple(np.where(spread > 0, spread, 1).tolist()),
    )


_PLAIN = {kinds.TABLE.name: "column ", kinds.SERIES.name: "channel "}


def _numbers(name: str, given: Any, count: int) -> np.ndarray:
    found = np.atleast_1d(np.asarray(given))
    if found.dtype.kind not in "iuf" or found.shape not in ((1,), (count,)):
        raise UsageError(f"{name}={given}: expected a number for each of {count} columns.")
    if not np.isfinite(found).all():
        raise UsageError(f"{name}={given}: expected finite numbers.")
    return np.broadcast_to(found, count).astype(np.float64)


def _words(name: str, given: Sequence[Any], count: int) -> tuple[str, ...]:
    found = tuple(str(each).strip() for each in given)
    if len(found) != count:
        raise UsageError(f"{name}={len(found)} words: expected one for each of {count} columns.")
    return found
