"""Times of a network's layers that were measured elsewhere, in a CSV file.

    # Pixel 4, TensorFlow Lite 2.4, four threads, median of 50 runs
    layer,seconds
    conv1,0.00021
    relu1,0.00004

The first line is `layer,seconds` or `cut,seconds`: the time of each layer alone, or that of the
whole edge up to each cut. Every layer of the network has a line, in any order; where a device
computes several as one, times by cut say so. Lines that begin with # tell where the numbers are
from.
"""

import csv
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

from jaxinv.errors import UsageError
from jaxinv.measures import profiles

_HEADERS = (["layer", "seconds"], ["cut", "seconds"])


class Times(NamedTuple):
    """Seconds of a network's layers.

    Attributes:
      path: of the file.
      kind: "layer" for times of layers alone, "cut" for those of edges.
      seconds: by name.
      source: of the numbers, in words.
    """

    path: str
    kind: str
    seconds: dict[str, float]
    source: str

    def of_edges(self, cuts: Sequence[str]) -> dict[str, float]:
        """Returns the seconds of the edge up to each cut of a network.

        Raises:
          UsageError: a name is unknown, or missing.
        """
        known = {cut.lower(): cut for cut in cuts}
        given = {known.get(name.lower(), ""): time for name, time in self.seconds.items()}
        if unknown := [name for name in self.seconds if name.lower() not in known]:
            raise UsageError(
                f"profile={self.path}: {self.kind} {unknown[0]!r} is unknown; expected "
                f"{', '.join(cuts)}."
            )
        if missing := [cut for cut in cuts if cut not in given]:
            raise UsageError(f"profile={self.path}: {self.kind} {missing[0]} is missing.")
        times = [given[cut] for cut in cuts]
        return dict(zip(cuts, accumulate(times) if self.kind == "layer" else times, strict=True))


def read(path: str) -> Times:
    """Reads the times of a CSV file.

    Raises:
      UsageError: it cannot be read, or is not as it should be.
    """
    argument = f"profile={path}"
    lines = profiles.text_of(argument, path).splitlines()
    comments = [line.strip("# ") for line in lines if line.startswith("#")]
    rows = _rows(argument, lines)
    _, header = next(rows, (0, [""]))
    if [name.lower() for name in header] not in _HEADERS:
        told = " or ".join(",".join(names) for names in _HEADERS)
        raise UsageError(f"{argument}: begins with {','.join(header)!r}: expected {told}.")
    seconds: dict[str, float] = {}
    for number, row in rows:
        name, time = _time(f"{argument}: line {number}", row)
        if name.lower() in map(str.lower, seconds):
            raise UsageError(f"{argument}: line {number}: {name!r} was given before.")
        seconds[name] = time
    return Times(path, header[0].lower(), seconds, " ".join(comments))


def _rows(argument: str, lines: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Yields the number of each line that has cells, from 1, and these."""
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            (row,) = csv.reader([line])
        except (csv.Error, ValueError) as error:
            raise UsageError(f"{argument}: line {number}: not CSV.") from error
        yield number, [cell.strip() for cell in row]


def _time(argument: str, row: Sequence[str]) -> tuple[str, float]:
    """Returns the name and the seconds of a line."""
    if len(row) != 2:
        raise UsageError(f"{argument}: {','.join(row)!r}: expected a name and seconds.")
    try:
        seconds = float(row[1])
    except ValueError:
        seconds = 0.0
    if not profiles.LEAST <= seconds <= profiles.MOST:
        raise UsageError(
            f"{argument}: seconds={row[1]!r}: expected a positive number, from "
            f"{profiles.LEAST:g} to {profiles.MOST:g}."
        )
    return row[0], seconds
