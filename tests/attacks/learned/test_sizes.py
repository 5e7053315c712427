"""Grids of features, and networks whose size is bounded however large images are."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.attacks.blackbox.decoder import Decoder
from jaxinv.attacks.learned import grids, maps
from jaxinv.attacks.learned.grids import MOST_WEIGHTS
from jaxinv.attacks.queryfree.design import design
from jaxinv.machine import memory

PHOTOGRAPH = (224, 224, 3)
FEATURES = [(112, 112, 64), (7, 7, 2048), (196, 192), (197, 192), (2048,), (55, 55, 64)]


def weights(params):
    return max(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def shapes(network, features):
    rows = jax.ShapeDtypeStruct((1, *features), np.float32)
    return jax.eval_shape(network.init_with_output, jax.random.key(0), network_input(network, rows))


def network_input(network, rows):
    return rows if isinstance(network, Decoder) else [rows]


@pytest.mark.parametrize(
    "count, shape, found",
    [
        (196, PHOTOGRAPH, (0, (14, 14))),
        (197, PHOTOGRAPH, (1, (14, 14))),
        (65, (32, 32, 3), (1, (8, 8))),
        (8 * 6, (64, 48, 3), (0, (8, 6))),
        (195, PHOTOGRAPH, (0, None)),
        (1, PHOTOGRAPH, (0, None)),
    ],
)
def test_tokens_lie_on_a_grid_of_the_images_proportions(count, shape, found):
    assert grids.of_tokens(count, shape) == found


@pytest.mark.parametrize("features", [*FEATURES, (802816,)])
@pytest.mark.parametrize("kind", ["estimator", "decoder"])
def test_maps_to_large_images_are_bounded(kind, features):
    network = maps.estimator_for(PHOTOGRAPH) if kind == "estimator" else Decoder(PHOTOGRAPH)
    images, variables = shapes(network, features)
    assert images.shape == (1, *PHOTOGRAPH)
    assert weights(variables) <= MOST_WEIGHTS


@pytest.mark.parametrize("features", FEATURES)
def test_shadows_of_large_images_are_bounded(features):
    mean = [0.5] * 3
    shadow = design(PHOTOGRAPH, features, rectified=True, mean=mean, std=mean, width=16)
    assert shadow.output_shape == features
    assert weights(jax.eval_shape(shadow.init, jax.random.key(0))) <= MOST_WEIGHTS


def test_a_linear_map_is_to_a_coarse_image_where_it_would_be_too_large():
    assert grids.coarse((32, 32, 3), 5000) == (32, 32, 3)
    height, width, channels = grids.coarse(PHOTOGRAPH, 2048)
    assert (height, width, channels) == (28, 28, 3)
    assert height * width * 2048 <= MOST_WEIGHTS


def test_tokens_are_read_as_a_grid_and_the_one_before_it():
    tokens = np.random.default_rng(0).random((2, 17, 4), np.float32)
    grid, before = tokens[:, 1:].reshape(2, 4, 4, 4), tokens[:, 0]
    network = maps.estimator_for((8, 8, 1))
    variables = network.init(jax.random.key(0), [tokens])
    found = network.apply(variables, [tokens])
    np.testing.assert_array_equal(found, network.apply(variables, [grid, before]))


def test_a_step_has_fewer_examples_where_they_hold_too_much(monkeypatch):
    def loss(params, batch, key):
        return jnp.tanh(params * batch).sum(), {}

    few, many = np.zeros((64, 10)), np.zeros((64, 1000, 100))
    assert maps.fitting(loss, np.float32(1), few, 32) == 32
    monkeypatch.setattr(memory, "TRAINING", 8 << 20)
    assert maps.fitting(loss, np.float32(1), few, 32) == 32
    assert 1 <= maps.fitting(loss, np.float32(1), many, 32) <= 8
    assert maps.fitting(loss, np.float32(1), many, 30, multiple=3) % 3 == 0


def test_how_many_examples_a_step_has_does_not_depend_on_the_machine(monkeypatch):
    def loss(params, batch, key):
        return jnp.tanh(params * batch).sum(), {}

    monkeypatch.setenv(memory.VARIABLE, "1M")
    assert maps.fitting(loss, np.float32(1), np.zeros((64, 1000, 100)), 32) == 32


@pytest.mark.parametrize(
    ("inputs", "features"),
    [
        ((50, 1, 6), (50, 1, 16)),
        ((50, 1, 6), (25, 16)),
        ((50, 1, 6), (12, 1, 32)),
        ((50, 1, 6), (64,)),
        ((1, 1, 30), (64,)),
        ((1, 1, 600), (8,)),
    ],
)
def test_networks_of_series_and_rows(inputs, features):
    for network in (Decoder(inputs), maps.estimator_for(inputs)):
        made, variables = shapes(network, features)
        assert made.shape == (1, *inputs) and weights(variables) <= MOST_WEIGHTS
        kernels = [leaf.shape for leaf in jax.tree.leaves(variables) if len(leaf.shape) == 4]
        assert isinstance(network, Decoder) or all(shape[1] == 1 for shape in kernels)
    for rectified in (False, True):
        edge = design(inputs, features, rectified=rectified, mean=(0.5,), std=(0.25,))
        assert edge.output_shape == features and edge.input_shape == inputs


def test_features_of_series_lie_in_its_time():
    assert grids.of_tokens(25, (50, 1, 6)) == (0, (25, 1))
    assert grids.of_tokens(25, (1, 1, 6)) == (0, None)
