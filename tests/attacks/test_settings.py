"""Settings of attacks and releases that cannot be used are refused before anything is attacked."""

import dataclasses

import jax
import numpy as np
import pytest
from test_attack import EDGE, IMAGES, PARAMS

from jaxinv.attacks import registry
from jaxinv.attacks.attack import EdgeKnown
from jaxinv.attacks.whitebox.settings import map_settings
from jaxinv.defenses import NONE, Release
from jaxinv.errors import UsageError
from jaxinv.measures import quality
from jaxinv.networks import lenet5

SETTINGS = [
    *(("steps", value) for value in (0, -1, 2.5, "3", None, True)),
    *(("learning_rate", value) for value in (-1, np.nan, np.inf, "fast")),
    *(("solver", "sgd"), ("box", "no"), ("box", 0), ("hinge", None), ("space", "pixels")),
    *(("scale", "most"), ("beta", 0), ("eps", -1), ("tv_weight", np.nan), ("cg_steps", 0)),
]


def assert_refused(name, value, call):
    with pytest.raises(UsageError) as caught:
        call()
    message = str(caught.value)
    assert message.startswith(f"{name}={value}: ") and "\n" not in message
    assert "expected" in message or "there are" in message


@pytest.mark.parametrize("method", ["paper", "tv", "map", "hybrid"])
@pytest.mark.parametrize(("name", "value"), [*SETTINGS, ("step", 3)])
def test_settings_of_white_box_attacks(method, name, value):
    options = {"network": lenet5(), "cut": "conv1", "overrides": {name: value}}
    assert_refused(name, value, lambda: registry.make("whitebox", method, **options))


@pytest.mark.parametrize("method", ["paper", "tv", "map", "hybrid"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "2"])
def test_chunks(method, value):
    options = {"network": lenet5(), "cut": "conv1", "chunk": value}
    assert_refused("chunk", value, lambda: registry.make("whitebox", method, **options))


@pytest.mark.parametrize("method", ["paper", "strong"])
@pytest.mark.parametrize("name", ["num_queries", "fit_steps"])
@pytest.mark.parametrize("value", [0, -4, 99.5, "99"])
def test_budgets(method, name, value):
    assert_refused(name, value, lambda: registry.make("blackbox", method, **{name: value}))


@pytest.mark.parametrize("value", [0, -1, 1.5, "2"])
def test_releases(value):
    key = jax.random.key(0)
    for call in (
        lambda: EdgeKnown(EDGE, PARAMS, IMAGES, releases=value),
        lambda: Release(EDGE, PARAMS, IMAGES, NONE, key, releases=value),
    ):
        assert_refused("releases", value, call)
    assert_refused("family", "()", lambda: EdgeKnown(EDGE, PARAMS, IMAGES, family=()))


@pytest.mark.parametrize("value", [0, -1, 2.5])
def test_chunks_of_metrics(value):
    images = np.zeros((2, 12, 12, 1), np.float32)
    assert_refused("chunk_size", value, lambda: quality.evaluate(images, images, chunk_size=value))


def test_numbers_of_numpy_are_numbers():
    found = map_settings().replaced({"steps": np.int64(3), "tv_weight": np.float32(0.5)})
    assert dataclasses.asdict(found)["steps"] == 3
