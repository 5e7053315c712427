"""Runs, and what is known of them on disk.

    <workdir>/locks/<run>              locked while somebody does it
    <workdir>/sweeps/done/<run>.json   marker: the run is finished, and these are its records
    <workdir>/sweeps/<sweep>/          sweep.json, summary.json, and for each run that was begun:
      <run>.log                        what it printed, stdout and stderr
      <run>.failed                     how a task of SLURM failed

Markers and locks belong to runs, so sweeps that overlap share them. A marker is worth seconds, no
more: the scripts know themselves what is finished, but take their time to start.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from jaxinv.errors import UserError
from jaxinv.store import files, locks, records

_WHERE = ("data_dir", "checkpoint")  # paths, which make no readable names


@dataclasses.dataclass(frozen=True)
class Run:
    """One start of an experiment.

    Attributes:
      script: name of the experiment.
      flags: name -> value, as text, but for those of the whole sweep (`--workdir`, `--rerun`).
      inputs: what else decides its numbers: code, data and target. A marker of other inputs counts
        for nothing.
    """

    script: str
    flags: Mapping[str, str]
    inputs: Mapping[str, str | None]

    @property
    def name(self) -> str:
        """Name of its files, readable; it ends in a hash of script and flags in any order."""
        identity = {"script": self.script, "flags": dict(self.flags)}
        told = [f"{name}={self.flags[name]}" for name in sorted(self.flags) if name not in _WHERE]
        return records.run_dir("", "", identity, label="-".join([self.script, *told])).name

    def __str__(self) -> str:
        return " ".join([self.script, *(f"--{name}={value}" for name, value in self.flags.items())])


@dataclasses.dataclass(frozen=True)
class SweepOutcome:
    """Outcome of a run.

    Attributes:
      run: which.
      state: "finished" now, "skipped" because it was finished before, or "failed".
      records: paths of its record.json files, the one that it printed last at the end.
      seconds: wall time; None where nobody knows.
      log: what it printed; None if it was finished before.
      reason: why it failed, in words.
    """

    run: Run
    state: str
    records: tuple[Path, ...] = ()
    seconds: float | None = None
    log: Path | None = None
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Runs in a work folder.

    Attributes:
      runs: without repeats.
      workdir: the scripts' `--workdir`.
      rerun: whether the scripts are to run again what is finished.
    """

    runs: tuple[Run, ...]
    workdir: Path
    rerun: bool = False

    @property
    def folder(self) -> Path:
        """The same for the same runs, in whatever order."""
        key = records.config_hash({"runs": sorted(run.name for run in self.runs)})
        return self.workdir / "sweeps" / key

    def log(self, run: Run) -> Path:
        """The file of what a run prints."""
        return self.folder / f"{run.name}.log"

    def open_log(self, run: Run) -> IO[bytes]:
        """Begins it anew.

        Raises:
          UserError: it cannot be written.
        """
        path = self.log(run)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return path.open("wb")
        except OSError as error:
            raise UserError(f"Cannot write {path}: {error.strerror or error}.") from error

    # --- what is finished -------------------------------------------------------------------------

    def finished(self, run: Run) -> SweepOutcome | None:
        """A run as its marker tells, or None if there is no marker that counts."""
        marker = read_json(self._marker(run))
        if marker.get("inputs") != self._inputs(run):
            return None
        try:
            paths = tuple(self.workdir / path for path in marker["records"])
            seconds = None if marker["seconds"] is None else float(marker["seconds"])
            whole = all(records.read(path.parent) for path in paths)
        except (KeyError, TypeError, ValueError):  # damaged: the script knows what is finished
            return None
        return SweepOutcome(run, "skipped", paths, seconds) if paths and whole else None

    def known(self) -> dict[str, SweepOutcome]:
        """Finished runs by name."""
        found = {run.name: self.finished(run) for run in self.runs}
        return {name: outcome for name, outcome in found.items() if outcome is not None}

    def mark(self, outcome: SweepOutcome) -> None:
        """Writes the marker of a run that has finished.

        Raises:
          UserError: it cannot be written.
        """
        paths = [str(path.relative_to(self.workdir)) for path in outcome.records]
        marker = {
            "script": outcome.run.script,
            "flags": dict(outcome.run.flags),
            "inputs": self._inputs(outcome.run),
            "records": paths,
            "seconds": outcome.seconds,
        }
        write_json(self._marker(outcome.run), marker)

    def forget(self, run: Run) -> None:
        """Removes the marker of a run."""
        self._marker(run).unlink(missing_ok=True)

    def lock(self, run: Run) -> IO[bytes] | None:
        """Takes a run for this process and those that inherit the file; None if it is taken."""
        return locks.acquire(self.workdir / "locks" / run.name, wait=False)

    def is_taken(self, run: Run) -> bool:
        """Returns whether a process works on a run."""
        if lock := self.lock(run):
            lock.close()
        return lock is None

    def _marker(self, run: Run) -> Path:
        return self.workdir / "sweeps" / "done" / f"{run.name}.json"

    def _inputs(self, run: Run) -> dict[str, Any]:
        """A run's inputs; where its target is found in the work folder, those of its seed there."""
        if "target" not in run.inputs or run.inputs["target"] is not None:
            return dict(run.inputs)
        seed = run.flags.get("target_seed", "0")
        trained = sorted(self.workdir.glob(f"train_target/*-s{seed}-*/target.safetensors"))
        return {
            **run.inputs,
            "trained": [[path.parent.name, path.stat().st_mtime_ns] for path in trained],
        }

    # --- what other processes are told ------------------------------------------------------------

    def write(self) -> None:
        """Writes sweep.json, for `read`."""
        runs = [dataclasses.asdict(run) for run in self.runs]
        content = {"workdir": str(self.workdir), "rerun": self.rerun, "runs": runs}
        write_json(self.folder / "sweep.json", content)

    @classmethod
    def read(cls, folder: Path) -> "Sweep":
        """The sweep of a folder; a relative work folder is this process's.

        Raises:
          UserError: there is none.
        """
        content = read_json(folder / "sweep.json")
        try:
            runs = tuple(_run(**run) for run in content["runs"])
            return cls(runs, Path(content["workdir"]), content["rerun"] is True)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{folder / 'sweep.json'} is gone, or damaged.") from error

    def write_failure(self, outcome: SweepOutcome) -> None:
        """Leaves word that a run failed."""
        content = {"reason": outcome.reason, "seconds": outcome.seconds}
        write_json(self._failure(outcome.run), content)

    def failure(self, run: Run) -> SweepOutcome | None:
        """Word that a run failed, if there is any."""
        found = read_json(self._failure(run))
        if not found:
            return None
        seconds, reason = found.get("seconds"), str(found.get("reason", "unknown"))
        seconds = seconds if isinstance(seconds, int | float) else None
        return SweepOutcome(run, "failed", (), seconds, self.log(run), reason)

    def forget_failure(self, run: Run) -> None:
        """Removes it."""
        self._failure(run).unlink(missing_ok=True)

    def _failure(self, run: Run) -> Path:
        return self.folder / f"{run.name}.failed"


def _run(script: Any, flags: Any, inputs: Any) -> Run:
    """Returns a run that a file tells of; raises ValueError if it is none."""
    texts = [script, *flags, *flags.values()] if isinstance(flags, dict) else [None]
    if not all(isinstance(text, str) for text in texts) or not isinstance(inputs, dict):
        raise ValueError("not a run")
    return Run(script, flags, inputs)


def read_json(path: Path) -> dict[str, Any]:
    """Reads a file; a missing or damaged one holds nothing."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes it, whole or not at all.

    Raises:
      UserError: it cannot be written.
    """
    text = json.dumps(content, indent=1) + "\n"
    files.atomic_write(path, lambda file: file.write(text.encode()))
