"""The table of attacks on defenses. NumPy."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from jaxinv.measures import intervals
from jaxinv.store.fields import level_text
from jaxinv.studies import lines


def columns(kind: str, cuts: Iterable[str], defenses: Iterable[str]) -> lines.Table:
    """Returns the table of attacks on some defenses at some cuts.

    Args:
      kind: of usability.
      cuts: their names.
      defenses: kinds of defenses.
    """
    widths = lines.width(cuts, least=9), lines.width(defenses, least=18)
    return _header(kind, *widths), partial(_row, *widths)


def _header(kind: str, first: int, second: int) -> str:
    return (
        f"{'split':<{first}}{'defence':<{second}}{'site':<9}{'level':<9}{'attacker':<20}{kind:<10}"
        f"{'PSNR dB [95% interval]':<25}{'SSIM':<8}{'re-id':<8}{'judge':<8}{'learned':>8}"
        f"{'fit s':>7}{'attack s':>9}"
    )


def _row(first: int, second: int, record: Mapping[str, Any]) -> str:
    defense = record["defense"]
    if record["psnr_mean"] is None:
        quality = f"{'diverged':<25}{'-':<8}"
    else:
        interval = intervals.told(record["psnr_mean"], record["psnr_ci"], ".2f")
        quality = f"{interval:<25}{record['ssim_mean']:<8.3f}"
    attacker = f"{record['threat_model']}, {record['method']}"
    seen = record["judge_accuracy"]
    judge = "-" if seen is None else f"{seen:.3f}"
    count = record.get("surrogate_images")
    learned = "-" if count is None else f"{count:,}"
    return (
        f"{record['split']:<{first}}{defense['kind']:<{second}}{defense['site']:<9}"
        f"{level_text(defense['level']):<9}{attacker:<20}{record['usability']['value']:<10.4f}{quality}"
        f"{record['reid']:<8.3f}{judge:<8}{learned:>8}"
        f"{record['fit_s']:>7.1f}{record['attack_s']:>9.1f}{lines.dead_words(record)}"
    )
