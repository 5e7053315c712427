"""Choices on trial images: the best option of each defense, and images that fit a budget."""

import jax
import numpy as np
from toys import blobs

from jaxinv.attacks.attack import EdgeKnown
from jaxinv.attacks.whitebox import trials
from jaxinv.networks import lenet5

TRIAL = 0.2 + 0.4 * blobs(4, (12, 12, 1))  # within [0, 1], whatever error is added


def test_each_defense_has_the_option_that_does_best_for_it():
    errors = np.float32([[0.3, 0.01], [0.02, 0.2], [0.1, np.nan]])  # of options, for defenses
    options = np.zeros((3, 2, 2, 2), np.float32)
    options[..., 0, 0] = errors

    def attack(means, weights):
        assert means.shape == (3 * 2 * 4, 12, 12, 1)
        wrong = np.repeat(weights[:, 0, 0], 4)[:, None, None, None]
        return np.tile(TRIAL, (6, 1, 1, 1)) + wrong

    found = trials.choose(attack, options, np.zeros((8, 12, 12, 1)), TRIAL)
    assert found.options.tolist() == [1, 0]
    np.testing.assert_allclose(found.quality, [33.98, 40.0], atol=0.1)
    expected = np.concatenate([TRIAL + np.float32(0.02), TRIAL + np.float32(0.01)])
    np.testing.assert_allclose(found.images, expected, atol=1e-6)


def test_images_are_divided_so_that_none_serves_twice():
    greys = np.linspace(0, 1, 200, dtype=np.float32)
    images = np.broadcast_to(greys[:, None, None, None], (200, 28, 28, 1))
    edge, _ = lenet5().split("relu2")
    lessons = trials.divide_lessons(EdgeKnown(edge, edge.init(jax.random.key(0)), images), 8)
    assert [len(part) for part in lessons[:3]] == [180, 12, 8]
    joined = np.concatenate(lessons[:3])
    np.testing.assert_array_equal(joined, images)
    assert trials.affordable(edge, 1, (3, 9)) == 3
    assert trials.affordable(edge, 10**9, (3, 9)) == 9
