"""The table of attacks on defenses. NumPy."""

from collections.abc import Callable
from typing import Any

from jaxinv.measures import intervals
from jaxinv.store.fields import level_text
from jaxinv.studies import lines


def columns(kind: str) -> tuple[str, Callable[[Any], str]]:
    """Returns a header and the line of a record.

    Args:
      kind: of usability.
    """
    return _header(kind), _row


def _header(kind: str) -> str:
    return (
        f"{'split':<9}{'defence':<18}{'site':<9}{'level':<9}{'attacker':<20}{kind:<10}"
        f"{'PSNR dB [95% interval]':<25}{'SSIM':<8}{'re-id':<8}{'judge':<8}{'learned':>8}"
        f"{'fit s':>7}{'attack s':>9}"
    )


def _row(record: Any) -> str:
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
        f"{record['split']:<9}{defense['kind']:<18}{defense['site']:<9}"
        f"{level_text(defense['level']):<9}{attacker:<20}{record['usability']['value']:<10.4f}{quality}"
        f"{record['reid']:<8.3f}{judge:<8}{learned:>8}"
        f"{record['fit_s']:>7.1f}{record['attack_s']:>9.1f}{lines.dead_words(record)}"
    )
