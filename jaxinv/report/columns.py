"""Errors of each column of a table or channel of series, at each cut. Standard library."""

from collections.abc import Iterator, Sequence

from jaxinv.report import findings
from jaxinv.report.results import ShownAttack
from jaxinv.report.tables import Cell, Row, Table, columns_of
from jaxinv.report.values import MISSING


def table(best: Sequence[ShownAttack], dataset: str, names: Iterator[str]) -> Table | None:
    """Returns the errors by the strongest attacker of each cut; None for images.

    Args:
      best: undefended runs.
      dataset: that they are of.
      names: of tables; one is taken.
    """
    by_cut: dict[str, ShownAttack] = {}
    for each in findings.in_cuts(best):
        before = by_cut.get(each.split)
        if each.record.rmse_mean is not None and (before is None or _error(each) < _error(before)):
            by_cut[each.split] = each
    if not by_cut:
        return None
    attacks = list(by_cut.values())
    caption = f"{dataset}: RMSE of each column in its unit, least of all attackers at each cut"
    cuts = [f"{each.split}#" for each in attacks]
    return Table(next(names), caption, columns_of("column", "range", *cuts), _rows(attacks))


def _error(attack: ShownAttack) -> float:
    assert attack.record.rmse_mean is not None
    return attack.record.rmse_mean


def _rows(attacks: Sequence[ShownAttack]) -> list[Row]:
    inputs = attacks[0].record.inputs
    rows = []
    for place, column in enumerate(inputs.columns if inputs else []):
        label = f"{column.name} [{column.unit}]" if column.unit else column.name
        cells = [Cell(label, place), Cell(f"{column.low:.4g} to {column.high:.4g}")]
        for each in attacks:
            errors = each.record.rmse_by_column
            error = errors[place] if place < len(errors) else None
            cells.append(Cell(MISSING if error is None else f"{error:.3g}", error))
        rows.append(Row(cells))
    return rows
