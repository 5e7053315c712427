"""Report: one HTML page of all that runs have found, and its figures.

Reads the records below --workdir and nothing else. The page begins with what to choose, and goes on
to the cost of each choice, attacks split by split, defences, pictures, the paper's numbers, what
each attacker knew, and where the numbers come from. It needs no network: open it in any browser,
print it, or send it. The figures lie beside it, in figures/.

  jaxinv report
  jaxinv report --workdir=results --dataset=mnist --out=mnist.html
  jaxinv report --formats=
"""

import dataclasses
import os
from pathlib import Path

from jaxinv import report
from jaxinv.errors import UsageError
from jaxinv.studies.config import WorkConfig
from jaxinv.studies.experiment import Experiment, setting


@dataclasses.dataclass(frozen=True)
class ReportConfig(WorkConfig):
    """Settings of a report."""

    workdir: str = setting("results", "Folder of the runs to report on.", is_path=True)
    dataset: tuple[str, ...] | None = setting(
        None, "Only runs on these datasets, a comma list. By default all."
    )
    out: str | None = setting(
        None, "The page. By default <workdir>/report/index.html.", is_path=True
    )
    formats: tuple[str, ...] = setting(
        tuple(report.FORMATS),
        f"Of the figures beside the page, some of {', '.join(report.FORMATS)}; empty for none.",
        may_be_empty=True,
    )


def run(config: ReportConfig) -> list[dict[str, str]]:
    """Writes the page and its figures; returns the `path` of the page."""
    formats = [name.lower() for name in config.formats]
    for name in formats:
        if name not in report.FORMATS:
            raise UsageError(f"formats={name}: expected some of {', '.join(report.FORMATS)}.")
    path = Path(config.out or Path(config.workdir, "report", "index.html"))
    if os.path.isdir(path):  # Path's would raise where a name is too long
        raise UsageError(f"out={path}: is a folder; expected the name of an HTML file.")
    found = report.read(config.workdir, config.dataset)
    written = report.write(found, path, formats=formats)
    size = path.stat().st_size / 1e6
    print(f"{len(found)} runs on one page of {size:.1f} MB, {len(written) - 1} figures beside it")
    return [{"path": str(path)}]


EXPERIMENT = Experiment("report", ReportConfig, run, __doc__, computes=False)
