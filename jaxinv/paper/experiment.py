"""The paper: every table and figure of He, Zhang & Lee (2021), made again and beside ours.

Runs what Figs. 3 to 15 show on MNIST and CIFAR-10, with the authors' settings (--method=paper)
and with ours, JOBS runs at a time; what is finished is not done again, so a command that was killed
goes on. Ends in a picture for each figure, Fig. 2 among them, in the report on one page, and in a
table of ours against the paper's numbers; --publish puts it into experiments/RESULTS.md, with the
pictures.

  ./launch.sh paper
  ./launch.sh paper --dataset=mnist
  ./launch.sh paper --dataset=mnist_5k --num_images=5
"""

import dataclasses
import shlex
import shutil
from pathlib import Path

import jaxinv
from jaxinv import report, sweeps
from jaxinv.errors import UsageError
from jaxinv.inputs import data
from jaxinv.paper import parts, pictures, table
from jaxinv.store import files
from jaxinv.studies.config import PlacesConfig
from jaxinv.studies.experiment import Experiment, setting, spelled
from jaxinv.tables import blocks

ROOT = Path(jaxinv.__file__).parent.parent
TABLE_NAME = "paper.md"
_KNOWN = (*parts.DATASETS, "mnist_5k")


@dataclasses.dataclass(frozen=True)
class PaperConfig(PlacesConfig):
    """Settings of the paper's reproduction."""

    dataset: tuple[str, ...] = setting(
        tuple(parts.DATASETS),
        "One or several of mnist, cifar10 and mnist_5k, which stands in for MNIST.",
    )
    num_images: int | None = setting(
        None,
        "Images in every run; by default enough for each figure, or all of a smaller test split.",
    )
    publish: bool = setting(
        False,
        "Put the pictures into experiments/figures/ of the checkout and the table into "
        "experiments/RESULTS.md.",
    )


def run(config: PaperConfig) -> list[dict[str, str]]:
    """Runs what is not finished yet, and writes pictures, page and table; returns its `path`."""
    chosen = list(dict.fromkeys(config.dataset))
    for name in chosen:
        if name not in _KNOWN:
            raise UsageError(f"dataset={name}: expected some of {', '.join(_KNOWN)}.")
    workdir = Path(config.workdir)
    files.ensure_writable(workdir)
    wanted = parts.of_datasets(chosen, num_images=config.num_images)
    if config.num_images is None:
        tests = {name: data.load(name, data_dir=config.data_dir).test for name in chosen}
        wanted, told = parts.fitted(wanted, {name: len(test) for name, test in tests.items()})
        print(*told, sep="\n", end="\n" * bool(told))
    extra = {"seed": str(config.seed)}
    if config.data_dir is not None:
        extra["data_dir"] = config.data_dir
    done, outcomes = parts.run(wanted, str(workdir), extra=extra)
    folder = workdir / "paper"
    drawn = pictures.draw(done, folder, data_dir=config.data_dir)
    print(f"{len(drawn)} pictures: {folder}/")
    page = workdir / "report" / "index.html"
    report.write(report.read(str(workdir), None), page)
    print(f"Everything on one page: {page}")
    text = table.table(done, _command(config))
    print(f"\n{text}\n")
    path = folder / TABLE_NAME
    files.atomic_write(path, lambda file: file.write(f"{text}\n".encode()))
    sweeps.check(outcomes)
    if config.publish:
        folder = ROOT / "experiments" / "figures"
        for picture in drawn:
            shutil.copy(picture, folder)
        results = ROOT / "experiments" / "RESULTS.md"
        blocks.publish(text, results, EXPERIMENT.name)
        print(f"Published: {folder}/ and {results}")
    return [{"path": str(path)}]


def _command(config: PaperConfig) -> str:
    """The command, without this machine's folders."""
    flags = spelled(config)
    return shlex.join(["./launch.sh", "paper", *(f"--{k}={v}" for k, v in flags.items())])


EXPERIMENT = Experiment("paper", PaperConfig, run, __doc__)
