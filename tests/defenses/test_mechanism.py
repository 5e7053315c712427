"""Mechanisms and defenses as values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from behind import CLIP, IMAGES, LEVEL, PIXELS, PLAIN, every_mechanism, released

from jaxinv.defenses import (
    DROPOUT,
    GAUSSIAN,
    LAPLACE,
    NONE,
    NOPEEK,
    PROJECT,
    PRUNE,
    QUANTIZE,
    Mechanism,
)
from jaxinv.errors import UsageError
from jaxinv.networks import sequence


def test_describe():
    assert NONE.describe() == {"kind": "none", "site": "feature", "level": 0.0}
    one = DROPOUT.at("input", LEVEL)
    assert one.describe() == {"kind": "dropout", "site": "input", "level": LEVEL}
    both = one + GAUSSIAN.at("feature", 2)
    expected = {"kind": "dropout+gaussian", "site": "input+feature", "level": [LEVEL, 2.0]}
    expected["grid"] = [None, 1 / 32]
    assert both.describe() == expected
    assert (GAUSSIAN.at("input", 1) + LAPLACE.at("input", 1)).describe()["site"] == "input"
    assert NONE + one == one == one + NONE


def test_several_are_done_in_turn():
    double = Mechanism("double", lambda key, x, level: 2 * x)
    more = Mechanism("more", lambda key, x, level: x + level)
    a, b = double.at("feature", 1.0), more.at("feature", 3.0)
    np.testing.assert_allclose(released(a + b, edge=PLAIN), 2 * PIXELS + 3, atol=1e-5)
    np.testing.assert_allclose(released(b + a, edge=PLAIN), 2 * (PIXELS + 3), atol=1e-5)
    # The input comes first, wherever it stands in the sum.
    edge = sequence([("square", jnp.square)], (28, 28, 1))
    last = more.at("input", 3.0)
    np.testing.assert_allclose(released(a + last, edge=edge), 2 * (IMAGES + 3) ** 2, rtol=1e-5)


def test_steps_of_one_kind_draw_by_themselves():
    once, twice = (
        released(defense, edge=PLAIN) - PIXELS
        for defense in (
            GAUSSIAN.at("feature", LEVEL),
            GAUSSIAN.at("feature", LEVEL) + GAUSSIAN.at("feature", LEVEL),
        )
    )
    assert np.std(twice) == pytest.approx(2**0.5 * np.std(once), rel=0.03)


def test_what_is_random():
    assert not NONE.is_random
    assert not DROPOUT.at("feature", 0.0).is_random
    assert not QUANTIZE.at("feature", 2).is_random
    assert (QUANTIZE.at("feature", 2) + DROPOUT.at("feature", 0.1)).is_random
    assert CLIP.at("feature", 0.1).is_random


@pytest.mark.parametrize(
    ("mechanism", "level"),
    [
        (GAUSSIAN, -0.1),
        (LAPLACE, float("nan")),
        (GAUSSIAN, float("inf")),
        (DROPOUT, 1.0),
        (PRUNE, 1.0),
        (PROJECT, 1.5),
        (QUANTIZE, 2.5),
        (QUANTIZE, 17),
        (NOPEEK, -1.0),
        (CLIP, -1.0),
        *((GAUSSIAN, level) for level in ("1", None, True, 10**400)),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_a_level_out_of_range_is_a_mistake(mechanism, level):
    with pytest.raises(UsageError, match=f"level={level}: {mechanism.name} takes a .*at least 0"):
        mechanism.at("feature", level)


@pytest.mark.parametrize("make", [np.array, np.float32, jnp.float32, jnp.asarray])
def test_an_array_of_no_dimensions_is_a_level(make):
    assert GAUSSIAN.at("feature", make(0.5)) == GAUSSIAN.at("feature", 0.5)


@pytest.mark.parametrize(
    "level", [np.array([0.5]), np.array(True), jax.random.key(0)], ids=["row", "bool", "key"]
)
def test_other_arrays_are_none(level):
    with pytest.raises(UsageError, match="gaussian takes a number"):
        GAUSSIAN.at("feature", level)


def test_a_traced_level_is_none():
    with pytest.raises(UsageError, match="gaussian takes a number"):
        jax.jit(lambda level: GAUSSIAN.at("feature", level))(0.5)


def test_a_site_that_is_none_is_a_mistake():
    with pytest.raises(UsageError, match="site=wire: expected input or feature"):
        GAUSSIAN.at("wire", 1.0)
    with pytest.raises(UsageError, match="site=input: nopeek"):
        NOPEEK.at("input", 1.0)


@every_mechanism
def test_every_level_of_a_sweep_may_be_used(mechanism):
    assert mechanism.sweep[0] == 0
    assert len({mechanism.at("feature", level) for level in mechanism.sweep}) > 3
    assert mechanism.unit and mechanism.source


def test_to_which_level_several_releases_come():
    assert GAUSSIAN.at("feature", 0.6).combined(4) == pytest.approx([0.3])
    assert LAPLACE.at("feature", 0.6).combined(1) == pytest.approx([0.6])
    assert LAPLACE.at("feature", 0.6).combined(8) == pytest.approx([0.15])
    assert DROPOUT.at("feature", 0.5).combined(3) == pytest.approx([0.125])
    assert QUANTIZE.at("feature", 3).combined(3) == pytest.approx([3])
    assert DROPOUT.at("feature", 0.0).combined(3) == pytest.approx([0])
    both = DROPOUT.at("feature", 0.5) + GAUSSIAN.at("feature", 0.6)
    assert both.combined(4) == pytest.approx([0.5, 0.6])
    assert NONE.combined(2).shape == (0,)
