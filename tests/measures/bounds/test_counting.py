"""Bounds from the number of releases, against the best attackers of small sets."""

import itertools
import math

import numpy as np
import pytest
from small_edge import IMAGES

from jaxinv.measures import bounds, linkage
from jaxinv.measures.bounds import counting


def cells(count, releases):
    """All ways to send `count` images by so many releases."""
    return np.array(list(itertools.product(range(releases), repeat=count)))


def least_scatter(images, sent):
    """The squared error a pixel of the means of images that are sent alike."""
    flat = images.reshape(len(images), -1).astype(float)
    total = 0.0
    for release in set(sent):
        own = flat[sent == release]
        total += ((own - own.mean(axis=0)) ** 2).sum()
    return total / flat.size


@pytest.mark.parametrize("bits", [1, 2])
def test_no_way_to_send_images_lets_an_attacker_find_more(bits):
    """The best answers to all 8 images' releases, however these are chosen."""
    ways = cells(8, 2**bits)
    found = np.array([len(set(sent)) for sent in ways]) / 8
    assert found.max() == bounds.found_among(bits, 1 / 8) == 2**bits / 8


def test_releases_that_are_drawn_tell_no_more():
    rng = np.random.default_rng(0)
    chances = rng.dirichlet(np.full(4, 0.3), size=20)  # of 4 releases, for each of 20 images
    assert chances.max(axis=0).sum() / 20 <= bounds.found_among(2, 1 / 20)


def test_copies_are_found_together():
    images = np.concatenate([IMAGES, IMAGES[:1], IMAGES[:1]])
    commonest = linkage.commonest(images)
    assert commonest == 3 / 14
    assert bounds.found_among(1, commonest) == pytest.approx(6 / 14)
    assert bounds.found_among(3, commonest) == 1


@pytest.mark.parametrize(("share", "bits"), [(0.1, 6), (0.129, 7), (0.001, 0), (1e-5, 0), (1, 9)])
def test_the_most_bits_are_the_last_that_hold(share, bits):
    assert bounds.most_bits(share, 1 / 1000) == bits
    if share >= 0.001:
        assert bounds.found_among(bits, 1 / 1000) <= share < 2 ** (bits + 1) / 1000


@pytest.mark.parametrize("bits", [0, 1])
def test_the_best_means_of_all_ways_err_no_less(bits):
    images = IMAGES[:9]
    least = min(least_scatter(images, sent) for sent in cells(9, 2**bits))
    bound = counting.least_error(bits, images)
    assert 0.5 * least < bound <= least
    if not bits:
        assert bound == pytest.approx(least)  # nothing but the mean


def test_two_heaps_on_a_line_are_told_apart_without_error():
    heaps = np.stack([np.full((3, 3, 1), value, "f") for value in (0.2, 0.2, 0.9, 0.9, 0.9)])
    assert counting.least_error(1, heaps) == pytest.approx(0, abs=1e-9)
    assert counting.least_error(0, heaps) == pytest.approx(heaps.var(axis=0).mean(), rel=1e-5)
    assert counting.least_error(math.log2(5), heaps) == counting.least_error(9, heaps) == 0


@pytest.mark.parametrize("kinds", [3, 5, 7, 11])
def test_as_many_codes_as_there_are_different_images_tell_all(kinds):
    """Two to the power of a logarithm is a little less than the number, or a little more."""
    images = np.repeat(IMAGES[:kinds], 2, axis=0)
    assert counting.least_error(math.log2(kinds), images) == pytest.approx(0, abs=1e-9)
    assert counting.least_error(math.log2(kinds - 1), images) > 1e-4


def test_a_release_of_a_code_has_these_bounds_and_another_none():
    found = bounds.evaluate(None, None, IMAGES, None, bits=2, coded=2)
    assert [(bound.name, bound.quantity) for bound in found] == [
        ("rate", "psnr"),
        ("counting", "psnr"),
        ("counting", "reid"),
    ]
    psnr, reid = found[1:]
    assert reid.kind == psnr.kind == "certified" and not reid.dithered and not psnr.dithered
    assert reid.value == pytest.approx(4 / 12)
    assert psnr.value == pytest.approx(-10 * math.log10(counting.least_error(2, IMAGES)))
    assert "4 different releases" in reid.assumptions and "12 test images" in reid.assumptions
    for many in (4, 30.0, math.inf):
        names = {
            each.name for each in bounds.evaluate(None, None, IMAGES, None, bits=2, coded=many)
        }
        assert names == {"rate"}
