"""Many runs of one experiment: a grid over its flags, each point done once.

jaxinv sweep EXPERIMENT [--flag=value[,value...] ...]

Every flag that the experiment takes one value of may be given several here, with commas between,
and so may --split, of which "all" is every cut of the network, or a dozen of many. Each combination
is a run of its own. Flags that are lists to the experiment (--level, --defense, --num_queries, ...)
stay whole, because what they name is learned or shown together. --workdir and --rerun hold for the
whole sweep.

Over several --target_seed a second table has a line for all targets together: mean, 95% interval
over targets and images, standard deviation, least and most, the number of dead runs, and how many
targets are above what the paper prints.

Runs that are finished are skipped, the others are run several at once. The same command goes on
after a kill, of a run, of the sweep or of the machine, at any moment; several sweeps at once share
their runs. Each run has a log in <workdir>/sweeps/<sweep>/, whose summary.json is the last line
printed. Exit status: 0; 1 if a run failed; 2 for a mistake in the command, before anything starts;
130 or 143 when interrupted.

  jaxinv sweep whitebox --split=all --seed=0,1,2
  jaxinv sweep whitebox --split=conv1,relu2 --method=paper,tv --target_seed=0,1,2,3,4,5,6,7,8,9
  JOBS=4 jaxinv sweep blackbox --dataset=mnist,cifar10 --split=all --method=paper,strong
  jaxinv sweep defenses --split=conv1,relu2,fc1 --defense=dropout --level=0,.2,.4,.6,.8
  EXECUTOR=slurm PARTITION=gpu TIME=2:00:00 GPUS=1 jaxinv sweep whitebox --split=all

Environment variables:
  JOBS            runs at once (default: one on each core, with NVIDIA GPUs one on two cores, as
                  far as there is memory; with SLURM: as many as it starts). On CPU they share the
                  cores evenly, else the GPUs
  EXECUTOR        local (default), or slurm: one job array, a task for each run that is left. If it
                  is still queued or running, the same command attaches to it
  PARTITION       of SLURM's jobs, as for sbatch
  TIME            limit for each run, as for sbatch: minutes, or days-hours:minutes:seconds
  GPUS            for each run
  SBATCH_OPTIONS  more options of sbatch, as in "--account=lab --cpus-per-task=4 --mem=8G"
"""

import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from jaxinv import sweeps
from jaxinv.errors import UsageError
from jaxinv.machine import environment
from jaxinv.store import files
from jaxinv.studies import cli, experiment
from jaxinv.sweeps import grid, slurm, summary

_PROGRAM = "sweep"
_TASK = "--task="


def main(arguments: Sequence[str]) -> int:
    """Runs a sweep and returns the exit status."""
    if {"-h", "--help"} & set(arguments):
        print((__doc__ or "").strip())
        print(f"\nExperiments: {', '.join(experiment.MODULES)}")
        return 0
    if arguments and arguments[0].startswith(_TASK):  # of a job array of ours
        return slurm.task(Path(arguments[0].removeprefix(_TASK)))
    if not arguments or arguments[0].startswith("-"):
        raise UsageError(
            f"expected the name of an experiment first, one of {', '.join(experiment.MODULES)}; "
            "--help tells more."
        )
    script, *rest = arguments
    settings = sweeps.Settings.from_environment()
    given = grid.parse(script, rest)
    environment.check_promotion()
    default = str(grid.flags_of(script)["workdir"].default)
    workdir = files.expanded("workdir", given.pop("workdir", default))
    rerun = grid.values(script, "rerun", given.pop("rerun", "false")) == ["true"]
    runs = sweeps.expand(script, given)
    outcomes = sweeps.run(runs, workdir, rerun=rerun, settings=settings)
    path = summary.write(sweeps.Sweep(tuple(runs), Path(workdir)), outcomes)
    print(summary.table(outcomes))
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    if failed:
        first = f"{failed[0].run}: {failed[0].reason}; log: {failed[0].log}"
        _say(f"{len(failed)} of {len(outcomes)} runs failed, the first: {first}")
    print(path)
    return 1 if failed else 0


def _say(message: str) -> None:
    print(f"{_PROGRAM}: error: {' '.join(message.splitlines())}", file=sys.stderr)


def run(arguments: Sequence[str]) -> int:
    """Runs a sweep; says on stderr what went wrong, in a line, and returns the exit status."""
    names: Iterable[str] = ()
    try:
        if arguments and arguments[0] in experiment.MODULES:
            names = experiment.find(arguments[0]).settings
    except UsageError as error:
        _say(str(error))
        return error.exit_code
    return cli.guarded(_PROGRAM, partial(main, arguments), names)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
