"""The tables that a TOML file asks for. Standard library and msgspec.

pages = ["../README.md", "attacks.md"]

[[table]]
name = "cifar10-whitebox"
about = "CIFAR-10, white-box."
commands = ["./launch.sh sweep whitebox --dataset=cifar10 --method=paper,map --split=conv11"]
rows = ["split"]
columns = "method"
cells = ["psnr", "ssim"]
"""

import re
import shlex
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta, Struct

from jaxinv.errors import UsageError, UserError
from jaxinv.store import files
from jaxinv.tables import figures


class Table(Struct, frozen=True, forbid_unknown_fields=True):
    """A table of runs.

    Attributes:
      name: of its place in pages.
      about: what stands above it.
      commands: the runs, as they are typed in a checkout.
      rows: what a row is of: of attacks some of `figures.ATTACKS.keys`, of leaderboards some of
        `figures.STANDINGS.keys`.
      columns: what a column is of, one of these; by default each of `cells` is a column.
      cells: what is measured, some of the `measures` there; by default the `first`.
      intervals: those of them that are shown with their 95% interval.
      shared: measures that all columns of a row have in common, such as the accuracy behind a
        defence; they stand once, before the columns.
      printed: True for a column with what the paper prints.
    """

    name: Annotated[str, Meta(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    about: str
    commands: Annotated[list[str], Meta(min_length=1)]
    rows: Annotated[list[str], Meta(min_length=1)] = msgspec.field(
        default_factory=lambda: ["split"]
    )
    columns: str | None = None
    cells: Annotated[list[str], Meta(min_length=1)] | None = None
    intervals: list[str] = msgspec.field(default_factory=lambda: ["psnr"])
    shared: list[str] = msgspec.field(default_factory=list)
    printed: bool = False

    @property
    def source(self) -> figures.Source:
        """Source of the rows: attacks, or standings of leaderboards."""
        return figures.source_of(parsed(self.commands[0]).script)

    @property
    def measures(self) -> Sequence[str]:
        """Names of the measures that are shown."""
        return self.cells or self.source.first


class Plan(Struct, frozen=True, forbid_unknown_fields=True):
    """All tables, and the pages that they stand in, as paths from the file."""

    table: list[Table]
    pages: list[str] = msgspec.field(default_factory=list)


class Command(NamedTuple):
    """A command line: the experiment, and its flags as they are typed."""

    script: str
    flags: list[str]


def read(path: Path) -> Plan:
    """Reads a file of tables.

    Raises:
      UserError: it cannot be read.
      UsageError: it is no such file, or a table asks for what there is not.
    """
    try:
        plan = msgspec.toml.decode(path.read_bytes(), type=Plan)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {files.reason(error)}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"tables={path}: {error}.") from error
    names = [table.name for table in plan.table]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"tables={path}: two tables are called {name}.")
    for table in plan.table:
        _check(table, path)
    return plan


def _check(table: Table, path: Path) -> None:
    for command in table.commands:
        if figures.source_of(parsed(command).script) is not table.source:
            raise UsageError(
                f"tables={path}: {table.name}: leaderboards and attacks make no table together."
            )
    if table.shared and table.columns is None:
        raise UsageError(f"tables={path}: {table.name}: shared needs columns.")
    keys, measures = table.source.keys, table.source.measures
    shown = [*table.measures, *table.shared]
    asked: list[tuple[str, Collection[str], str]] = [
        *((name, keys, "rows") for name in table.rows),
        *((name, keys, "columns") for name in [table.columns] if name is not None),
        *((name, measures, "cells") for name in table.measures),
        *((name, measures, "shared") for name in table.shared),
        *((name, shown, "intervals") for name in table.intervals if name != "psnr"),
    ]
    for name, known, where in asked:
        if name not in known:
            raise UsageError(
                f"tables={path}: {table.name}: {where} has {name}; expected some of "
                f"{', '.join(known)}."
            )


def parsed(command: str) -> Command:
    """Takes a command line apart.

    Raises:
      UsageError: it starts no experiment.
    """
    try:
        words = shlex.split(command.replace("\\\n", " "))
    except ValueError as error:
        raise UsageError(f"{command}: {error}.") from error
    script = re.fullmatch(r"experiments/(\w+)\.py", words[1]) if len(words) > 1 else None
    if words[:1] == ["python"] and script:
        return Command(script[1], words[2:])
    if words[:1] in (["./launch.sh"], ["jaxinv"]):
        rest = words[2:] if words[1:2] == ["sweep"] else words[1:]
        if rest:
            return Command(rest[0], rest[1:])
    raise UsageError(
        f"{command}: expected ./launch.sh, jaxinv or python experiments/NAME.py, an experiment and "
        "its flags."
    )
