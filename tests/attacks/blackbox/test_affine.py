"""Exact recovery behind affine edges of any layers and size, and its queries."""

import flax.linen as nn
import jax
import numpy as np
import pytest
import scipy.sparse

from jaxinv.attacks.blackbox import affine, systems, windows
from jaxinv.defenses import query_function
from jaxinv.measures import quality
from jaxinv.networks import sequence

RNG = np.random.default_rng(0)


def asked(layer, shape, *, budget=100_000):
    """An attempt at an edge with random weights, images, and what the edge makes of them."""
    layers = layer if isinstance(layer, list) else [layer]
    named = [(f"layer{number}", each) for number, each in enumerate(layers)]
    edge = sequence(named, shape, mean=0.4, std=0.3)
    params = jax.jit(edge.init)(jax.random.key(0))
    images = RNG.random((2, *shape), np.float32)
    features = np.asarray(edge.apply(params, images))
    tried = affine.ask(
        query_function(edge, params),
        features[:1],
        shape,
        key=jax.random.key(1),
        num_queries=budget,
    )
    return tried, images, features


@pytest.mark.parametrize(
    ("layer", "shape", "queries"),
    [
        (nn.Conv(8, (3, 3)), (64, 64, 3), 229),
        (nn.Conv(4, (3, 3)), (96, 96, 1), 79),
    ],
)
def test_a_convolution_is_inverted_exactly_whatever_the_size(layer, shape, queries):
    tried, images, features = asked(layer, shape)
    found = tried.system.solve(features).reshape(images.shape)
    np.testing.assert_array_equal(quality.evaluate(images, found).psnr, quality.PSNR_CAP)
    assert tried.queries == queries


def flat(x):
    return x.reshape(len(x), -1)


EDGES = {
    "strided": (nn.Conv(16, (3, 3), strides=2), 1),
    "without padding": (nn.Conv(8, (3, 3), padding="VALID"), 1),
    "dilated": (nn.Conv(8, (3, 3), kernel_dilation=2), 1),
    "grouped": (nn.Conv(8, (3, 3), feature_group_count=2), 2),
    "large": (nn.Conv(8, (5, 5)), 1),
    "pooled": ([nn.Conv(16, (3, 3)), lambda x: nn.avg_pool(x, (2, 2), (2, 2))], 1),
    "stored statistics": ([nn.Conv(8, (3, 3)), nn.BatchNorm(use_running_average=True)], 1),
    "two": ([nn.Conv(4, (3, 3)), nn.Conv(8, (3, 3))], 1),
    "transposed and mirrored": (
        [nn.Conv(8, (3, 3)), lambda x: x[:, ::-1].transpose(0, 3, 2, 1)],
        1,
    ),
    "flattened": ([nn.Conv(8, (3, 3)), flat], 1),
    "elementwise": (lambda x: 3 * x - 1, 2),
    "dense": ([flat, nn.Dense(900)], 1),
}


@pytest.mark.parametrize("name", EDGES)
def test_any_affine_edge_is_inverted_exactly(name):
    layer, channels = EDGES[name]
    tried, images, features = asked(layer, (26, 23, channels))
    found = tried.system.solve(features).reshape(images.shape)
    assert quality.evaluate(images, found).psnr.min() > 85  # float32, where weights are alike
    size = images[0].size
    assert tried.queries <= (size + 15 if name == "dense" else 2 * size // 3)


AMBIGUOUS = {
    "one filter": nn.Conv(1, (3, 3)),
    "only differences": lambda x: x - x.mean((1, 2, 3), keepdims=True),
    "a value left out": lambda x: x * (np.arange(23)[None, None, :, None] != 7),
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_an_edge_that_forgets_is_not_called_inverted(name):
    tried, _, _ = asked(AMBIGUOUS[name], (26, 23, 1))
    assert tried.system is None
    assert tried.found == "affine, and maps several images to about the same features"


def test_a_result_says_what_exact_recovery_lacks(monkeypatch):
    dense = [flat, nn.Dense(700)]
    assert asked(nn.relu, (26, 23, 1))[0].found == "not affine"
    assert asked(nn.Conv(2, (3, 3), strides=2), (26, 23, 1))[0].queries == 0
    tried, _, _ = asked(dense, (26, 23, 1), budget=400)
    assert tried.found == "its weights would take 598 queries, 389 were left"
    assert tried.queries == 11
    monkeypatch.setattr(systems, "MOST_VALUES", 2**18)
    tried, _, _ = asked(dense, (26, 23, 1))
    assert tried.found == "its 700 x 598 weights are too many to be kept"


@pytest.mark.parametrize("bands", [2**28, 0])
def test_a_strided_stem_is_inverted_by_bands_or_by_conjugate_gradients(monkeypatch, bands):
    monkeypatch.setattr(systems, "MOST_BANDS", bands)
    tried, images, features = asked(nn.Conv(16, (7, 7), strides=2), (40, 36, 1))
    found = tried.system.solve(features).reshape(images.shape)
    assert quality.evaluate(images, found).psnr.min() > 85


def test_conjugate_gradients_see_that_pixels_tell_nothing(monkeypatch):
    monkeypatch.setattr(systems, "MOST_BANDS", 0)
    weight = scipy.sparse.csc_array(np.eye(6, 8, dtype=np.float32) * (np.arange(6)[:, None] > 0))
    with pytest.raises(systems.UnsolvedError, match="several images"):
        systems.factorised(weight, np.zeros(8, np.float32))


def test_the_weights_of_a_stem_for_photographs_fit_into_memory():
    """A convolution of 7 x 7 with stride 2 and 64 filters, at 224 x 224."""
    values, weights = 112 * 112 * 64, 7 * 7 * 3
    spacings = [grids.spacing for grids in affine._grids((224, 224, 3), values)]
    assert 13 in spacings
    assert 4 * windows.MOST_ANSWERS + 8 * values * weights < 4 << 30


def test_a_few_queries_are_enough_for_a_convolution():
    tried, images, features = asked(nn.Conv(8, (3, 3)), (26, 23, 1), budget=100)
    assert tried.queries == 79
    np.testing.assert_allclose(tried.system.solve(features), images.reshape(2, -1), atol=1e-5)


def test_features_that_the_map_does_not_explain_have_no_solution():
    tried, _, features = asked(nn.Conv(8, (3, 3)), (26, 23, 1))
    assert tried.system.solve(features + RNG.normal(size=features.shape)) is None
