"""Ours against the paper's numbers, as Markdown."""

import datetime
from collections.abc import Sequence
from pathlib import Path

from jaxinv.constants import paper
from jaxinv.constants.threats import THREATS
from jaxinv.errors import UserError
from jaxinv.look.text import markdown
from jaxinv.paper import claims
from jaxinv.paper.claims import quality
from jaxinv.paper.parts import Done, Part
from jaxinv.store.record import AttackRecord


def table(done: Sequence[Done], command: str) -> str:
    """Ours against the paper, as Markdown, with where it comes from.

    Args:
      done: what was run.
      command: that did it.

    Raises:
      UserError: there is no record at all.
    """
    found = [record for each in done for record in each.records]
    if not found:
        raise UserError("There is no record to make a table of.")
    lines = [
        "| Fig. | dataset | split | attack | the paper prints | `--method=paper` | ours | images |",
        "|------|---------|-------|--------|------------------|------------------|------|--------|",
    ]
    notes: dict[str, None] = {}
    for part, own in done:
        if part.script != "defenses" and part.flags.get("method") == "paper":
            others = [
                record
                for other, records_ in done
                if other.script == part.script and other.dataset == part.dataset and other != part
                for record in records_
            ]
            for record in own:
                lines.append(_attack_row(part, record, others, notes))
    lines += ["", *(f"{number}. {note}" for number, note in enumerate(notes, 1)), ""]
    lines += claims.rows(done)
    lines += ["", *claims.advice(done)]
    newest = max(Path(record.path).stat().st_mtime for record in found)
    day = datetime.datetime.fromtimestamp(newest, datetime.UTC).date().isoformat()
    devices = ", ".join(dict.fromkeys(markdown(str(record.device)) for record in found))
    seeds = sorted({record.seed for record in found})
    version = markdown(found[0].versions.get("jax") or "unknown")
    lines += [
        "",
        f"`{command}` on {devices}; {day}; seed {', '.join(map(str, seeds))}; jax {version}. "
        "PSNR in dB / SSIM, means with the half width of their 95% interval over images; "
        "query-free ones are means over three shadows with their standard deviation over seeds.",
    ]
    return "\n".join(lines)


def _attack_row(
    part: Part, record: AttackRecord, others: Sequence[AttackRecord], notes: dict[str, None]
) -> str:
    ours = next((other for other in others if other.split == record.split), None)
    printed = record.paper
    said = f"{printed.psnr:.2f} / {printed.ssim:.2f}" if printed else ""
    marks = ""
    reason = paper.why(record)
    if reason:
        notes.setdefault(reason)
        marks = f" ({list(notes).index(reason) + 1})"
    cells = [
        ", ".join(map(str, part.figures)),
        part.dataset,
        markdown(record.split),
        THREATS[part.script],
        said,
        f"{quality(record)}{marks}",
        f"{quality(ours)}, {markdown(ours.method)}" if ours else "",
        " and ".join(dict.fromkeys(f"{row.num_images:,}" for row in (record, ours) if row)),
    ]
    return f"| {' | '.join(cells)} |"
