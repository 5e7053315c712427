"""A budget of queries: no step of any training asks for one that is not in it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.attacks.attack import QueriesKnown
from jaxinv.attacks.learned.queries import BEHAVIOUR, answers, divide, kept, make_pool
from jaxinv.attacks.shelf import NOWHERE, Shelf

SHAPE = (6, 5, 1)
IMAGES = np.random.default_rng(0).random((4, *SHAPE), np.float32)


def sums(keys, images):
    """An edge with as many features as an image has rows."""
    return images.sum((2, 3))


def noisy(keys, images):
    return sums(keys, images) + jax.vmap(lambda key: jax.random.normal(key, (6,)))(keys)


def drawn(pool, times=200):
    """Queries of a training: images `[times, N, ...]` and features."""
    images, places = pool.batch

    @jax.jit
    def draw(number):
        return pool.queries.draw(jax.random.fold_in(jax.random.key(1), number), images, places)

    features, asked = zip(*(draw(number) for number in range(times)), strict=True)
    return np.stack(asked), np.stack(features)


@pytest.mark.parametrize("size", [4, 5, 11])
def test_a_training_asks_the_queries_of_the_pool_and_no_other(size):
    asked, _ = drawn(make_pool(QueriesKnown(sums, IMAGES), size, jax.random.key(0)))
    different = [np.unique(asked[:, place].reshape(len(asked), -1), axis=0) for place in range(4)]
    counts = [size // 4 + (place < size % 4) for place in range(4)]
    assert [len(images) for images in different] == counts
    for image, images in zip(IMAGES, different, strict=True):
        assert (images == image.ravel()).all(1).any()


def test_most_of_what_is_asked_are_images_as_they_are():
    asked, _ = drawn(make_pool(QueriesKnown(sums, IMAGES), 40, jax.random.key(0)))
    share = (asked == IMAGES).all((2, 3, 4)).mean()
    assert share == pytest.approx(0.75, abs=0.06)


def test_with_fewer_queries_than_images_the_first_are_asked_once():
    pool = make_pool(QueriesKnown(sums, IMAGES), 3, jax.random.key(0))
    asked, _ = drawn(pool, times=5)
    np.testing.assert_array_equal(asked, np.broadcast_to(IMAGES[:3], (5, 3, *SHAPE)))
    assert pool.queries.count(np.arange(3)).tolist() == [1, 1, 1]


def test_a_query_is_answered_the_same_whenever_it_is_asked():
    asked, features = drawn(
        make_pool(QueriesKnown(noisy, IMAGES), 10, jax.random.key(0)), times=100
    )
    for place in range(4):
        both = np.concatenate([asked[:, place].reshape(100, -1), features[:, place]], axis=1)
        assert len(np.unique(both.round(4), axis=0)) == 2


def test_features_are_those_of_the_images_as_they_are():
    pool = make_pool(QueriesKnown(sums, IMAGES), 11, jax.random.key(0))
    np.testing.assert_allclose(pool.features(), IMAGES.sum((2, 3)), rtol=1e-6)
    np.testing.assert_allclose(pool.features(2), IMAGES[:2].sum((2, 3)), rtol=1e-6)


@pytest.mark.parametrize(
    ("images", "number", "taught", "asked"),
    [
        (20_000, 100_000, 18_000, 98_000),
        (1000, 1000, 900, 900),
        (30_000, 50_000, 28_000, 48_000),
        (1000, 25, 900, 23),
        (5, 100, 4, 99),
    ],
)
def test_images_and_queries_are_held_out(images, number, taught, asked):
    given = np.arange(images)
    division = divide(given, number)
    np.testing.assert_array_equal(division.taught, given[:taught])
    np.testing.assert_array_equal(division.held, given[taught:])
    assert division.asked == asked


MAP = ("inverse", "jaxinv.attacks.learned.inverse")


def test_a_checkpoint_is_named_by_all_that_it_depends_on(tmp_path):
    def path(query=sums, images=IMAGES, size=11, seed=0, steps=5):
        pool = make_pool(QueriesKnown(query, images), size, jax.random.key(seed))
        return kept(Shelf(tmp_path, "relu2"), *MAP, pool, pool.features(BEHAVIOUR), steps=steps)

    assert path() == path()
    assert path().name.startswith("relu2-")
    others = [
        path(query=lambda keys, images: 2 * sums(keys, images)),
        path(images=IMAGES + 1e-3),
        path(size=12),
        path(seed=1),
        path(steps=6),
    ]
    assert len({path(), *others}) == 6
    assert kept(NOWHERE, *MAP, None, None) is None


def family(keys, images, which):
    """The last of three members is noisy."""
    noise = jax.vmap(lambda key: jax.random.normal(key, (6,)))(keys)
    return (1 + which[:, None]) * sums(keys, images) + (which == 2)[:, None] * noise


def test_a_pool_of_a_family_asks_each_member():
    pool = make_pool(QueriesKnown(family, IMAGES, 3), 40, jax.random.key(0))
    assert pool.queries.randomised
    still = QueriesKnown(lambda *given: family(*given[:2], given[2] * 0), IMAGES, 3)
    assert not make_pool(still, 40, jax.random.key(0)).queries.randomised
    expected = np.concatenate([IMAGES.sum((2, 3)), 2 * IMAGES.sum((2, 3))])
    np.testing.assert_allclose(pool.features()[: 2 * len(IMAGES)], expected, rtol=1e-5)
    images, places = pool.batch
    which = jnp.array([0, 1, 0, 1])
    features, asked = pool.queries.draw(jax.random.key(1), images, places, which)
    expected = (1 + np.asarray(which))[:, None] * np.asarray(asked).sum((2, 3))
    np.testing.assert_allclose(features, expected, rtol=1e-5)


def test_where_answers_are_random_an_image_is_asked_again_and_again():
    """With a key of its own each time; a part of the variants is moved."""
    pool = make_pool(QueriesKnown(noisy, IMAGES), 42, jax.random.key(0))
    asked, features = drawn(pool, times=400)
    for place, image in enumerate(IMAGES):
        as_it_is = (asked[:, place] == image).all((1, 2, 3))
        assert as_it_is.mean() == pytest.approx(0.7, abs=0.08)  # of ten variants, seven
        assert len(np.unique(features[as_it_is, place].round(4), axis=0)) == 7


def test_a_checkpoint_is_named_by_the_family(tmp_path):
    def path(query, count):
        pool = make_pool(QueriesKnown(query, IMAGES, count), 11, jax.random.key(0))
        return kept(Shelf(tmp_path, "relu2"), *MAP, pool, pool.features(BEHAVIOUR))

    def other(keys, images, which):
        return family(keys, images, which) + (which == 0)[:, None]

    assert path(family, 3) == path(family, 3)
    assert len({path(family, 3), path(family, 2), path(other, 3)}) == 3


def test_a_place_decides_what_is_drawn_for_an_image():
    key, places = jax.random.key(3), np.array([7, 2, 7, 9])
    same = np.repeat(IMAGES[:1], 4, axis=0)
    found = answers(noisy, same, places, key)
    np.testing.assert_allclose(found[0], found[2], rtol=1e-6)
    assert np.abs(found[0] - found[1]).max() > 0.1
    alone = answers(noisy, same[:1], places[1:2], key)
    np.testing.assert_allclose(alone[0], found[1], rtol=1e-5)
