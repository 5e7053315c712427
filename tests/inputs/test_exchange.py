"""Files of pairs, releases and reconstructions: what is in them is checked first."""

import numpy as np
import pytest
from own_images import pictures
from tiny import assert_one_line

from jaxinv.constants.kinds import TABLE
from jaxinv.errors import UserError
from jaxinv.inputs import columns, exchange

IMAGES = pictures(5, (4, 3, 1))
FEATURES = np.random.default_rng(0).normal(size=(5, 2, 6))
GIVEN = {"images": IMAGES, "features": FEATURES, "observed": FEATURES[:3], "originals": IMAGES[:3]}


def save(tmp_path, **arrays):
    np.savez(tmp_path / "sent.npz", **arrays)
    return str(tmp_path / "sent.npz")


def test_pairs(tmp_path):
    given = exchange.read_pairs(save(tmp_path, **GIVEN, more=np.zeros(2)))
    np.testing.assert_array_equal(given.images.pixels, IMAGES)
    np.testing.assert_array_equal(given.originals.pixels, IMAGES[:3])
    np.testing.assert_array_equal(given.observed, FEATURES[:3].astype(np.float32))
    floats = {"images": IMAGES[..., 0] / 255, "features": np.arange(5), "observed": np.arange(2)}
    given = exchange.read_pairs(save(tmp_path, **floats))
    np.testing.assert_array_equal(given.images.pixels, IMAGES)
    assert given.originals is None and given.features.shape == (5, 1)
    assert given.features.dtype == given.observed.dtype == np.float32


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"observed": None}, "has the arrays images, features, originals; expected observed"),
        ({"images": IMAGES * 2.0}, "images=float32"),
        ({"features": FEATURES[:4]}, "4 features of 5 images"),
        ({"features": FEATURES * np.nan}, "features=[5, 2, 6]: expected finite numbers"),
        ({"features": FEATURES[:0]}, "features=float64 [0, 2, 6]: expected numbers"),
        ({"features": np.array(["a"] * 5)}, "features=<U1"),
        ({"observed": FEATURES[:, :1]}, "observed=[5, 1, 6]: expected [M, 2, 6]"),
        ({"originals": IMAGES}, "originals=[5, 4, 3, 1]: expected [3, 4, 3, 1]"),
        ({"originals": IMAGES[:3, :2]}, "originals=[3, 2, 3, 1]: expected [3, 4, 3, 1]"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_pairs_that_do_not_belong_together(tmp_path, changed, words):
    given = {name: array for name, array in (GIVEN | changed).items() if array is not None}
    path = save(tmp_path, **given)
    with pytest.raises(UserError) as caught:
        exchange.read_pairs(path)
    assert_one_line(caught, f"pairs={path}: {words}")


def test_a_file_that_is_none(tmp_path):
    with pytest.raises(UserError, match="^pairs=.*none.npz: cannot be read: No such file"):
        exchange.read_pairs(str(tmp_path / "none.npz"))
    (tmp_path / "text.npz").write_text("text")
    with pytest.raises(UserError, match="^import=.*text.npz: is no file of np.savez"):
        exchange.read_reconstructions(str(tmp_path / "text.npz"), (4, 3, 1))


def test_reconstructions(tmp_path):
    for given in (IMAGES, IMAGES[..., 0], IMAGES / 255, IMAGES / np.float32(255)):
        found = exchange.read_reconstructions(save(tmp_path, images=given), (4, 3, 1))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, IMAGES / 255, rtol=1e-6)
    outside = np.where(IMAGES > 200, np.nan, IMAGES / 180)
    found = exchange.read_reconstructions(save(tmp_path, images=outside), (4, 3, 1))
    np.testing.assert_allclose(found, outside, rtol=1e-6)
    others = (IMAGES.astype(np.float32) + 0.5, IMAGES / 127.5 - 1)  # of another range
    for given in (IMAGES.astype(int), IMAGES.astype(float), IMAGES[:, :2], IMAGES[:0], *others):
        path = save(tmp_path, images=given)
        with pytest.raises(UserError, match=f"^import={path}: images="):
            exchange.read_reconstructions(path, (4, 3, 1))


def test_a_release_is_written(tmp_path):
    path, some = str(tmp_path / "out" / "sent.npz"), FEATURES.astype(np.float32)
    exchange.write_release(path, [some], IMAGES / 255, np.arange(5))
    with np.load(path) as found:
        assert sorted(found) == ["features", "images", "labels"]
        np.testing.assert_array_equal(found["features"], some)
    exchange.write_release(path, [some, some[:, 0]], IMAGES / 255, None)
    with np.load(path) as found:
        assert sorted(found) == ["features_0", "features_1", "images"]
    with pytest.raises(UserError, match="^Cannot write"):
        exchange.write_release(str(tmp_path), [some], IMAGES / 255, None)


def test_a_table_goes_out_and_comes_back_in_its_units(tmp_path):
    rows = np.random.default_rng(0).normal([1, 50, 900], [1, 9, 100], (12, 3))
    known = columns.measured(rows, TABLE, names=["a", "b", "c"], units=["", "kg", "m"])
    path, unit = str(tmp_path / "out.npz"), known.to_unit(rows).astype(np.float32)
    exchange.write_release(path, [rows[:, :2]], unit, None, known)
    with np.load(path) as file:
        np.testing.assert_allclose(file["table"], rows, rtol=1e-5)
        assert file["units"].tolist() == ["", "kg", "m"] and "images" not in file
    assert exchange.number_of_reconstructions(path) == 12
    found = exchange.read_reconstructions(path, (1, 1, 3), known)
    np.testing.assert_allclose(found, unit, atol=1e-6)


def test_pairs_of_a_table(tmp_path):
    rows = np.random.default_rng(0).normal(5, 2, (12, 3))
    own = {"table": rows[:8], "features": rows[:8], "observed": rows[8:], "originals": rows[8:]}
    np.savez(tmp_path / "pairs.npz", **own)
    found = exchange.read_pairs(str(tmp_path / "pairs.npz"))
    assert found.columns.low == tuple(rows[:8].min(0)) and found.images.images.max() == 1
    expected = np.clip(found.columns.to_unit(rows[8:]), 0, 1)
    np.testing.assert_allclose(found.originals.images, expected, atol=1e-6)
