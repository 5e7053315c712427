"""Series and tables as datasets: embedded, from files and arrays."""

import numpy as np
import pytest

from jaxinv.constants.kinds import IMAGE, SERIES, TABLE
from jaxinv.errors import UserError
from jaxinv.inputs import data

RNG = np.random.default_rng(0)
ROWS = RNG.normal(5, 3, (40, 4))
SERIES_OF = RNG.normal(0, 9, (40, 12, 2))


def test_the_embedded_table_needs_no_network():
    found = data.load("breast_cancer")
    assert found.kind == TABLE and found.own_shape == (30,) and found.num_classes == 2
    assert found.image_shape == (1, 1, 30) and found.columns.names[0] == "mean radius"
    assert len(found.target) + len(found.attacker) + len(found.test) == 569
    train = np.concatenate([found.target.images, found.attacker.images])
    np.testing.assert_allclose(train.min(axis=(0, 1, 2)), 0)
    np.testing.assert_allclose(train.max(axis=(0, 1, 2)), 1)
    assert "ranges of columns of the 424 samples that train" in found.source
    assert found.fingerprint == data.load("breast_cancer").fingerprint


def test_ranges_are_of_what_trains_and_others_are_clipped():
    parts = ["target"] * 20 + ["attacker"] * 10 + ["test"] * 10
    rows = ROWS.copy()
    rows[35, 1] = 1e6
    found = data.from_arrays(rows, name="own", parts=parts, kind="table")
    assert found.columns.high[1] == rows[:30, 1].max()
    assert found.test.images[5, 0, 0, 1] == 1 and "beyond them clipped" in found.source
    given = data.from_arrays(rows, name="own", parts=parts, kind="table", low=-9, high=2e6)
    assert given.columns.high == (2e6,) * 4 and given.source.endswith("ranges of columns given")
    assert given.fingerprint != found.fingerprint


def saved(folder, **arrays):
    np.savez(folder / "own.npz", **arrays)
    return data.load(str(folder / "own.npz"))


@pytest.mark.parametrize(
    ("arrays", "kind", "shape"),
    [
        ({"x": ROWS}, TABLE, (4,)),
        ({"table": ROWS.astype(int)}, TABLE, (4,)),
        ({"series": SERIES_OF}, SERIES, (12, 2)),
        ({"series": SERIES_OF[..., 0]}, SERIES, (12,)),
        ({"x": SERIES_OF, "columns": ["a", "b"], "units": ["m", "s"]}, SERIES, (12, 2)),
        ({"x": np.clip(SERIES_OF, 0, 1)}, IMAGE, (12, 2, 1)),
        ({"table_test": ROWS, "table_train": ROWS}, TABLE, (4,)),
    ],
)
def test_the_name_of_an_array_tells_its_kind(tmp_path, arrays, kind, shape):
    found = saved(tmp_path, **arrays)
    assert found.kind == kind and found.own_shape == shape
    if "columns" in arrays:
        assert found.columns.names == ("a", "b") and found.columns.units == ("m", "s")


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"table": SERIES_OF}, "table=float64 [40, 12, 2]: expected numbers [N, F]."),
        ({"series": ROWS[:, :1]}, "expected series of at least 2 steps"),
        ({"table": np.where(ROWS > 9, np.nan, ROWS)}, "has a value that is missing"),
        ({"table": ROWS, "columns": ["a"]}, "columns=1 words: expected one for each of 4"),
    ],
)
def test_arrays_that_are_no_series_or_tables(tmp_path, arrays, words):
    with pytest.raises(UserError) as caught:
        saved(tmp_path, **arrays)
    assert words in str(caught.value)


def test_a_size_is_for_images():
    with pytest.raises(UserError) as caught:
        data.load("breast_cancer", image_size=8)
    assert str(caught.value) == "image_size=8x8: expected images, and these are rows."
