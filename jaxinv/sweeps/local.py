"""Runs on this machine, several at once, each in a process of its own.

A run's process inherits its lock, so that a run whose sweep was killed stays taken until it ends,
and is neither done twice nor beside as many others as are wanted.
"""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from jaxinv.errors import UsageError
from jaxinv.store import records
from jaxinv.sweeps import interrupts, settings
from jaxinv.sweeps.interrupts import StoppedError
from jaxinv.sweeps.settings import Settings
from jaxinv.sweeps.store import Run, Sweep, SweepOutcome
from jaxinv.sweeps.summary import SweepProgress

_POLL_SECONDS = 0.05
_SECONDS_TO_STOP = 5.0
_INTERRUPTED = "interrupted; the same command goes on from what is finished."


# A process of its own, for whoever starts a device takes its memory from the runs.
_STARTS_DEVICES = """
import sys
from jaxinv.errors import UserError
from jaxinv.machine import devices
try:
    devices.start()
except UserError as error:
    sys.exit(str(error))
"""


def check_devices() -> None:
    """Starts the devices that the environment asks for once, where it asks for others than CPUs.

    Raises:
      UsageError: they are not here.
    """
    if os.environ.get("JAX_PLATFORMS", "") in ("", "cpu"):
        return
    command = [sys.executable, "-P", "-c", _STARTS_DEVICES]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    if done.returncode:
        raise UsageError((done.stderr.strip().splitlines() or ["JAX starts no device."])[-1])


class _Begun(NamedTuple):
    """A run that is under way."""

    run: Run
    process: subprocess.Popen[bytes]
    lock: IO[bytes]
    listing: Path
    since: float


def execute(
    sweep: Sweep, todo: Sequence[Run], options: Settings, progress: SweepProgress
) -> list[SweepOutcome]:
    """Runs what is left to do, in order as far as it is not taken.

    What another sweep is at is waited for, and counts among those that run at once. Where there
    are several GPUs, each run has one of them, maybe beside others; without one, each has its share
    of the cores.

    Args:
      sweep: whose runs they are.
      todo: of its runs.
      options: `jobs` of them count.
      progress: is told of every outcome.

    Returns:
      What became of each, in the order in which they ended.

    Raises:
      StoppedError: a signal came; what was begun here has been stopped.
      UserError: a marker or a log cannot be written.
    """
    gpus = settings.visible_gpus()
    jobs = min(options.jobs or settings.default_jobs(gpus), len(sweep.runs))
    if sweep.rerun:
        for run in todo:
            sweep.forget(run)
    # Also what is left of a sweep has one GPU a run, or it would find other last digits.
    crew = _Crew(sweep, todo, min(jobs, len(todo)), gpus, progress, pinned=jobs > 1)
    with interrupts.noted() as signalled:
        try:
            while crew.is_busy:
                if number := signalled():
                    raise StoppedError(number, _INTERRUPTED)
                crew.collect()
                crew.fill()
                time.sleep(_POLL_SECONDS)
        finally:
            crew.stop()
    return crew.outcomes


class _Crew:
    """Runs that wait, and those that are under way here.

    Attributes:
      outcomes: what became of those that have ended.
    """

    def __init__(
        self,
        sweep: Sweep,
        todo: Sequence[Run],
        jobs: int,
        gpus: Sequence[str],
        progress: SweepProgress,
        *,
        pinned: bool,
    ) -> None:
        self._sweep, self._jobs, self._gpus, self._progress = sweep, jobs, gpus, progress
        self._pinned = pinned
        self._waiting = list(todo)
        self._begun: dict[int, _Begun] = {}  # by slot
        self._is_told = False
        self.outcomes: list[SweepOutcome] = []

    @property
    def is_busy(self) -> bool:
        """Tells whether any run is left."""
        return bool(self._waiting or self._begun)

    def collect(self) -> None:
        """Takes note of runs that have ended."""
        for slot, one in list(self._begun.items()):
            if one.process.poll() is not None:
                del self._begun[slot]
                self._tell(_conclude(self._sweep, one))

    def fill(self) -> None:
        """Begins as many runs as fit beside those that are under way, here or elsewhere."""
        if len(self._begun) == self._jobs:
            self._progress.show(len(self._begun))
            return
        taken = sum(self._sweep.is_taken(run) for run in self._waiting)
        for run in list(self._waiting):
            if len(self._begun) + taken >= self._jobs:
                break
            if lock := self._sweep.lock(run):
                self._waiting.remove(run)
                self._begin(run, lock, confined=not taken)
        if taken and not self._begun and not self._is_told:
            self._is_told = True
            self._progress.say(
                "Waiting for runs that another sweep, or one that was killed, began."
            )
        self._progress.show(len(self._begun), taken)

    def stop(self) -> None:
        """Ends what is under way with all that it has started; it leaves no half records."""
        begun = self._begun.values()
        for number in (signal.SIGTERM, signal.SIGKILL):
            for one in begun:
                if one.process.poll() is None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(one.process.pid, number)
            deadline = time.monotonic() + _SECONDS_TO_STOP
            while time.monotonic() < deadline and any(one.process.poll() is None for one in begun):
                time.sleep(_POLL_SECONDS)
        for one in begun:
            one.lock.close()

    def _begin(self, run: Run, lock: IO[bytes], confined: bool) -> None:
        if outcome := self._sweep.finished(run):  # by another sweep, meanwhile
            lock.close()
            self._tell(outcome)
            return
        slot = min(set(range(self._jobs)) - self._begun.keys())
        share = _share(slot, self._gpus, pinned=self._pinned)
        # What is taken elsewhere has cores that are not known here.
        cores = _cores(slot, self._jobs) if confined and not self._gpus else set()
        self._begun[slot] = _begin(self._sweep, run, lock, share, cores)

    def _tell(self, outcome: SweepOutcome) -> None:
        self.outcomes.append(outcome)
        self._progress.tell(outcome)


def _share(slot: int, gpus: Sequence[str], *, pinned: bool) -> dict[str, str]:
    """Returns the variables that tell a run its GPUs: one if pinned, else all."""
    share = {}
    if pinned and len(gpus) > 1:
        share["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
    if gpus and "XLA_PYTHON_CLIENT_PREALLOCATE" not in os.environ:
        share["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # or the first one takes all memory
    return share


def _cores(slot: int, jobs: int) -> set[int]:
    """Returns the cores of a run; none where it shares them all or cannot be pinned."""
    if not hasattr(os, "sched_getaffinity"):  # Linux only
        return set()
    usable = sorted(os.sched_getaffinity(0))
    return set(usable[slot::jobs]) if 1 < jobs <= len(usable) else set()


@contextlib.contextmanager
def _confined(cores: set[int]) -> Iterator[None]:
    """Pins processes that start meanwhile to some cores, with as many threads; to all if none.

    Runs that spread over the same cores wait for each other: small steps end when the last thread
    does. Where it is not allowed, they do.
    """
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, before)


def _begin(
    sweep: Sweep, run: Run, lock: IO[bytes], share: dict[str, str], cores: set[int]
) -> _Begun:
    command = [
        sys.executable,
        *("-P", "-m", "jaxinv", run.script),
        *(f"--{name}={value}" for name, value in run.flags.items()),
        f"--workdir={sweep.workdir}",
        *(["--rerun"] if sweep.rerun else []),
    ]
    listing = sweep.folder / f"{run.name}.records"
    listing.unlink(missing_ok=True)
    with sweep.open_log(run) as log, _confined(cores):
        log.write(f"$ {shlex.join(command)}\n".encode(errors="surrogateescape"))
        log.flush()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={
                **os.environ,
                **share,
                "JAXINV_RECORDS": str(listing.resolve()),
                "PYTHONUNBUFFERED": "1",
            },
            pass_fds=[lock.fileno()],
            start_new_session=True,  # Ctrl-C is ours to act on
        )
    return _Begun(run, process, lock, listing, time.monotonic())


def _conclude(sweep: Sweep, one: _Begun) -> SweepOutcome:
    seconds = time.monotonic() - one.since
    log = sweep.log(one.run)
    with one.lock:
        if reason := _ending(one.process.returncode):
            return SweepOutcome(one.run, "failed", (), seconds, log, reason)
        paths = _records(sweep, one.listing)
        if not paths:
            return SweepOutcome(one.run, "failed", (), seconds, log, "it left no whole record")
        outcome = SweepOutcome(one.run, "finished", paths, seconds, log)
        sweep.mark(outcome)
        one.listing.unlink(missing_ok=True)
    return outcome


def _ending(status: int) -> str:
    """An exit status in words; nothing for success."""
    if status < 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-status).name}"
    return f"exit status {status}" if status else ""


def _records(sweep: Sweep, listing: Path) -> tuple[Path, ...]:
    """Returns the records that a run made or read, the last at the end; none if one is not whole.

    A run lists each (`records.note`), and again the one that it ends with.
    """
    try:
        noted = [Path(json.loads(line)) for line in listing.read_text("utf-8").splitlines()]
    except (OSError, ValueError, TypeError):
        return ()
    # The last place of each counts.
    paths = tuple(reversed(dict.fromkeys(reversed(noted))))
    whole = all(
        path.name == records.RECORD_NAME
        and path.is_relative_to(sweep.workdir)
        and records.read(path.parent)
        for path in paths
    )
    return paths if whole else ()
