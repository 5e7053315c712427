"""Runs on a cluster: one SLURM job array, a task for each run that is not finished.

The array's name tells which sweep of which work folder it belongs to. A sweep that finds it queued
or running does not submit another but waits for it, so the process that waits may be killed at any
moment. Tasks take the same locks as runs elsewhere, and leave the same markers, or word of how they
failed; what ended without a word (cancelled, out of time, a node that died) is known from the
queue. Accounting is not needed. Nodes must share the work folder.
"""

import dataclasses
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from jaxinv.errors import UserError
from jaxinv.store import locks, records
from jaxinv.sweeps import interrupts, local, store
from jaxinv.sweeps.interrupts import StoppedError
from jaxinv.sweeps.settings import Settings
from jaxinv.sweeps.store import Run, Sweep, SweepOutcome
from jaxinv.sweeps.summary import SweepProgress

_ARRAY_NAME = "array.json"
_STOPPED = "stopped by SLURM"
_ENDED = frozenset(
    (
        *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL"),
        *("OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT"),
    )
)
_POLL_SECONDS = (1.0, 15.0)  # at first, and in the long run
_GRACE_SECONDS = 5.0  # until what another node wrote is seen here
_QUIET_SECONDS = 120.0  # of waiting in the queue, until it is said why
_PATIENCE_SECONDS = 900.0  # with a controller that does not answer


class _Array(NamedTuple):
    """A job array that is queued or running."""

    job: str
    numbers: dict[str, int]  # of its tasks, by the runs' names


def execute(
    sweep: Sweep, todo: Sequence[Run], options: Settings, progress: SweepProgress
) -> list[SweepOutcome]:
    """Submits what is left to do, or finds it submitted, and waits.

    Args:
      sweep: whose runs they are.
      todo: of its runs.
      options: of the jobs.
      progress: is told of every outcome.

    Returns:
      What became of each.

    Raises:
      StoppedError: a signal came; the array goes on.
      UserError: sbatch refused, or the controller does not answer.
    """
    outcomes: list[SweepOutcome] = []
    rest = list(todo)
    with interrupts.noted() as signalled:
        while rest:
            with locks.held(sweep.folder / "submit.lock") as lock:
                array = _find(sweep)
                if array is None:
                    array = _submit(sweep, rest, options, lock)
                    progress.say(
                        f"SLURM job array {array.job}: {len(array.numbers)} runs submitted"
                    )
                else:
                    progress.say(f"SLURM job array {array.job} of this sweep is there: waiting")
            members = [run for run in rest if run.name in array.numbers]
            rest = [run for run in rest if run.name not in array.numbers]
            watch = _Watch(sweep, array, members, progress)
            outcomes += watch.wait(signalled)
            while rest and _find(sweep):  # it has none of these: another one has to follow
                watch.sleep(_POLL_SECONDS[1], signalled)
    return outcomes


def task(folder: Path) -> int:
    """Does a run of a sweep, as the task of its array that this is; returns the exit status."""
    sweep = Sweep.read(folder)
    number = os.environ.get("SLURM_ARRAY_TASK_ID", "")
    if not number.isdecimal() or int(number) >= len(sweep.runs):
        raise UserError(
            f"SLURM_ARRAY_TASK_ID={number}: expected the number of one of the {len(sweep.runs)} "
            f"runs of {folder}."
        )
    run = sweep.runs[int(number)]
    sweep.forget_failure(run)
    if sweep.finished(run):
        return 0
    began = time.monotonic()
    try:
        with SweepProgress([run], done=0) as progress:
            (outcome,) = local.execute(sweep, [run], Settings(jobs=1), progress)
    except StoppedError as stopped:
        seconds = time.monotonic() - began
        sweep.write_failure(SweepOutcome(run, "failed", (), seconds, sweep.log(run), _STOPPED))
        return 128 + stopped.signal
    if outcome.state == "failed":
        sweep.write_failure(outcome)
        return 1
    return 0


class _Task(NamedTuple):
    """State of a task, as SLURM tells it."""

    state: str
    reason: str  # why it waits

    @property
    def is_active(self) -> bool:
        """Tells whether it may still run."""
        return self.state not in _ENDED


class _Watch:
    """Waits for the runs of an array."""

    def __init__(
        self, sweep: Sweep, array: _Array, members: Sequence[Run], progress: SweepProgress
    ) -> None:
        self._sweep, self._array, self._progress = sweep, array, progress
        self._left = list(members)
        self._last: dict[int, str] = {}  # state in which a task was seen last
        self._gone: dict[str, float] = {}  # since when a run is in no queue
        self._moved = time.monotonic()  # when a task was seen running

    def wait(self, signalled: Callable[[], int | None]) -> list[SweepOutcome]:
        """Returns what became of each run, in the order in which that was seen."""
        outcomes: list[SweepOutcome] = []
        began = answered = time.monotonic()
        while self._left:
            tasks = _tasks(self._sweep, self._array.job)
            now = time.monotonic()
            if tasks is not None:
                answered = now
                self._last |= {number: task.state for number, task in tasks.items()}
                self._show(tasks, now)
            elif now - answered > _PATIENCE_SECONDS:
                raise UserError(
                    f"SLURM has not answered for {_PATIENCE_SECONDS / 60:.0f} minutes; job array "
                    f"{self._array.job} may go on, and the same command attaches to it."
                )
            for run in list(self._left):
                if outcome := self._outcome(run, tasks, now):
                    self._left.remove(run)
                    self._progress.tell(outcome)
                    outcomes.append(outcome)
            low, high = _POLL_SECONDS
            self.sleep(min(high, low + (now - began) / 30) if self._left else 0, signalled)
        return outcomes

    def _show(self, tasks: Mapping[int, _Task], now: float) -> None:
        """Shows how many tasks run, and says why none does for long."""
        active = [task for task in tasks.values() if task.is_active]
        running = sum(task.state != "PENDING" for task in active)
        self._progress.show(running)
        if running or not active:
            self._moved = now
        elif now - self._moved > _QUIET_SECONDS:
            self._moved = now
            reasons = ", ".join(sorted({task.reason for task in active}))
            self._progress.say(f"SLURM job array {self._array.job} is waiting: {reasons}")

    def _outcome(
        self, run: Run, tasks: Mapping[int, _Task] | None, now: float
    ) -> SweepOutcome | None:
        """Returns the outcome of a run, or None while it may still run."""
        number, log = self._array.numbers[run.name], self._sweep.log(run)
        if done := self._sweep.finished(run):
            return SweepOutcome(run, "finished", done.records, done.seconds, log)
        if tasks is None or (number in tasks and tasks[number].is_active):
            return None  # a task that failed may have been queued again
        state = self._last.get(number, "gone from the queue").lower()
        if failed := self._sweep.failure(run):
            told = f"{_STOPPED}: {state}" if failed.reason == _STOPPED else failed.reason
            return dataclasses.replace(failed, reason=told)
        if now - self._gone.setdefault(run.name, now) < _GRACE_SECONDS:
            return None
        if not log.exists():
            log = self._sweep.folder / f"slurm-{self._array.job}_{number}.log"
        return SweepOutcome(run, "failed", (), None, log, f"{_STOPPED}: {state}")

    def sleep(self, seconds: float, signalled: Callable[[], int | None]) -> None:
        """Sleeps, or raises if a signal comes."""
        until = time.monotonic() + seconds
        while True:
            if number := signalled():
                job = self._array.job
                raise StoppedError(
                    number,
                    f"interrupted; job array {job} goes on (scancel {job} ends it), and the same "
                    "command attaches to it.",
                )
            if (left := until - time.monotonic()) <= 0:
                return
            time.sleep(min(left, 0.2))


def _find(sweep: Sweep) -> _Array | None:
    """The array of a sweep that is queued or running."""
    found = _squeue("%F|%T", f"--name={_job_name(sweep)}")
    if found is None:
        raise UserError("squeue failed: is SLURM's controller running?")
    active = [job for job, state in found if state not in _ENDED]
    if not active:
        return None
    # The numbers are those of the command that submitted it, whose order may have been another.
    runs = Sweep.read(sweep.folder).runs
    path = sweep.folder / _ARRAY_NAME
    submitted = store.read_json(path).get("runs", range(len(runs)))
    try:
        return _Array(active[0], {runs[number].name: number for number in submitted})
    except (IndexError, TypeError) as error:
        raise UserError(f"{path} is damaged; job {active[0]} is of this sweep.") from error


def _submit(sweep: Sweep, todo: Sequence[Run], options: Settings, lock: IO[bytes]) -> _Array:
    wanted = {run.name for run in todo}
    numbers = {run.name: n for n, run in enumerate(sweep.runs) if run.name in wanted}
    for run in todo:
        sweep.forget_failure(run)
        if sweep.rerun:
            sweep.forget(run)
    sweep.write()
    store.write_json(sweep.folder / _ARRAY_NAME, {"runs": list(numbers.values())})
    folder = sweep.folder.resolve()
    limit = f"%{options.jobs}" if options.jobs else ""
    command = [
        "sbatch",
        *options.options,
        *([f"--partition={options.partition}"] if options.partition else []),
        *([f"--time={options.time}"] if options.time else []),
        *([f"--gres=gpu:{options.gpus}"] if options.gpus else []),
        "--parsable",
        f"--array={_ranges(list(numbers.values()))}{limit}",
        f"--job-name={_job_name(sweep)}",
        f"--chdir={Path.cwd()}",
        # A percent sign in a path would be one of SLURM's patterns.
        f"--output={str(folder).replace('%', '%%')}/slurm-%A_%a.log",
    ]
    python = shlex.join([sys.executable, "-P", "-m", "jaxinv.sweeps", f"--task={folder}"])
    # sbatch holds the lock, too: should this process be killed, nobody submits beside it.
    done = _call(command, f"#!/bin/sh\nexec {python}\n", lock.fileno())
    if done is None or done.returncode:
        said = (done.stderr.strip().splitlines() if done else None) or ["sbatch failed."]
        raise UserError(f"SLURM took no job: {said[-1]}")
    job = done.stdout.strip().splitlines()[-1].split(";")[0]
    return _Array(job, numbers)


def _ranges(numbers: Sequence[int]) -> str:
    """`0-2,5` for 0, 1, 2, 5: of a thousand runs SLURM would not take the list."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in ranges)


def _job_name(sweep: Sweep) -> str:
    key = records.config_hash({"folder": str(sweep.folder.resolve())})
    return f"jaxinv-{key}"


def _tasks(sweep: Sweep, job: str) -> dict[int, _Task] | None:
    """An array's tasks by number, as long as SLURM remembers them; None if it is mute."""
    found = _squeue("%F|%K|%T|%r", f"--name={_job_name(sweep)}")
    if found is None:
        return None
    return {int(number): _Task(*told) for base, number, *told in found if base == job}


def _squeue(form: str, *options: str) -> list[list[str]] | None:
    """Returns squeue's lines about this user's jobs, or None if it fails."""
    done = _call(
        [
            *("squeue", "--noheader", "--array", "--states=all", f"--user={os.getuid()}"),
            *(f"--format={form}", *options),
        ]
    )
    if done is None or done.returncode:
        return None
    return [line.strip().split("|") for line in done.stdout.splitlines()]


def _call(
    command: Sequence[str], text: str = "", *inherited: int
) -> subprocess.CompletedProcess[str] | None:
    """Runs a command of SLURM's, which a Ctrl-C does not reach; None if it cannot or takes long."""
    try:
        return subprocess.run(
            command,
            input=text,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",  # a path need not be text
            timeout=300,
            pass_fds=inherited,
            start_new_session=True,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
