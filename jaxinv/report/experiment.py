"""Report: one HTML page of all that runs have found, and its figures.

Reads the records below --workdir and nothing else. The page begins with what to choose, and goes on
to the cost of each choice, attacks split by split, defences, pictures, the paper's numbers, what
each attacker knew, and where the numbers come from. It needs no network: open it in any browser,
print it, or send it. The figures lie beside it, in figures/.

  python experiments/report.py
  python experiments/report.py --workdir=results --dataset=mnist --out=mnist.html
  python experiments/report.py --formats=
"""

from pathlib import Path

from absl import flags

from jaxinv import report
from jaxinv.errors import UsageError
from jaxinv.studies import cli

FLAGS = flags.FLAGS
flags.DEFINE_string("workdir", "results", "Folder of the runs to report on.")
flags.DEFINE_list("dataset", None, "Only runs on these datasets, a comma list. By default all.")
flags.DEFINE_string("out", None, "The page. By default <workdir>/report/index.html.")
flags.DEFINE_list(
    "formats",
    ",".join(report.FORMATS),
    f"Of the figures beside the page, some of {', '.join(report.FORMATS)}; empty for none.",
)


def main() -> Path:
    formats = [name.strip().lower() for name in FLAGS.formats if name.strip()]
    for name in formats:
        if name not in report.FORMATS:
            raise UsageError(f"--formats={name}: expected some of {', '.join(report.FORMATS)}.")
    path = Path(FLAGS.out or Path(FLAGS.workdir) / "report" / "index.html")
    if path.is_dir():
        raise UsageError(f"--out={path} is a folder; expected the name of an HTML file.")
    found = report.read(FLAGS.workdir, FLAGS.dataset)
    written = report.write(found, path, formats=formats)
    size = path.stat().st_size / 1e6
    print(f"{len(found)} runs on one page of {size:.1f} MB, {len(written) - 1} figures beside it")
    return path


if __name__ == "__main__":
    cli.run(main)
