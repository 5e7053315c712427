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


def test_it_is_the_nearest_of_the_likely_ones():
    """Images of one code are alike likely, and the others impossible."""
    codes = np.arange(40) % 4
    scores = np.where(codes == np.arange(7)[:, None] % 4, 0.0, -1e9).astype("f")
    scores[3, 5], scores[4, 0] = np.nan, -2.9
    found = Retrieval(OWN)(ESTIMATES, scores)
    for number, image in enumerate(found):
        likely = np.nan_to_num(scores[number], nan=-np.inf) >= -3
        np.testing.assert_array_equal(image, nearest(ESTIMATES[number], OWN[likely]))


def test_the_likeliest_image_is_found_where_the_release_tells_it():
    scores = np.full((7, 40), -50.0, "f")
    scores[np.arange(7), 3 * np.arange(7)] = -1.0
    np.testing.assert_array_equal(Retrieval(OWN)(ESTIMATES, scores), OWN[3 * np.arange(7)])


def test_what_diverged_stays_so():
    broken = ESTIMATES.copy()
    broken[2, 1] = np.inf
    found = Retrieval(OWN)(broken)
    assert np.isnan(found[2]).all() and np.isfinite(np.delete(found, 2, axis=0)).all()


@pytest.mark.parametrize(("most", "bytes_", "count"), [(5, 2**28, 5), (99, 1600, 10), (9, 1, 1)])
def test_as_many_images_as_fit_are_kept(monkeypatch, most, bytes_, count):
    monkeypatch.setattr(retrieval, "_BYTES", bytes_)
    np.testing.assert_array_equal(Retrieval.of(OWN, most).images, OWN[:count])
    stored = (255 * OWN).astype(np.uint8)  # as datasets have them: scaled when they are looked at
    found = Retrieval.of(Scaled(stored), most)
    np.testing.assert_array_equal(found.images, unit_space.from_stored(stored[:count]))
    assert found(ESTIMATES).shape == ESTIMATES.shape
