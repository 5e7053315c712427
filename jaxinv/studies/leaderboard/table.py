"""The table of a leaderboard. NumPy."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from jaxinv.look.terminal import aligned, coloured, heading
from jaxinv.look.text import rounded_up
from jaxinv.measures import intervals
from jaxinv.store.standing import Reconstructed

_COLUMNS = (
    "defence",
    "level",
    "accuracy",
    "claimed PSNR dB / SSIM",
    "strongest PSNR dB / SSIM",
    "by",
    "error ratio",
    "re-id",
    "certified",
    "verdict",
    "bytes",
    "edge FLOPs",
)


def rows(standings: Sequence[Mapping[str, Any]], loss: float) -> list[list[str]]:
    """Returns the cells of the defences at one loss of accuracy, the least leaking first."""
    return list(map(_row, _ranked(standings, loss)))


def markdown(record: Mapping[str, Any]) -> str:
    """Returns the board as Markdown: a table for each loss of accuracy."""
    title = f"# {record['dataset']}, {record['split']}: defences at equal accuracy"
    undefended = f"{100 * record['accuracy_undefended']:.2f}%"
    about = (
        f"{record['num_images']:,} test images of the second half, {record['seeds']} trainings a "
        f"defence; the target is right in {undefended} of that half. Levels were found on the "
        "first. Claimed: the authors' decoder. The strongest has the SSIM of the best of its ways, "
        "by which it may not answer. The error ratio tells how many times less the "
        "strongest errs than the claimed one. Certified: an upper limit on the share of "
        "equally likely candidates that any attacker finds on average, where few releases differ. "
        "Intervals are of 95%. These attackers may break a defence; what they do not break is "
        "undecided until all others have attacked it, as `partition` does."
    )
    parts = [title, about]
    for loss in record["losses"]:
        head = f"## {loss:g} points of accuracy"
        lines = [_line(_COLUMNS), _line(["---"] * len(_COLUMNS))]
        lines += [_line(row) for row in rows(record["standings"], loss)]
        parts += [head, "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def text(record: Mapping[str, Any]) -> str:
    """Returns the board for a terminal."""
    found = []
    for loss in record["losses"]:
        cells = [list(_COLUMNS), *rows(record["standings"], loss)]
        found.append(f"{record['split']}, {loss:g} points of accuracy:")
        heads, *others = (f"  {line}" for line in aligned(cells))
        found.append(heading(heads))
        verdicts = (each["verdict"] for each in _ranked(record["standings"], loss))
        found += map(coloured, others, verdicts)
    return "\n".join(found)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _ranked(standings: Sequence[Mapping[str, Any]], loss: float) -> list[Mapping[str, Any]]:
    return sorted((each for each in standings if each["loss"] == loss), key=_rank)


def _rank(standing: Mapping[str, Any]) -> tuple[bool, float]:
    best = standing["strongest"]
    return (best is None, best["ssim_mean"] if best else 0.0)


def _row(standing: Mapping[str, Any]) -> list[str]:
    usable, best, psnr = (standing[name] for name in ("usability", "strongest", "strongest_psnr"))
    ratio = standing["error_ratio"]
    reid, certified = standing["reid"], standing["certified_reid"]
    return [
        standing["defense"],
        standing["level"],
        f"{100 * usable['mean']:.2f}%",
        _quality(standing["claimed"], standing["claimed"]),
        _quality(psnr, best),
        "-" if best is None else msgspec.convert(best, Reconstructed).attacker,
        "-" if ratio is None else intervals.told(ratio, standing["error_ratio_ci"], ".2f"),
        "-" if reid is None else f"{reid:.1%}",
        "-" if certified is None else f"{rounded_up(certified):.1%}",
        standing["verdict"],
        f"{standing['sent_bytes']:,}",
        f"{standing['edge_flops_ratio']:.2f}x",
    ]


def _quality(psnr: Mapping[str, Any] | None, ssim: Mapping[str, Any] | None) -> str:
    if psnr is None or ssim is None or psnr["psnr_mean"] is None:
        return "-"
    return f"{psnr['psnr_mean']:.2f} / {ssim['ssim_mean']:.3f}"
