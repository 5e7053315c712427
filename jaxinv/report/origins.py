"""Tables of where numbers come from: targets, data, devices, versions. Standard library."""

import math
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from jaxinv.report.results import Found, ShownRun
from jaxinv.report.tables import Cell, Row, Table, columns_of, share
from jaxinv.report.values import MISSING, fixed, listed, unit
from jaxinv.store.record import ConvergenceRecord, TargetRecord


def targets(runs: Sequence[ShownRun], name: str) -> Table:
    """Trained networks."""
    rows = []
    for run in runs:
        record = run.record
        assert isinstance(record, TargetRecord)
        cells = [Cell(run.dataset), share(record.test_accuracy, 2)]
        cells += [Cell(f"{record.num_test_images:,}", record.num_test_images)]
        cells += [Cell(unit(record.fit_s, "s"), record.fit_s), Cell(run.seed)]
        rows.append(Row([*cells, Cell(record.fingerprint), Cell(f"{run.name}/")]))
    columns = columns_of(
        "dataset", "accuracy#", "test images#", "training#", "seed", "fingerprint", "run"
    )
    return Table(name, "Targets that were trained", columns, rows)


def convergence(runs: Sequence[ShownRun], name: str) -> Table:
    """Tells where methods ended; the runs' folders hold the curves."""
    rows = []
    for run in runs:
        record = run.record
        assert isinstance(record, ConvergenceRecord)
        for method, curve in record.curves.items():
            last, taken = ([None, *curve.psnr_mean])[-1], ([0, *curve.steps])[-1]
            cells = [Cell(run.dataset), Cell(record.cut), Cell(method)]
            cells += [Cell(fixed(last, 2), last), Cell(f"{taken:,}", taken)]
            rows.append(Row([*cells, Cell(f"{run.name}/")]))
    columns = columns_of("dataset", "split", "method", "PSNR dB at the end#", "steps#", "run")
    return Table(name, "Convergence of white-box methods", columns, rows)


def unknown(runs: Sequence[ShownRun], name: str) -> Table:
    """Runs of experiments that have no place on the page."""
    rows = [Row([Cell(run.experiment), Cell(run.dataset), Cell(f"{run.name}/")]) for run in runs]
    columns = columns_of("experiment", "dataset", "run")
    return Table(name, "Other experiments, which this page says nothing of", columns, rows)


def data(found: Found, name: str) -> Table:
    """Data and targets that runs are about."""
    counted = Counter(
        (
            run.dataset,
            run.record.data_source or MISSING,
            run.record.data_fingerprint or MISSING,
            _target(run),
        )
        for run in found.runs
    )
    rows = [
        Row([*map(Cell, values), Cell(f"{runs:,}", runs)])
        for values, runs in sorted(counted.items())
    ]
    columns = columns_of("dataset", "source", "fingerprint", "target", "runs#")
    return Table(name, "Data and targets", columns, rows)


def _target(run: ShownRun) -> str:
    found = run.record.target
    if found is None:
        return MISSING
    # Of a checkpoint its name alone: where it lies is the user's own affair.
    source = (found.source or MISSING).replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
    return f"{source} {found.fingerprint or ''}".strip()


def environments(found: Found, name: str) -> Table:
    """Devices, versions and seeds, with how many runs are of each."""
    groups: dict[tuple[str, str], list[ShownRun]] = {}
    for run in found.runs:
        told = ", ".join(f"{package} {version}" for package, version in run.versions.items())
        groups.setdefault((run.record.device or MISSING, told), []).append(run)
    rows = []
    for (device, told), own in sorted(groups.items(), key=lambda group: -len(group[1])):
        seeds = map(str, sorted({run.record.seed for run in own}))
        cells = [Cell(device), Cell(told), Cell(", ".join(seeds)), Cell(f"{len(own):,}", len(own))]
        rows.append(Row(cells))
    return Table(
        name, "Where runs were made", columns_of("device", "versions", "seeds", "runs#"), rows
    )


def hashes(found: Found, name: str) -> Table:
    """A hash for each run: equal hashes are equal configurations."""
    rows = [
        Row([Cell(f"{run.name}/"), Cell(run.seed), Cell(run.record.config_hash)])
        for run in found.runs
    ]
    return Table(name, "Runs in the workdir", columns_of("run", "seed", "configuration"), rows)


def read(found: Found) -> str:
    """Names the records that were read, and when the page was written."""
    runs = found.runs
    experiments = listed(sorted({run.experiment for run in runs}))
    words = f"{len(runs)} run{'s' * (len(runs) > 1)} of {experiments} on {listed(found.datasets)}"
    left_out = found.superseded
    older = (
        f" {left_out} older stud{'y' if left_out == 1 else 'ies'} of the same choices "
        f"{'is' if left_out == 1 else 'are'} left out."
    )
    return f"{words}{_dates(runs)}.{older if left_out else ''}"


def _dates(runs: Sequence[ShownRun]) -> str:
    times = [run.written for run in runs if math.isfinite(run.written)]
    if not times:
        return ""
    first, last = (datetime.fromtimestamp(time, UTC) for time in (min(times), max(times)))
    end = f"{last.day} {last:%B %Y}"
    if first.date() == last.date():
        return f", written {end}"
    # What both have in common is said once.
    begin = f"{first.day}"
    if (first.month, first.year) != (last.month, last.year):
        begin += f" {first:%B}"
    if first.year != last.year:
        begin += f" {first.year}"
    return f", written {begin} to {end}"
