"""Command line of jaxinv: how well an untrusted cloud reconstructs a split network's inputs.

  jaxinv EXPERIMENT [--flag=value ...]
  jaxinv sweep EXPERIMENT [--flag=value[,value...] ...]

jaxinv EXPERIMENT --help lists the flags of one; jaxinv sweep --help tells how sweeps run.
"""

import sys
from collections.abc import Sequence

from jaxinv.studies import cli, experiment


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what a command line asks for and returns the exit status."""
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help", "help"):
        print(_help())
    elif name == "sweep":
        from jaxinv.sweeps import __main__ as sweep

        return sweep.run(rest)
    elif name not in experiment.MODULES:
        known = ", ".join([*experiment.MODULES, "sweep"])
        print(f"jaxinv: error: {name}: expected one of {known}.", file=sys.stderr)
        return 2
    else:
        cli.main(name, rest, f"jaxinv {name}")
    return 0


def _help() -> str:
    lines = [f"  {name:<14}{experiment.summary(name)}" for name in experiment.MODULES]
    return "\n".join([(__doc__ or "").strip(), "", "Experiments:", *lines])


if __name__ == "__main__":
    sys.exit(main())
