"""Command line of jaxinv: how well an untrusted cloud reconstructs a split network's inputs.

  jaxinv EXPERIMENT [--flag=value ...]
  jaxinv sweep EXPERIMENT [--flag=value[,value...] ...]
  jaxinv completion bash|zsh

jaxinv EXPERIMENT --help lists the flags of one; jaxinv sweep --help tells how sweeps run. What
completion prints makes a shell complete all of them: source <(jaxinv completion bash).
"""

import sys
from collections.abc import Sequence
from functools import partial

from jaxinv.errors import UsageError
from jaxinv.studies import cli, completion, experiment

_PROGRAM = "jaxinv"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what a command line asks for and returns the exit status."""
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help", "help"):
        return cli.guarded(_PROGRAM, lambda: print(_help()))
    if name == "sweep":
        from jaxinv.sweeps import __main__ as sweep

        return sweep.run(rest)
    if name == "completion":
        return cli.guarded(_PROGRAM, lambda: print(completion.script(" ".join(rest)), end=""))
    if name not in experiment.MODULES:
        return cli.guarded(_PROGRAM, partial(_refuse, name))
    cli.main(name, rest, f"{_PROGRAM} {name}")
    return 0


def _refuse(name: str) -> None:
    known = ", ".join([*experiment.MODULES, "sweep", "completion"])
    raise UsageError(f"{name}: expected one of {known}.")


def _help() -> str:
    lines = [f"  {name:<14}{experiment.summary(name)}" for name in experiment.MODULES]
    return "\n".join([(__doc__ or "").strip(), "", "Experiments:", *lines])


if __name__ == "__main__":
    sys.exit(main())
