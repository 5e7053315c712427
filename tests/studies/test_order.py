"""Notes on test images whose first ones are no sample of them."""

import numpy as np
import pytest

from jaxinv.inputs import data
from jaxinv.studies import order


def dataset(pixels, labels=None):
    test = data.Samples(pixels, labels)
    classes = 0 if labels is None else 10
    return data.Dataset("mine", "nowhere", "d" * 12, classes, test[:0], test[:0], test)


def of_classes(count):
    """Images whose ground is as bright as their class tells, in a random order."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, count).astype(np.int32)
    noise = rng.normal(0, 40, (count, 12, 12, 1))
    pixels = np.clip(100 + 8 * labels[:, None, None, None] + noise, 0, 255).astype(np.uint8)
    return pixels, labels


@pytest.mark.parametrize("count", [40, 2500])
def test_the_first_of_images_in_a_random_order_are_a_sample(count):
    pixels, labels = of_classes(count)
    assert order.note(dataset(pixels, labels), 20) is None
    assert order.note(dataset(pixels), 20) is None


def test_the_first_of_sorted_images_are_none():
    pixels, labels = of_classes(2500)
    places = np.argsort(labels, kind="stable")
    told = order.note(dataset(pixels[places], labels[places]), 20)
    assert told.startswith(
        "Note: the test images of mine are sorted by class. The first 20 of 2,500"
    )
    told = order.note(dataset(pixels[places]), 20)
    assert told.startswith("Note: the test images of mine are like their neighbours")
    assert order.note(dataset(pixels[places], labels[places]), 2500) is None


def test_images_that_are_all_the_same_are_in_no_order():
    assert order.note(dataset(np.zeros((30, 12, 12, 1), np.uint8)), 20) is None
