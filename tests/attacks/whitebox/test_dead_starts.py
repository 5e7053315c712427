import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.linen.initializers import constant

from jaxinv import networks
from jaxinv.attacks.attack import EdgeKnown, Reconstruction
from jaxinv.attacks.inversion.objectives import Objective
from jaxinv.attacks.inversion.priors import gaussian
from jaxinv.attacks.mean import Mean
from jaxinv.attacks.whitebox import rmle
from jaxinv.attacks.whitebox.settings import paper_settings, tv_settings
from jaxinv.attacks.whitebox.stage import Stage
from jaxinv.studies import attacked

SHAPE, CUT = (5, 5, 1), "fc2"


@functools.cache
def prepared(sign, bias):
    """An edge whose rectifiers are closed at grey, its parameters, images and their features."""

    def kernel(key, shape, dtype=jnp.float32):
        return sign * jax.random.uniform(key, shape, dtype)

    first = nn.DenseGeneral(30, axis=(-3, -2, -1), kernel_init=kernel, bias_init=constant(bias))
    layers = [("fc1", first), ("relu1", nn.relu), (CUT, nn.Dense(20))]
    network = networks.sequence(layers, SHAPE, mean=(0.5,), std=(0.5,))
    params = network.init(jax.random.key(0))
    images = np.random.default_rng(0).uniform(0, 0.4, (3, *SHAPE)).astype(np.float32)
    images = images if sign < 0 else 1 - images
    return network, params, images, np.asarray(network.apply(params, images))


OPEN_AT = {"black": (-1.0, -0.1), "white": (1.0, -0.1)}
NOWHERE = (1.0, -100.0)


def inverted(make_settings, kernel, bias, **changes):
    network, params, images, features = prepared(kernel, bias)
    settings = dataclasses.replace(make_settings(network, CUT), steps=40, **changes)
    return images, rmle.invert(network, params, features, settings)


@pytest.mark.parametrize("where", OPEN_AT)
def test_the_paper_stays_at_a_dead_start_and_says_so(where):
    images, found = inverted(paper_settings, *OPEN_AT[where])
    np.testing.assert_array_equal(found.images, 0.5)
    assert found.dead is not None and found.dead.tolist() == [True] * len(images)


@pytest.mark.parametrize("where", OPEN_AT)
def test_other_methods_begin_where_there_is_a_slope(where):
    images, found = inverted(tv_settings, *OPEN_AT[where])
    assert found.dead is not None and not found.dead.any()
    assert (found.images.std(axis=(1, 2, 3)) > 0.01).all()
    assert ((found.images - images) ** 2).mean() < ((0.5 - images) ** 2).mean()


def test_a_start_that_is_dead_everywhere_is_said():
    _, found = inverted(tv_settings, *NOWHERE)
    assert found.dead is not None and found.dead.all()
    np.testing.assert_array_equal(found.images, 0.5)


def test_a_start_with_a_slope_is_kept():
    network, params, _, features = prepared(1.0, 0.5)
    settings = dataclasses.replace(tv_settings(network, CUT), steps=20)
    found = [
        rmle.invert(network, params, features, dataclasses.replace(settings, restart=restart))
        for restart in (True, False)
    ]
    np.testing.assert_array_equal(found[0].images, found[1].images)


def test_a_prior_whose_mean_is_dead_begins_elsewhere():
    network, params, _, features = prepared(*OPEN_AT["black"])
    moment = np.eye(25)[None]
    prior = gaussian(np.full(SHAPE, 0.5), moment, moment)
    settings = dataclasses.replace(tv_settings(network, CUT), solver="lm", steps=5)
    found = rmle.invert(network, params, features, [Stage(settings, prior)])
    assert found.dead is not None and not found.dead.any()
    assert np.abs(found.images - 0.5).max() > 0.01


def test_what_begins_at_an_estimate_is_not_dead():
    network, params, images, features = prepared(*NOWHERE)
    settings = dataclasses.replace(tv_settings(network, CUT), steps=2)
    stage = Stage(settings, estimate=lambda features, found: images)
    assert rmle.invert(network, params, features, [stage]).dead is None


def test_parts_of_an_attack_have_their_own_dead_images():
    network, params, images, features = prepared(*OPEN_AT["black"])
    settings = dataclasses.replace(paper_settings(network, CUT), steps=2)
    known = EdgeKnown(network, params, images)
    learned = rmle.Rmle(settings).learn(known, jax.random.key(0))
    first, second = learned.invert_each([features[:2], features[2:]])
    assert (first.dead.tolist(), second.dead.tolist()) == ([True, True], [True])


def test_a_record_counts_images_that_are_dead_for_any_draw():
    dead = np.array([[True, False, False], [True, True, False]])
    found = Reconstruction(np.zeros((2, 3, *SHAPE)), 0.0, dead=dead)
    assert attacked.outcome(Mean(), found, "attacker").fields["dead"] == 2


def of(residual):
    return Objective(residual, lambda x: jnp.zeros(len(x)))


@pytest.mark.parametrize(
    ("residual", "flat"),
    [
        (lambda x: jnp.maximum(x, 0) - 1, [True, False]),
        (lambda x: 1e-12 * x - 1, [True, True]),  # less than rounding
        (lambda x: x * 0, [False, False]),  # a perfect fit
    ],
)
def test_a_data_term_is_flat_where_nothing_moves_it(residual, flat):
    x = jnp.array([[-1.0, -2.0], [-1.0, 0.5]], jnp.float32)
    assert of(residual).is_flat(x).tolist() == flat
