"""The paper: every table and figure of He, Zhang & Lee (2021), made again and beside ours.

Runs what Figs. 3 to 15 show on MNIST and CIFAR-10, with the authors' settings (--method=paper)
and with ours, JOBS runs at a time; what is finished is not done again, so a command that was killed
goes on. Ends in a picture for each figure, Fig. 2 among them, in the report on one page, and in a
table of ours against the paper's numbers, which --publish puts into the README with the pictures.

  ./launch.sh paper
  ./launch.sh paper --dataset=mnist
  ./launch.sh paper --dataset=mnist_5k --num_images=5
"""

import shlex
import shutil
import sys
from pathlib import Path

from absl import flags

from jaxinv import report
from jaxinv.errors import UsageError, UserError
from jaxinv.paper import reproduction
from jaxinv.store import files
from jaxinv.studies import cli

ROOT = Path(__file__).resolve().parent.parent
TABLE_NAME = "paper.md"

FLAGS = flags.FLAGS
flags.DEFINE_list(
    "dataset",
    ",".join(reproduction.DATASETS),
    "One or several of mnist, cifar10 and mnist_5k, which stands in for MNIST.",
)
cli.define_count("num_images", None, "Images in every run; by default enough for each figure.")
flags.DEFINE_boolean(
    "publish",
    False,
    "Put the pictures into experiments/figures/ and the table into README.md, beside this script.",
)
cli.place_flags()


def main() -> Path:
    known = (*reproduction.DATASETS, "mnist_5k")
    chosen = list(dict.fromkeys(name.strip() for name in FLAGS.dataset))
    for name in chosen or [""]:
        if name not in known:
            raise UsageError(f"--dataset={name}: expected some of {', '.join(known)}.")
    workdir = Path(FLAGS.workdir)
    files.ensure_writable(workdir)
    parts = reproduction.parts(chosen, num_images=FLAGS.num_images)
    extra = {"seed": str(FLAGS.seed)}
    if FLAGS.data_dir is not None:
        extra["data_dir"] = FLAGS.data_dir
    done, outcomes = reproduction.run(parts, str(workdir), extra=extra)
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    folder = workdir / "paper"
    drawn = reproduction.draw(done, folder)
    print(f"{len(drawn)} pictures: {folder}/")
    page = workdir / "report" / "index.html"
    report.write(report.read(str(workdir), None), page)
    print(f"Everything on one page: {page}")
    table = reproduction.table(done, _command())
    print(f"\n{table}\n")
    path = folder / TABLE_NAME
    files.atomic_write(path, lambda file: file.write(f"{table}\n".encode()))
    if failed:
        first = failed[0]
        raise UserError(
            f"{len(failed)} of {len(outcomes)} runs failed: {first.run}: {first.reason}; log: "
            f"{first.log}. The same command goes on."
        )
    if FLAGS.publish:
        pictures = ROOT / "experiments" / "figures"
        for picture in drawn:
            shutil.copy(picture, pictures)
        reproduction.publish(table, ROOT / "README.md")
        print(f"Published: {pictures}/ and {ROOT / 'README.md'}")
    return path


def _command() -> str:
    """As it was given, without what names this machine's folders."""
    given = [flag for flag in sys.argv[1:] if not flag.startswith(("--workdir", "--data_dir"))]
    return shlex.join(["./launch.sh", "paper", *given])


if __name__ == "__main__":
    cli.run(main)
