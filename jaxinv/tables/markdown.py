"""A table as Markdown: its figures, where they come from, and the command. Pure functions."""

from collections.abc import Sequence

from jaxinv.look.text import markdown
from jaxinv.tables.figures import STANDINGS, Figure, Made, Printed, Row, written
from jaxinv.tables.plan import Table

_LABELS = {
    "defense": "defence",
    "num_queries": "queries",
    "surrogate": "images to learn from",
    "target": "target's seed",
}
_PRINTED = "the paper prints"


def text(table: Table, made: Made) -> str:
    """Returns the text of a table, without a line break at its end."""
    columns = list(dict.fromkeys(name for row in made.rows for name in row.columns))
    heads = [_LABELS.get(name, name) for name in table.rows]
    heads += [_PRINTED] * table.printed
    heads += [table.source.measures[name].label for name in table.shared]
    labels = [table.source.measures[name].label for name in table.measures]
    numbers = labels if table.columns is None else columns
    heads += [markdown(name) if table.columns else name for name in numbers]
    lines = [table.about, "", _line(heads), _line(["---"] * len(heads))]
    lines += [_line(_cells(table, row, columns)) for row in made.rows]
    commands = "\n".join(table.commands)
    return "\n".join([*lines, "", _origin(table, made), "", "```", commands, "```"])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(table: Table, row: Row, columns: Sequence[str]) -> list[str]:
    found = [markdown(key) for key in row.keys]
    found += [_printed(row.printed)] * table.printed
    found += [written(table, name, row.shared[name]) for name in table.shared]
    if table.columns is None:
        (own,) = row.columns.values()
        return found + [written(table, name, own[name]) for name in table.measures]
    return found + [_together(table, row.columns.get(column)) for column in columns]


def _together(table: Table, own: dict[str, Figure] | None) -> str:
    """Returns a cell with all measures; empty where nothing was run."""
    if own is None:
        return ""
    return " / ".join(written(table, name, own[name]) for name in table.measures)


def _printed(found: Printed | None) -> str:
    if found is None:
        return ""
    told = f"{found.psnr:.2f} / {found.ssim:.2f}"
    return told if found.above is None else f"{told}: {found.above} of {found.targets} are above"


def _origin(table: Table, made: Made) -> str:
    """Returns a sentence on images, targets, seeds, devices, versions and the day."""
    cells = " / ".join(table.source.measures[name].label for name in table.measures)
    intervals = [name for name in table.intervals if name in [*table.measures, *table.shared]]
    told = [f"Cells: {cells}."] if table.columns else []
    several = len(made.target_seeds) > 1
    over = "targets and images" if several else "images"
    if table.source is STANDINGS:
        over = "trainings and images"
    told += [f"Intervals are 95%, over {over}."] if intervals else []
    images = " and ".join(f"{count:,}" for count in made.num_images)
    facts = [f"{images} images"]
    if several:
        facts.append(f"{len(made.target_seeds)} targets (seeds {_listed(made.target_seeds)})")
    elif made.target_seeds != [0]:
        facts.append(f"the target of seed {made.target_seeds[0]}")
    facts += [f"seed {_listed(made.seeds)}", *map(markdown, made.devices)]
    facts += [made.day, f"jax {', '.join(map(markdown, made.jax))}"]
    return " ".join([*told, f"{'; '.join(facts)}."])


def _listed(numbers: Sequence[int]) -> str:
    """Returns `0 to 9` for a range, else all of them."""
    if len(numbers) > 2 and list(numbers) == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]} to {numbers[-1]}"
    return ", ".join(map(str, numbers))
