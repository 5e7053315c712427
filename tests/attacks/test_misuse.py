"""Features, parameters and keys that do not fit are refused before an attack begins."""

import types

import flax.linen as nn
import jax
import numpy as np
import pytest

from jaxinv.attacks import registry
from jaxinv.attacks.attack import CloudKnown, EdgeKnown
from jaxinv.attacks.blackbox.learning import InvertedQueries
from jaxinv.attacks.queryfree.shadowed import ShadowedEdge
from jaxinv.attacks.whitebox import rmle
from jaxinv.attacks.whitebox.adaptive import AdaptedAttack
from jaxinv.attacks.whitebox.settings import map_settings
from jaxinv.defenses import NONE, Release, defended_inputs, query_function
from jaxinv.errors import UsageError, UserError
from jaxinv.inputs.samples import Samples
from jaxinv.networks import sequence

NETWORK = sequence([("conv", nn.Conv(2, (3, 3))), ("relu", nn.relu)], (4, 4, 1))
EDGE, CLOUD = NETWORK.split("conv")
PARAMS = NETWORK.init(jax.random.key(0))
OTHERS = sequence([("conv", nn.Conv(3, (3, 3)))], (4, 4, 1)).init(jax.random.key(0))
IMAGES = np.random.default_rng(0).random((24, 4, 4, 1), np.float32)
GOOD = np.zeros((2, 4, 4, 2), np.float32)


def staged():
    return rmle.tv(NETWORK, "conv").learn(EdgeKnown(EDGE, PARAMS, IMAGES), jax.random.key(0))


def asking():
    known = EdgeKnown(EDGE, PARAMS, IMAGES).queries(0)
    return registry.make("blackbox", "strong").learn(known, jax.random.key(0))


def mapping():
    return InvertedQueries(None, EDGE.output_shape, 0.0, {})


def adapted():
    return AdaptedAttack(None, None, None, None, {}, 0.0, EDGE.output_shape)


def shadowed():
    return ShadowedEdge(types.SimpleNamespace(network=EDGE), [], 0.0)


def plain():
    """Returns `rmle.invert` as an attacker has it."""
    settings = map_settings()
    return types.SimpleNamespace(invert=lambda v: rmle.invert(EDGE, PARAMS, v, settings))


@pytest.mark.parametrize("learned", [plain, staged, asking, mapping, adapted, shadowed])
@pytest.mark.parametrize(
    ("features", "got"),
    [
        (GOOD[..., :1], r"float32 \[2, 4, 4, 1\]"),
        (GOOD.reshape(2, -1), r"float32 \[2, 32\]"),
        (GOOD[:0], r"float32 \[0, 4, 4, 2\]"),
        (GOOD.astype(np.uint8), r"uint8 \[2, 4, 4, 2\]"),
        (GOOD.astype(int), r"int64 \[2, 4, 4, 2\]"),
        (GOOD.tolist(), "list"),
        (Release(NETWORK.split("relu")[0], PARAMS, IMAGES[:0], NONE, jax.random.key(0)), "0, 4"),
    ],
    ids=["channels", "flat", "none", "bytes", "whole", "list", "empty_release"],
)
def test_features_of_another_cut_are_refused(learned, features, got):
    with pytest.raises(UsageError, match=rf"=.*{got}.*: expected floats \[N, 4, 4, 2\]"):
        learned().invert(features)


def test_the_cut_of_a_release_is_told_without_computing_it():
    wide = sequence([("conv", nn.Conv(5, (3, 3)))], (4, 4, 1))
    params = wide.init(jax.random.key(0))
    other = Release(wide, params, IMAGES, NONE, jax.random.key(0))
    assert other.shape == (24, 4, 4, 5)
    with pytest.raises(UsageError, match=r"observed=float32 \[24, 4, 4, 5\]: expected floats"):
        staged().invert(other)


@pytest.mark.parametrize(
    "use",
    [
        lambda params: EdgeKnown(EDGE, params, IMAGES),
        lambda params: Release(EDGE, params, IMAGES, NONE, jax.random.key(0)),
        lambda params: query_function(EDGE, params),
        lambda params: rmle.invert(EDGE, params, GOOD, map_settings()),
    ],
    ids=["known", "release", "query", "invert"],
)
def test_parameters_of_another_network_are_refused(use):
    with pytest.raises(UserError, match=r"conv/(bias|kernel) has shape .* expected"):
        use(OTHERS)
    with pytest.raises(UserError, match="lack conv/"):
        use({"dense": PARAMS["conv"]})


KEYS = {
    "number": 0,
    "none": None,
    "several": jax.random.split(jax.random.key(0)),
    "floats": np.zeros(2, np.float32),
}


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS.keys())
@pytest.mark.parametrize(
    "use",
    [
        lambda key: Release(EDGE, PARAMS, IMAGES, NONE, key),
        lambda key: defended_inputs(EDGE, IMAGES, NONE, key),
        EDGE.init,
        lambda key: registry.make("whitebox", "map").learn(EdgeKnown(EDGE, PARAMS, IMAGES), key),
    ],
    ids=["release", "inputs", "init", "learn"],
)
def test_no_key_is_refused(use, key):
    with pytest.raises(UsageError, match=r"key=.*: expected one random key, such as jax.random"):
        use(key)


def test_old_keys_are_taken():
    old = Release(EDGE, PARAMS, IMAGES, NONE, jax.random.PRNGKey(0))
    assert old[np.arange(2)].shape == GOOD.shape


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (dict(stream=GOOD[..., :1]), r"stream=float32 \[2, 4, 4, 1\]: expected floats"),
        (dict(releases=0), "releases=0"),
    ],
)
def test_a_stream_is_that_of_the_cloud(options, told):
    cloud, samples = CLOUD, Samples((255 * IMAGES).astype(np.uint8), np.zeros(24, np.int32))
    with pytest.raises(UsageError, match=told):
        CloudKnown(**{"cloud": cloud, "params": {}, "samples": samples, "stream": GOOD, **options})


@pytest.mark.parametrize("chunk", [0, -1, 1.5, "2", [2], True])
def test_a_chunk_is_a_number_of_images(chunk):
    with pytest.raises(UsageError, match="chunk=.*: expected at least 1"):
        rmle.invert(EDGE, PARAMS, GOOD, map_settings(), chunk=chunk)
