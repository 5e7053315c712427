"""Pictures of series and rows of tables."""

import numpy as np
import pytest
from PIL import Image

from jaxinv.look import pictures

RNG = np.random.default_rng(0)


def inputs(kind, shape, count):
    columns = [{"name": f"c{n}", "unit": "m", "low": -2.0, "high": 3.0} for n in range(count)]
    return {"kind": kind, "shape": list(shape), "columns": columns}


@pytest.mark.parametrize(
    ("kind", "shape", "count"),
    [("series", (20, 2), 2), ("series", (20,), 1), ("table", (5,), 5)],
)
def test_a_picture_for_each_kind(tmp_path, kind, shape, count):
    originals = RNG.random((3, *shape), np.float32)
    found = originals * np.float32(0.9)
    found[1] = np.nan
    rows = [("relu\n0.9", found), ("fc", originals)]
    path = tmp_path / "grid.png"
    pictures.reconstructions(path, originals, rows, inputs(kind, shape, count), title="title")
    with Image.open(path) as page:
        colours = {colour for _, colour in page.convert("RGB").getcolors(1 << 20)}
        assert min(page.size) > 100 and len(colours) > 5
    unknown = tmp_path / "unknown.png"
    pictures.reconstructions(unknown, None, rows[1:], inputs(kind, shape, count))
    assert unknown.stat().st_size > 1000


def test_values_that_are_nearly_right_are_red():
    originals = np.float32([[0.5, 0.5]])
    found = np.float32([[0.5, 0.9]])
    page = pictures.of_vectors(originals, [("a", found)], inputs("table", (2,), 2))
    counted = {colour: count for count, colour in page.getcolors(1 << 20)}
    assert counted[233, 120, 90] > 1000  # the first value's cell, and not the second's
    assert counted[233, 120, 90] < 4000
