"""Division into parts: by hash it is stable, keeps copies together, and begins with few images."""

import numpy as np
import pytest
from own_images import counts, parts_of, pictures

from jaxinv.errors import UserError
from jaxinv.inputs import data, parts


def arrays(images, **options):
    return data.from_arrays(images, name="own", **options)


def test_images_that_are_added_leave_the_others_where_they_are():
    images = pictures(60)
    before, after = parts_of(arrays(images[:40])), parts_of(arrays(images[::-1]))
    assert len(after) == 60 and before.items() <= after.items()
    assert {*after.values()} == {"target", "attacker", "test"}


def test_about_a_half_trains_and_a_quarter_is_the_attackers():
    np.testing.assert_allclose(counts(arrays(pictures(2000, (2, 2, 3)))), [1000, 500, 500], atol=80)


def test_copies_are_in_one_part():
    images = np.repeat(pictures(30), 3, axis=0)
    assert sum(counts(arrays(images))) == 90
    assert len(parts_of(arrays(images))) == 30  # the sum of different images of the parts
    for part in ("target", "attacker", "test"):
        own = getattr(arrays(images), part).pixels
        assert len(own) == 3 * len(np.unique(own, axis=0))


def test_grey_images_have_the_place_of_the_same_in_three_channels():
    grey = pictures(20, (3, 4, 1))
    np.testing.assert_array_equal(parts.by_hash(grey), parts.by_hash(np.repeat(grey, 3, axis=-1)))


@pytest.mark.parametrize("count", range(1, 9))
def test_few_images_are_enough(count):
    for seed in range(5):
        found = counts(arrays(pictures(count, seed=seed)))
        assert sum(found) == count and found[2] > 0
        assert (found[1] > 0) == (count > 1) and (count < 3 or found[0] > 0)


def test_train_is_shared_by_target_and_attacker():
    given = ["train"] * 300 + ["test"] * 2
    order, found = parts.divide(given, np.linspace(0, 0.99, 302), in_order=True)
    assert found == [198, 102, 2] and [*order[-2:]] == [300, 301]


def test_parts_that_are_told_keep_their_order():
    images, told = pictures(6), ["test", "target", "attacker", "target", "test", "test"]
    found = arrays(images, labels=np.arange(6), parts=told)
    for part in ("target", "attacker", "test"):
        chosen = np.flatnonzero(np.array(told) == part)
        np.testing.assert_array_equal(getattr(found, part).labels, chosen)
        np.testing.assert_array_equal(getattr(found, part).pixels, images[chosen])


def test_permute_is_indexing_in_place():
    rng = np.random.default_rng(0)
    for count in (1, 2, 7, 40):
        rows, order = rng.normal(size=(count, 3)), rng.permutation(count)
        expected = rows[order]
        parts.permute(rows, order)
        np.testing.assert_array_equal(rows, expected)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["train", "test"], {"train": "train", "test": "test"}),
        (["train", "validation"], {"train": "train", "validation": "test"}),
        (["train", "validation", "test"], {"train": "train", "test": "test"}),
        (["target", "val"], {"target": "target", "val": "test"}),
        (["test"], {"test": "test"}),
        (["train"], {"train": None}),
        (["all"], {"all": None}),
    ],
    ids=" ".join,
)
def test_names_of_parts(names, expected):
    assert parts.named(names) == expected


@pytest.mark.parametrize(
    "names",
    [["target"], ["target", "attacker"], ["train", "target", "test"], ["test", "cats"], []],
    ids=["target", "two", "both", "class", "none"],
)
def test_names_that_are_no_parts(names):
    with pytest.raises(UserError, match="^has the parts .*expected"):
        parts.named(names)
