"""Sweeps: many runs of experiments, here or on a SLURM cluster, each done once.

    runs = sweeps.expand("whitebox", {"dataset": "mnist", "split": "all", "seed": "0,1,2"})
    outcomes = sweeps.run(runs, "results")

`grid` makes runs of flags, `store` knows which are finished, `local` and `slurm` run the others,
`summary` tells what became of them. Any of it may be killed at any moment; the same call goes on.
Importing this package imports no JAX.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from jaxinv.errors import UserError
from jaxinv.store import files
from jaxinv.sweeps import local, slurm
from jaxinv.sweeps.grid import expand
from jaxinv.sweeps.interrupts import StoppedError
from jaxinv.sweeps.settings import Settings
from jaxinv.sweeps.store import Run, Sweep, SweepOutcome
from jaxinv.sweeps.summary import SweepProgress

__all__ = ["Run", "Settings", "StoppedError", "Sweep", "SweepOutcome", "check", "expand", "run"]


def run(
    runs: Sequence[Run],
    workdir: str = "results",
    *,
    rerun: bool = False,
    settings: Settings | None = None,
) -> list[SweepOutcome]:
    """Runs what is not finished yet, several at once, and tells on stderr how it goes.

    Args:
      runs: of one experiment or of several, as `expand` makes them; the same run twice counts once.
      workdir: of all runs.
      rerun: whether to run again what is finished.
      settings: where and how many at once; by default as the environment says.

    Returns:
      What became of each, in order. A run that failed is among them: it raises nothing.

    Raises:
      UserError: the work folder cannot be written, SLURM cannot be used, or `JAX_PLATFORMS` names a
        device that is not here.
      StoppedError: SIGINT, SIGTERM or SIGHUP came, and runs that were begun here were stopped.
    """
    settings = settings or Settings.from_environment()
    sweep = Sweep(tuple({run.name: run for run in runs}.values()), Path(workdir), rerun)
    known = {} if rerun else sweep.known()
    todo = [run for run in sweep.runs if run.name not in known]
    if todo and settings.executor == "local":
        local.check_devices()
    files.ensure_writable(workdir)
    print(
        f"Runs: {len(sweep.runs)}, finished before: {len(known)}; logs: {sweep.folder}/",
        file=sys.stderr,
    )
    if todo:
        execute = slurm.execute if settings.executor == "slurm" else local.execute
        with SweepProgress(sweep.runs, done=len(known)) as progress:
            for outcome in execute(sweep, todo, settings, progress):
                known[outcome.run.name] = outcome
    return [known[run.name] for run in sweep.runs]


def check(outcomes: Sequence[SweepOutcome]) -> None:
    """Checks that no run failed.

    Raises:
      UserError: some did; it tells how many, and why the first of them.
    """
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    if failed:
        first = failed[0]
        raise UserError(
            f"{len(failed)} of {len(outcomes)} runs failed: {first.run}: {first.reason}; log: "
            f"{first.log}. The same command goes on."
        )
