"""Tables of where numbers come from: targets, data, devices, versions. Standard library."""

from collections import Counter
from collections.abc import Sequence

from jaxinv.report.results import Found, Run
from jaxinv.report.tables import Cell, Row, Table, columns_of, share
from jaxinv.report.values import MISSING, count, fixed, items, mapping, number, text, unit


def targets(runs: Sequence[Run], name: str) -> Table:
    """Trained networks."""
    rows = []
    for run in runs:
        record = run.record
        accuracy, images = number(record.get("test_accuracy")), count(record.get("num_test_images"))
        rows.append(
            Row(
                [
                    Cell(run.dataset),
                    share(accuracy, 2),
                    Cell(f"{images or 0:,}", images),
                    Cell(unit(number(record.get("fit_s")), "s"), number(record.get("fit_s"))),
                    Cell(run.seed),
                    Cell(text(record.get("fingerprint"), MISSING)),
                    Cell(f"{run.name}/"),
                ]
            )
        )
    columns = columns_of(
        "dataset", "accuracy#", "test images#", "training#", "seed", "fingerprint", "run"
    )
    return Table(name, "Targets that were trained", columns, rows)


def convergence(runs: Sequence[Run], name: str) -> Table:
    """Where methods ended; the runs' folders hold the curves."""
    rows = []
    for run in runs:
        for method, curve in mapping(run.record.get("curves")).items():
            values = [number(value) for value in items(mapping(curve).get("psnr_mean"))]
            steps = [count(value) for value in items(mapping(curve).get("steps"))]
            cells = [Cell(run.dataset), Cell(text(run.record.get("cut"))), Cell(text(method))]
            last, taken = (values or [None])[-1], (steps or [None])[-1]
            cells += [Cell(fixed(last, 2), last), Cell(f"{taken or 0:,}", taken)]
            rows.append(Row([*cells, Cell(f"{run.name}/")]))
    columns = columns_of("dataset", "split", "method", "PSNR dB at the end#", "steps#", "run")
    return Table(name, "Convergence of white-box methods", columns, rows)


def unknown(runs: Sequence[Run], name: str) -> Table:
    """Runs of experiments that have no place on the page."""
    rows = [Row([Cell(run.experiment), Cell(run.dataset), Cell(f"{run.name}/")]) for run in runs]
    columns = columns_of("experiment", "dataset", "run")
    return Table(name, "Other experiments, which this page says nothing of", columns, rows)


def data(found: Found, name: str) -> Table:
    """Data and targets that runs are about."""
    counted = Counter(
        (
            run.dataset,
            text(run.record["data_source"], MISSING),
            text(run.record.get("data_fingerprint"), MISSING),
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


def _target(run: Run) -> str:
    found = mapping(run.record.get("target"))
    if not found:
        return MISSING
    # Of a checkpoint its name alone: where it lies is the user's own affair.
    source = text(found.get("source"), MISSING).replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
    return f"{source} {text(found.get('fingerprint'))}".strip()


def environments(found: Found, name: str) -> Table:
    """Devices, versions and seeds, with how many runs are of each."""
    counted = Counter((run.device, tuple(run.versions.items())) for run in found.runs)
    rows = []
    for (device, versions), runs in counted.most_common():
        own = [
            run
            for run in found.runs
            if (run.device, tuple(run.versions.items())) == (device, versions)
        ]
        seeds = sorted({run.seed for run in own}, key=lambda seed: (len(seed), seed))
        told = ", ".join(f"{package} {version}" for package, version in versions)
        rows.append(
            Row(
                [
                    Cell(device or MISSING),
                    Cell(told),
                    Cell(", ".join(seeds)),
                    Cell(f"{runs:,}", runs),
                ]
            )
        )
    return Table(
        name, "Where runs were made", columns_of("device", "versions", "seeds", "runs#"), rows
    )


def hashes(found: Found, name: str) -> Table:
    """A hash for each run: equal hashes are equal configurations."""
    rows = [
        Row([Cell(f"{run.name}/"), Cell(run.seed), Cell(run.config_hash)]) for run in found.runs
    ]
    return Table(name, "Runs in the workdir", columns_of("run", "seed", "configuration"), rows)
