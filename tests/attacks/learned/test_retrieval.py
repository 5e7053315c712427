"""Answers with an image of the attacker's own: the nearest of those that are likely."""

import numpy as np
import pytest

from jaxinv import unit_space
from jaxinv.attacks.learned import retrieval
from jaxinv.attacks.learned.retrieval import Retrieval
from jaxinv.unit_space import Scaled

OWN = np.random.default_rng(0).random((40, 5, 4, 2)).astype("f")
ESTIMATES = np.random.default_rng(1).random((7, 5, 4, 2)).astype("f")


def nearest(estimate, among):
    return among[((among - estimate) ** 2).sum(axis=(1, 2, 3)).argmin()]


def test_without_likelihoods_it_is_the_nearest():
    found = Retrieval(OWN)(ESTIMATES)
    np.testing.assert_array_equal(found, [nearest(each, OWN) for each in ESTIMATES])


def test_it_is_the_nearest_of_those_that_are_released_alike():
    own = np.stack([np.arange(40) % 4, np.arange(40) % 2], axis=1).astype("f")
    seen = own[:7].copy()
    seen[5] = 9  # none of the images has it
    found = Retrieval(OWN)(ESTIMATES, own, seen)
    for number, image in enumerate(found):
        alike = (own == seen[number]).all(axis=1)
        among = OWN[alike] if alike.any() else OWN
        np.testing.assert_array_equal(image, nearest(ESTIMATES[number], among))


def test_what_diverged_stays_so():
    broken = ESTIMATES.copy()
    broken[2, 1] = np.inf
    found = Retrieval(OWN)(broken)
    assert np.isnan(found[2]).all() and np.isfinite(np.delete(found, 2, axis=0)).all()


@pytest.mark.parametrize(("most", "bytes_", "count"), [(5, 2**28, 5), (99, 1600, 10), (9, 1, 1)])
def test_as_many_images_as_fit_are_kept(monkeypatch, most, bytes_, count):
    monkeypatch.setattr(retrieval, "_MOST", most)
    monkeypatch.setattr(retrieval, "_BYTES", bytes_)
    np.testing.assert_array_equal(Retrieval.of(OWN).images, OWN[:count])
    stored = (255 * OWN).astype(np.uint8)  # as datasets have them: scaled when they are looked at
    found = Retrieval.of(Scaled(stored))
    np.testing.assert_array_equal(found.images, unit_space.from_stored(stored[:count]))
    assert found(ESTIMATES).shape == ESTIMATES.shape
