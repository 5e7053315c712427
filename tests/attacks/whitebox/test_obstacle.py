"""The obstacle between an attacker and an image is told without the image."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import msgspec
import numpy as np
import pytest

from jaxinv import networks
from jaxinv.attacks.whitebox import obstacle
from jaxinv.attacks.whitebox.obstacle import Obstacle
from jaxinv.store.fields import RecordedObstacles

SHAPE = (4, 4, 1)
RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(0.2, 0.8, (6, *SHAPE)).astype(np.float32)


def flat_edge(function, weights):
    """Returns an edge that applies a function to products of the flat image."""
    matrix = np.asarray(weights, np.float32)
    layers = [
        ("flat", lambda x: x.reshape(len(x), -1) @ matrix),
        ("cut", function),
        ("logits", nn.Dense(3)),
    ]
    network = networks.sequence(layers, SHAPE)
    params = network.init(jax.random.key(0))
    return network.split("cut")[0], params


def diagnosed(edge, params, found):
    features = np.asarray(edge.apply(params, jnp.asarray(IMAGES)))
    return obstacle.diagnose(edge, params, features, found)


@pytest.mark.parametrize("rank", [0, 3, 15, 16])
def test_directions_are_the_rank_of_the_jacobian(rank, monkeypatch):
    monkeypatch.setattr(obstacle, "_BLOCK", 80)  # five features at once
    weights = RNG.normal(size=(16, rank)) @ RNG.normal(size=(rank, 24))
    edge, params = flat_edge(lambda x: 2 * x, weights)
    features = np.asarray(edge.apply(params, jnp.asarray(IMAGES)))
    shown = obstacle.shown_directions(edge, params, IMAGES[0], features[0])
    assert shown == rank


def test_a_direction_that_rounding_hides_does_not_show():
    scales = np.diag([*np.ones(14), 1e-3, 5e-6])  # one grey level of the last is rounded away
    edge, params = flat_edge(lambda x: x, scales)
    features = np.asarray(edge.apply(params, jnp.asarray(IMAGES)))
    assert obstacle.shown_directions(edge, params, IMAGES[0], features[0]) == 15


def test_features_that_determine_an_image_leave_nothing_in_the_way():
    edge, params = flat_edge(jnp.tanh, RNG.normal(size=(16, 20)) / 4)
    found = diagnosed(edge, params, np.full_like(IMAGES, 0.5))
    assert found.obstacles == [Obstacle.NOTHING] * obstacle.IMAGES
    assert (found.shown == found.inputs).all() and found.inputs == 16
    assert (found.misfit < 1e-5).all()


def test_closed_rectifiers_leave_the_image_to_the_prior():
    edge, params = flat_edge(nn.relu, RNG.normal(size=(16, 20)))
    features = np.asarray(edge.apply(params, jnp.asarray(IMAGES)))
    found = diagnosed(edge, params, IMAGES)
    opened = (features[: len(found.shown)] > 0).sum(axis=1)
    np.testing.assert_array_equal(found.shown, np.minimum(opened, 16))
    wanted = [Obstacle.PRIOR if count < 16 else Obstacle.NOTHING for count in opened]
    assert found.obstacles == wanted and Obstacle.PRIOR in wanted


def test_a_solver_that_has_no_slope_is_in_the_way():
    edge, params = flat_edge(lambda x: jnp.tanh(60 * (x - 0.5)), np.eye(16))
    found = diagnosed(edge, params, np.zeros_like(IMAGES))
    assert set(found.obstacles) == {Obstacle.SOLVER}
    assert min(found.levels) > 1


def test_images_that_diverged_are_begun_in_the_middle():
    edge, params = flat_edge(jnp.tanh, RNG.normal(size=(16, 20)) / 4)
    found = diagnosed(edge, params, np.full_like(IMAGES, np.nan))
    assert found.obstacles == [Obstacle.NOTHING] * obstacle.IMAGES


def test_of_large_images_open_features_bound_what_shows(monkeypatch):
    monkeypatch.setattr(obstacle, "_MOST_INPUTS", 8)
    edge, params = flat_edge(nn.relu, RNG.normal(size=(16, 20)))
    features = np.asarray(edge.apply(params, jnp.asarray(IMAGES)))
    found = diagnosed(edge, params, IMAGES)
    for shown, opened in zip(found.shown, (features > 0).sum(axis=1), strict=False):
        assert shown == (opened if opened < 16 else -1)
    far = diagnosed(edge, params, np.zeros_like(IMAGES))
    assert set(far.obstacles) == {Obstacle.UNKNOWN}


def test_half_precision_shows_less():
    weights = np.diag(np.geomspace(1, 1e-5, 16))
    edge, params = flat_edge(lambda x: x, weights)
    features = np.asarray(edge.apply(params, jnp.asarray(IMAGES)))
    whole = obstacle.shown_directions(edge, params, IMAGES[0], features[0])
    half = obstacle.shown_directions(edge, params, IMAGES[0], features[0].astype(np.float16))
    assert 0 < half < whole


def test_fields_are_plain_and_add_up():
    edge, params = flat_edge(jnp.tanh, RNG.normal(size=(16, 20)) / 4)
    fields = diagnosed(edge, params, IMAGES).fields["obstacles"]
    assert sum(fields["counts"].values()) == obstacle.IMAGES == len(fields["misfit"])
    told = msgspec.convert(json.loads(json.dumps(fields)), RecordedObstacles)
    assert told.words == "nothing; 16 of 16 directions show"


def test_words_tell_the_range_and_mixtures():
    counts = {"solver": 1, "prior": 2, "nothing": 0}
    told = RecordedObstacles(counts, [0.1] * 3, [1.0] * 3, 784, [240, None, 1271])
    assert told.words == "solver 1, prior 2; 240 to 1,271 of 784 directions show"
    assert RecordedObstacles({}, [], [], 784, [None]).words == "unknown"
