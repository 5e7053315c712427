"""The table of undefended runs: a header, and a line for each record. NumPy."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import msgspec

from jaxinv.measures import intervals
from jaxinv.store.fields import RecordedObstacles

Table = tuple[str, Callable[[Mapping[str, Any]], str]]
"""A header, and the line of a record."""

_HEADER = (
    f"{'PSNR dB [95% interval]':<26}{'SSIM':<8}{'exact':<8}"
    f"{'paper dB/SSIM':<15}{'compile s':>10}{'attack s':>10}{'images/s':>10}"
)
_VECTOR_HEADER = (
    f"{'RMSE [95% interval]':<26}{'correlation':<13}{'re-id':<9}"
    f"{'compile s':>10}{'attack s':>10}{'per s':>10}"
)


def width(texts: Iterable[str], *, least: int) -> int:
    """Returns the width of a column, in characters, that holds texts with a space behind each."""
    return max([least, *(len(text) + 1 for text in texts)])


def table(cuts: Iterable[str], *, vectors: bool) -> Table:
    """Returns the table of undefended runs at some cuts, a line for each record.

    Args:
      cuts: names of all that it has lines for.
      vectors: whether the inputs are series or rows of tables; an RMSE of 1 is the range of a
        column there.
    """
    first = width(cuts, least=10)
    return f"{'split':<{first}}{_VECTOR_HEADER if vectors else _HEADER}", partial(_row, first)


def _row(first: int, record: Mapping[str, Any]) -> str:
    psnr, ssim = record["psnr_mean"], record["ssim_mean"]
    if psnr is None:
        quality = f"{'diverged':<26}{'-':<8}"
    else:
        quality = f"{intervals.told(psnr, record['psnr_ci'], '.2f'):<26}{ssim:<8.4f}"
    printed = record["paper"]
    beside = f"{printed['psnr']:.2f}/{printed['ssim']:.2f}" if printed else "-"
    if "rmse_mean" in record:
        beside, quality = "", _closeness(record)
    else:
        quality += f"{record['exact_fraction']:<8.1%}"
    row = (
        f"{record['split']:<{first}}{quality}{beside:<{15 if beside else 0}}"
        f"{_told(record['compile_s'])}{_told(record['attack_s'])}{_told(record['images_per_s'])}"
    )
    if record.get("queries"):
        edge = f"; edge: {record['edge']}" if record.get("edge") else ""
        row += f"  ({record['queries']:,} queries{edge})"
    if record.get("joint") and record["psnr_seed_std"] is not None:
        row += f"  (+- {record['psnr_seed_std']:.2f} over {len(record['psnr_by_seed'])} seeds"
        row += f"; jointly {record['joint']['psnr_mean']:.2f})"
    some = 0 < record["diverged"] < record["num_images"]
    row += f"  ({record['diverged']} diverged, not in the means)" if some else ""
    if record.get("obstacles"):
        row += f"  (in the way: {msgspec.convert(record['obstacles'], RecordedObstacles).words})"
    return row + dead_words(record)


def _closeness(record: Mapping[str, Any]) -> str:
    """The quality of series or rows in the columns of `_VECTOR_HEADER`."""
    if record["rmse_mean"] is None:
        return f"{'diverged':<26}{'-':<13}{'-':<9}"
    error = intervals.told(record["rmse_mean"], record["rmse_ci"], ".4f")
    return f"{error:<26}{record['ssim_mean']:<13.4f}{record['reid']:<9.1%}"


def _told(measured: float | None) -> str:
    """A time or a rate in its column; a dash where it was not measured."""
    return f"{'-':>10}" if measured is None else f"{measured:>10.1f}"


def dead_words(record: Mapping[str, Any]) -> str:
    """Tells how many images did not move from their start; "" if all did."""
    dead = record.get("dead")
    return f"  ({dead} of {record['num_images']} dead: not moved from the start)" if dead else ""
