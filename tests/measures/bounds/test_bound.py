"""All bounds on a release, their words, and attacks against them."""

import math

import jax
import numpy as np
import pytest
from small_edge import AFFINE, EDGE, IMAGES, PARAMS, SIZE, blobs, features_of

from jaxinv.attacks import registry
from jaxinv.attacks.attack import EdgeKnown
from jaxinv.attacks.learned.queries import answers
from jaxinv.attacks.whitebox import rmle as whitebox
from jaxinv.attacks.whitebox.settings import RmleSettings
from jaxinv.defenses import GAUSSIAN, query_function
from jaxinv.measures import bounds


def test_where_the_edge_forgets_nobody_is_without_bias(known):
    through = bounds.Channel(EDGE, "gaussian", 0.1)
    assert np.isinf(bounds.cramer_rao(through, known)).all()
    (bound,) = [
        b
        for b in bounds.evaluate(through, known, IMAGES, features_of(EDGE, IMAGES), bits=1e5)
        if b.name == "Cramer-Rao"
    ]
    assert math.isnan(bound.value) and "no attacker without bias" in bound.assumptions
    assert "or tells so little of it" in bound.assumptions  # which it is cannot be told


def test_a_bound_that_was_sampled_says_how_often_and_where_that_leads(known):
    through = bounds.Channel(EDGE, "gaussian", 0.1)
    found = bounds.evaluate(through, known, IMAGES, features_of(EDGE, IMAGES), bits=1e5)
    (text,) = [b.assumptions for b in found if b.kind == "estimated" and b.name == "van Trees"]
    assert "3 images and 2 dithers of each" in text and "on average is too low" in text
    # The very thing: of more dithers the bound is higher.
    few, many = (
        bounds.information(EDGE, PARAMS, IMAGES[:3], jax.random.key(2), draws=draws).dithered
        for draws in (1, 16)
    )
    errors = [bounds.van_trees(through, spectrum, 0.1).mean() for spectrum in (few, many)]
    assert errors[0] > errors[1]


def test_bounds_are_of_the_dither_that_the_information_is_of():
    wide = bounds.information(AFFINE, PARAMS, IMAGES[:1], jax.random.key(0), dither=0.3)
    through = bounds.Channel(AFFINE, "gaussian", 0.1)
    found = bounds.evaluate(through, wide, IMAGES, features_of(AFFINE, IMAGES), bits=40.0)
    rate, trees = (next(b for b in found if b.name == name) for name in ("rate", "van Trees"))
    assert "dither of 0.3" in rate.assumptions and "dither of 0.3" in trees.assumptions
    assert rate.value == pytest.approx(-10 * math.log10(bounds.rate(40.0, SIZE, 0.3)))
    error = bounds.van_trees(through, wide.most, 0.3).mean()
    error = bounds.least_error(error, 0.3, through)
    assert trees.value == pytest.approx(-10 * math.log10(error))


def test_equal_images_are_one_to_be_found(known):
    """Either counts as found: who cannot tell them apart finds both."""
    twice = np.concatenate([IMAGES, IMAGES[:6]])
    through = bounds.Channel(EDGE, "gaussian", 10.0)

    def fano(images):
        found = bounds.evaluate(through, known, images, features_of(EDGE, images), bits=1e5)
        return next(bound for bound in found if bound.name == "Fano")

    assert fano(twice).value > fano(IMAGES).value  # a constant answer finds two of eighteen
    assert "each of 18 test images" in fano(twice).assumptions
    assert "the commonest is 11.1% of the images" in fano(twice).assumptions
    assert "copies" not in fano(IMAGES).assumptions
    assert "total variation, which the bound includes" in fano(IMAGES).assumptions
    assert "each of 12 test images as likely" in fano(IMAGES).assumptions


@pytest.mark.slow
def test_no_attack_beats_a_certified_bound(known):
    """On dithered images; and who knows each original does not beat those that allow for that."""
    originals, defense = blobs(40, seed=7), GAUSSIAN.at("feature", 1.0)
    rng = np.random.default_rng(8)
    dithered = (originals + known.dither * rng.normal(size=originals.shape)).astype(np.float32)
    query = query_function(EDGE, PARAMS, defense)
    release = answers(query, dithered, np.arange(40, dtype=np.int32), jax.random.key(3))
    settings = RmleSettings("adam", 100, box=False, hinge=False, scale="mean", tv_weight=0.1)
    own = EdgeKnown(EDGE, PARAMS, blobs(300, seed=9), (defense,))
    attack = registry.make("whitebox", "adaptive", fit_steps=30, correction=False)
    learned = attack.learn(own, jax.random.key(4))
    attacks = {
        "originals": originals,
        "rMLE": whitebox.invert(EDGE, PARAMS, release, settings).images,
        "adaptive": learned.invert(release).images,
    }
    through = bounds.channel(EDGE, defense)
    found = bounds.evaluate(through, known, dithered, features_of(EDGE, dithered), bits=32 * 150)
    certified = [b for b in found if b.kind == "certified" and b.quantity == "psnr"]
    assert {bound.name for bound in certified} == {"rate", "van Trees", "two-point"}
    for name, images in attacks.items():
        reached = -10 * math.log10(((images - dithered) ** 2).mean())
        for bound in certified:
            if name != "originals" or bound.name != "two-point":
                assert not reached > bound.value, (name, bound)
    assert any(bound.value < 30 for bound in certified)  # they are worth something
