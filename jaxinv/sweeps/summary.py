"""SweepProgress of a sweep for people, and at the end a table and a file."""

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from jaxinv.look.terminal import aligned, heading
from jaxinv.store import records
from jaxinv.sweeps import targets
from jaxinv.sweeps.store import Run, Sweep, SweepOutcome, write_json

SUMMARY_NAME = "summary.json"
STATES = ("finished", "skipped", "failed")
_SECONDS_BETWEEN = 0.5


class SweepProgress:
    """A bar on stderr if that is a terminal, else a line for each run that has ended.

    Use it as a context manager.

    Args:
      runs: all of them.
      done: how many were finished before.
    """

    def __init__(self, runs: Sequence[Run], *, done: int) -> None:
        self._bar = tqdm(total=len(runs), initial=done, desc="sweep", unit="run", disable=None)
        self._varies = _varying(runs)
        self._ended, self._total, self._failed = done, len(runs), 0
        self._shown = 0.0

    def __enter__(self) -> "SweepProgress":
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.set_postfix_str(f"{self._failed} failed" if self._failed else "")
        self._bar.close()

    def say(self, line: str) -> None:
        """Prints a line to stderr, above the bar."""
        tqdm.write(line, file=sys.stderr)

    def tell(self, outcome: SweepOutcome) -> None:
        """Takes note of how a run has ended."""
        self._ended += 1
        self._failed += outcome.state == "failed"
        self._bar.update()
        if self._bar.disable or outcome.state == "failed":
            which = " ".join(_value(outcome.run, name) for name in self._varies)
            told = f"[{self._ended}/{self._total}] {which}: {outcome.state}"
            if outcome.state == "finished" and outcome.seconds is not None:
                told += f" in {outcome.seconds:.1f} s"
            elif outcome.state == "failed":
                told += f", {outcome.reason}; log: {outcome.log}"
            self.say(told)

    def show(self, running: int, elsewhere: int = 0) -> None:
        """Keeps the bar moving.

        Args:
          running: how many runs are under way.
          elsewhere: how many another sweep is at, as far as is known.
        """
        if self._bar.disable or time.monotonic() - self._shown < _SECONDS_BETWEEN:
            return
        self._shown = time.monotonic()
        told = [f"{running} running"]
        told += [f"{elsewhere} waited for"] if elsewhere else []
        told += [f"{self._failed} failed"] if self._failed else []
        self._bar.set_postfix_str(", ".join(told))


def write(sweep: Sweep, outcomes: Sequence[SweepOutcome]) -> Path:
    """Writes what became of each run as JSON; returns the path.

    Raises:
      UserError: it cannot be written.
    """
    rows = [
        {
            "script": outcome.run.script,
            "flags": dict(outcome.run.flags),
            "state": outcome.state,
            "seconds": outcome.seconds,
            "records": [str(path) for path in outcome.records],
            **_quality(outcome),
            "log": None if outcome.log is None else str(outcome.log),
            "reason": outcome.reason or None,
        }
        for outcome in outcomes
    ]
    path = sweep.folder / SUMMARY_NAME
    over = [targets.fields(row) for row in targets.rows(outcomes)]
    write_json(path, {**counts(outcomes), "runs": rows, "targets": over})
    return path


def counts(outcomes: Sequence[SweepOutcome]) -> dict[str, int]:
    """Counts the runs in each state."""
    return {state: sum(outcome.state == state for outcome in outcomes) for state in STATES}


def table(outcomes: Sequence[SweepOutcome]) -> str:
    """Tells each run with what varies between them, the counts, and why runs failed.

    Where runs differ in their targets, a second table has a line for all targets together.
    """
    varies = _varying([outcome.run for outcome in outcomes])
    rows = [[*varies, "outcome", "seconds", "PSNR dB", "SSIM"]]
    for outcome in outcomes:
        quality = _quality(outcome)
        rows.append(
            [
                *(_value(outcome.run, name) for name in varies),
                outcome.state,
                "" if outcome.seconds is None else f"{outcome.seconds:.1f}",
                _number(quality["psnr_mean"], ".2f"),
                _number(quality["ssim_mean"], ".3f"),
            ]
        )
    heads, *lines = aligned(rows, numbers=range(len(varies) + 1, len(rows[0])))
    lines.insert(0, heading(heads))
    number = counts(outcomes)
    lines.append(", ".join(f"{number[state]} {state}" for state in STATES))
    for outcome in outcomes:
        if outcome.state == "failed":
            lines.append(f"failed: {outcome.run}: {outcome.reason}")
            lines += [f"  {last}" for last in last_lines(outcome.log)]
            lines.append(f"  log: {outcome.log}")
    lines += _over_targets(outcomes)
    return "\n".join(lines)


def _over_targets(outcomes: Sequence[SweepOutcome]) -> list[str]:
    """Returns lines about all targets together; none where runs share one."""
    found = targets.rows(outcomes)
    if not found:
        return []
    names = [name for name in _varying([one.run for one in outcomes]) if name != targets.SEED]
    rows = [[*names, *targets.HEADER]]
    rows += [[*(row.flags.get(name, "") for name in names), *targets.cells(row)] for row in found]
    heads, *others = aligned(rows, numbers=range(len(names), len(rows[0])))
    return ["", heading(heads), *others, targets.NOTE]


def last_lines(log: Path | None, count: int = 1) -> list[str]:
    """The last lines of a log that say anything; none of one that only has its command."""
    try:
        lines = log.read_text(errors="replace").splitlines() if log else []
    except OSError:
        return []
    return [line for line in lines if line.strip() and not line.startswith("$ ")][-count:]


def _varying(runs: Sequence[Run]) -> list[str]:
    names = dict.fromkeys(name for run in runs for name in ("script", *run.flags))
    several = [name for name in names if len({_value(run, name) for run in runs}) > 1]
    return several or ["script"]


def _value(run: Run, name: str) -> str:
    return run.script if name == "script" else run.flags.get(name, "")


def _quality(outcome: SweepOutcome) -> Mapping[str, Any]:
    """Mean PSNR and SSIM of a run with one record; of several, no one number tells."""
    record = records.read(outcome.records[0].parent) if len(outcome.records) == 1 else None
    fields = record.fields if record else {}
    return {name: fields.get(name) for name in ("psnr_mean", "ssim_mean")}


def _number(value: Any, form: str) -> str:
    return "" if value is None else f"{value:{form}}"
