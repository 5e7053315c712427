"""Runs that make the paper's figures again: which experiments, with which flags.

Source: He, Zhang & Lee 2021, Figs. 2 to 15. Pictures and the table are made of the records alone.
"""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxinv import sweeps
from jaxinv.errors import UserError
from jaxinv.store import records
from jaxinv.store.record import AttackRecord

DATASETS = ("mnist", "cifar10")

_QUICK = {"fit_steps": "300", "draws": "1"}
_DEFENDED = {"defense": "gaussian,laplace,dropout", "site": "feature,input"}


class Part(NamedTuple):
    """Some runs of one experiment that belong together.

    Attributes:
      figures: of the paper, by number.
      name: of its picture.
      script: name of the experiment.
      flags: of it, as text; those with several values make as many runs (`sweeps.expand`).
    """

    figures: tuple[int, ...]
    name: str
    script: str
    flags: Mapping[str, str]

    @property
    def dataset(self) -> str:
        return self.flags["dataset"]


def of_datasets(datasets: Sequence[str], *, num_images: int | None = None) -> list[Part]:
    """All that the paper shows of these datasets, the longest runs of each first.

    Args:
      datasets: some of "mnist" and "cifar10"; "mnist_5k" stands in for the former.
      num_images: to attack in every run; by default as many as make a figure worth printing.
    """
    found: list[Part] = []
    for dataset in datasets:
        rows = _CIFAR if dataset == "cifar10" else _MNIST
        for part in rows:
            flags = {"dataset": dataset, **part.flags}
            if num_images is not None:
                flags["num_images"] = str(num_images)
            found.append(part._replace(flags=flags))
    return found


def fitted(chosen: Sequence[Part], available: Mapping[str, int]) -> tuple[list[Part], list[str]]:
    """Returns parts that attack no more images than there are, and a line on each smaller dataset.

    Args:
      chosen: with the usual numbers of images.
      available: number of test images of each dataset.
    """
    found, told = [], {}
    for part in chosen:
        most, usual = available[part.dataset], int(part.flags["num_images"])
        if usual > most:
            part = part._replace(flags={**part.flags, "num_images": str(most)})
            told[part.dataset] = (
                f"The test split of {part.dataset} has {most} images, fewer than the usual "
                f"numbers: all of them are attacked where those are larger."
            )
        found.append(part)
    return found, list(told.values())


def _both(
    figure: tuple[int, ...], script: str, paper_flags: dict[str, str], flags: dict[str, str]
) -> list[Part]:
    """The authors' attack and the strongest of ours."""
    ours = "map" if script == "whitebox" else "strong"
    return [
        Part(figure, f"{script}-paper", script, {"method": "paper", **paper_flags}),
        Part(figure, f"{script}-{ours}", script, {"method": ours, **flags}),
    ]


_MNIST = [
    Part(
        (6, 7, 8, 9),
        "defenses",
        "defenses",
        {"split": "relu2", **_DEFENDED, "num_images": "50", **_QUICK},
    ),
    *_both(
        (5, 14, 15),
        "queryfree",
        {"split": "conv1,relu2,fc1", "num_images": "50"},
        {
            "split": "conv1,relu2,fc1",
            "shadow_steps": "200",
            "fit_steps": "300",
            "num_images": "200",
        },
    ),
    *_both(
        (4,),
        "blackbox",
        {"split": "conv1,relu2", "fit_steps": "18750", "num_images": "200"},
        {"split": "conv1,relu2,fc1", "num_images": "200"},
    ),
    Part(
        (11, 13),
        "dropout",
        "defenses",
        {
            "split": "relu1,pool1,conv2,relu2,pool2",
            "defense": "dropout",
            "level": "0,.3,.6,.9",
            "num_images": "50",
            **_QUICK,
            "correction": "false",
        },
    ),
    *_both(
        (3,),
        "whitebox",
        {"split": "conv1,pool1,relu2,pool2,fc1,fc2", "num_images": "100"},
        {"split": "conv1,pool1,relu2,pool2,fc1,fc2", "num_images": "100"},
    ),
]
_CIFAR = [
    Part(
        (6, 7, 8, 10),
        "defenses",
        "defenses",
        {
            "split": "relu22",
            **_DEFENDED,
            "num_images": "10",
            **_QUICK,
            "correction": "false",
        },
    ),
    *_both(
        (4,),
        "blackbox",
        {"split": "relu22", "fit_steps": "5000", "num_images": "100"},
        {"split": "relu22", "num_images": "100"},
    ),
    *_both(
        (5,),
        "queryfree",
        {"split": "relu22", "shadow_steps": "1000", "num_images": "10"},
        {"split": "relu22", "shadow_steps": "60", "fit_steps": "300", "num_images": "100"},
    ),
    Part(
        (12, 13),
        "dropout",
        "defenses",
        {
            "split": "relu12,pool1,conv22,relu22,pool2",
            "defense": "dropout",
            "attacker": "paper",
            "num_images": "10",
            **_QUICK,
        },
    ),
    *_both(
        (3,),
        "whitebox",
        {"split": "conv11,conv12,pool1,relu22", "num_images": "10"},
        {"split": "conv11,conv12,pool1,relu22", "num_images": "10"},
    ),
]


class Done(NamedTuple):
    """A part and its records."""

    part: Part
    records: list[AttackRecord]


def run(
    chosen: Sequence[Part], workdir: str, *, extra: Mapping[str, str] | None = None
) -> tuple[list[Done], list[sweeps.SweepOutcome]]:
    """Runs what is not finished yet.

    Args:
      chosen: what to run.
      workdir: where.
      extra: flags of every run, such as `data_dir`.

    Returns:
      The parts with the records that there are now, and what became of every run.

    Raises:
      UserError: data cannot be had, the folder cannot be written, or a record vanishes meanwhile.
    """
    grids = [sweeps.expand(part.script, {**part.flags, **(extra or {})}) for part in chosen]
    outcomes = sweeps.run(_longest_first(chosen, grids), workdir)
    ended = {outcome.run.name: outcome for outcome in outcomes}
    done = []
    for part, grid in zip(chosen, grids, strict=True):
        paths = [path for one in grid for path in ended[one.name].records]
        done.append(Done(part, [_read(path) for path in dict.fromkeys(paths)]))
    return done, outcomes


def _longest_first(chosen: Sequence[Part], grids: Sequence[list[sweeps.Run]]) -> list[sweeps.Run]:
    """The runs of several datasets in turn, so that none's longest are what all wait for."""
    queues: dict[str, list[list[sweeps.Run]]] = {}
    for part, grid in zip(chosen, grids, strict=True):
        queues.setdefault(part.dataset, []).append(grid)
    turns = itertools.zip_longest(*queues.values(), fillvalue=[])
    return [run for turn in turns for grid in turn for run in grid]


def _read(path: Path) -> AttackRecord:
    record = records.read(path.parent)
    if not isinstance(record, AttackRecord):
        raise UserError(f"{path} is gone: the same command makes it again.")
    return record
