"""Tables: runs what tables show, and writes them in Markdown, with the command of each.

A TOML file names the tables: a sentence, commands, and what rows, columns and cells are of. What is
finished is not run again, so a command that was killed goes on, and a table whose runs are there is
only written anew. Every table tells images, targets, seeds, device, version and day. The figures
lie in <workdir>/tables/tables.json, the text beside them in tables.md; --publish keeps the figures
beside the TOML file and puts the text into the pages that have a place for it,

  <!-- NAME: begin -->
  <!-- NAME: end -->

  ./launch.sh tables
  ./launch.sh tables --only=cifar10-whitebox-targets --publish
  jaxinv tables --tables=mine.toml
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import msgspec

import jaxinv
from jaxinv import sweeps
from jaxinv.errors import UsageError, UserError
from jaxinv.store import files, records
from jaxinv.studies.config import WorkConfig
from jaxinv.studies.experiment import Experiment, setting
from jaxinv.sweeps import grid, targets
from jaxinv.tables import blocks, figures, markdown, plan
from jaxinv.tables.figures import Made, Shown
from jaxinv.tables.plan import Plan, Table

TABLES = Path(jaxinv.__file__).parent.parent / "experiments" / "tables.toml"
_MADE, _TEXT = "tables.json", "tables.md"


@dataclasses.dataclass(frozen=True)
class TablesConfig(WorkConfig):
    """Settings of tables."""

    tables: str | None = setting(
        None,
        "TOML file of the tables. By default experiments/tables.toml of the checkout.",
        is_path=True,
    )
    only: tuple[str, ...] | None = setting(
        None, "Names of some tables, a comma list. By default all."
    )
    data_dir: str | None = setting(
        None,
        "Folder of prepared TFDS datasets; by default TFDS_DATA_DIR, then TFDS's own folder.",
        is_path=True,
    )
    publish: bool = setting(
        False, "Keep the figures beside the TOML file and put the text into its pages."
    )


def run(config: TablesConfig) -> list[dict[str, str]]:
    """Runs what is not finished yet and writes the tables; returns the `path` of their text."""
    if config.tables is None and not TABLES.is_file():
        raise UsageError("tables: name a TOML file; the project's own is in a checkout alone.")
    source = Path(config.tables) if config.tables is not None else TABLES
    known = plan.read(source)
    chosen = _chosen(known, config.only)
    pages = _pages(known, source, chosen) if config.publish else {}
    workdir = Path(config.workdir)
    files.ensure_writable(workdir)
    asked = [(table, _runs(table, config.data_dir)) for table in chosen]
    outcomes = sweeps.run([run for _, runs in asked for run in runs], str(workdir))
    by_name = {outcome.run.name: outcome for outcome in outcomes}
    folder = workdir / "tables"
    made: dict[str, Made] = {}
    texts: dict[str, str] = {}
    wrong: list[UserError] = []  # are told when all other tables are written
    for table, runs in asked:
        ended = [by_name[run.name] for run in runs]
        if any(outcome.state == "failed" for outcome in ended):
            continue
        try:
            made[table.name] = figures.make(table, _shown(table, ended))
        except UserError as error:
            wrong.append(error)
        else:
            texts[table.name] = markdown.text(table, made[table.name])
    print(*texts.values(), sep="\n\n", end="\n\n" if texts else "")
    path = folder / _TEXT
    _write(folder / _MADE, made)
    files.atomic_write(path, lambda file: file.write(_joined(texts).encode()))
    sweeps.check(outcomes)
    if wrong:
        raise wrong[0]
    if config.publish:
        keep(source.with_suffix(".json"), made)
        for name, places in pages.items():
            for page in places:
                blocks.publish(texts[name], page, name)
                print(f"Published: {name} in {page}")
    return [{"path": str(path)}]


def _joined(texts: dict[str, str]) -> str:
    return "".join(f"{text}\n\n" for text in texts.values())


def keep(path: Path, made: dict[str, Made]) -> None:
    """Writes figures by name of table; those of other tables, which the file has, stay.

    Raises:
      UserError: the file cannot be read or written, or holds something else.
    """
    _write(path, {**read_kept(path), **made} if path.exists() else made)


def _write(path: Path, made: dict[str, Made]) -> None:
    text = msgspec.json.format(msgspec.json.encode(dict(sorted(made.items()))), indent=1)
    files.atomic_write(path, lambda file: file.write(text + b"\n"))


def read_kept(path: Path) -> dict[str, Made]:
    """Returns figures by name of table.

    Raises:
      UserError: the file cannot be read, or holds something else.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Made])
    except OSError as error:
        raise UserError(f"{path} cannot be read: {files.reason(error)}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} holds no figures of tables: {error}.") from error


def _chosen(known: Plan, only: Sequence[str] | None) -> list[Table]:
    names = [table.name for table in known.table]
    for name in only or ():
        if name not in names:
            raise UsageError(f"only={name}: expected some of {', '.join(names)}.")
    return [table for table in known.table if only is None or table.name in only]


def _pages(known: Plan, source: Path, chosen: Sequence[Table]) -> dict[str, list[Path]]:
    """Returns the pages that have a place for each table."""
    texts = {path: blocks.read(path) for path in (source.parent / page for page in known.pages)}
    found = {}
    for table in chosen:
        own = [path for path, text in texts.items() if blocks.find(text, table.name) is not None]
        if not own:
            begin, _ = blocks.marks(table.name)
            raise UsageError(
                f"publish=true: no page has a place for {table.name}, such as {begin}."
            )
        found[table.name] = own
    return found


def _runs(table: Table, data_dir: str | None) -> list[sweeps.Run]:
    found: dict[str, sweeps.Run] = {}
    for text in table.commands:
        command = plan.parsed(text)
        given = grid.parse(command.script, command.flags)
        if data_dir is not None:
            given = {"data_dir": data_dir, **given}
        found |= {run.name: run for run in sweeps.expand(command.script, given)}
    return list(found.values())


def _shown(table: Table, outcomes: Sequence[sweeps.SweepOutcome]) -> list[Shown]:
    found: dict[Path, list[Shown]] = {}
    for outcome in outcomes:
        seed = int(outcome.run.flags.get(targets.SEED, "0"))
        for path in outcome.records:
            record = records.read(path.parent)
            if record is None:
                raise UserError(f"{path} is gone: the same command makes it again.")
            # A leaderboard leaves its attacks, too.
            own = figures.shown_of(record, seed)
            found[path] = [each for each in own if isinstance(each, table.source.shown)]
        if not any(found[path] for path in outcome.records):
            raise UsageError(
                f"{table.name}: {outcome.run.script} leaves nothing to make a table of."
            )
    return [each for own in found.values() for each in own]


EXPERIMENT = Experiment("tables", TablesConfig, run, __doc__)
