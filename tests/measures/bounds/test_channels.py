"""Channels: the noise that counts."""

import flax.linen as nn
import jax
import numpy as np
import pytest
from small_edge import AFFINE, EDGE

from jaxinv import defenses
from jaxinv.defenses import GAUSSIAN, LAPLACE, NONE, QUANTIZE, Release, clipped_gaussian
from jaxinv.measures import bounds
from jaxinv.networks import sequence


def test_what_follows_the_first_step_adds_nothing():
    defense = GAUSSIAN.at("input", 0.5) + QUANTIZE.at("feature", 2)
    through = bounds.channel(EDGE, defense, releases=4)
    assert through.network.cuts == () and through.network.mean == EDGE.mean
    assert (through.noise, through.scale, through.releases) == ("gaussian", 0.5, 4)
    assert through.information == 16.0
    assert bounds.channel(EDGE, LAPLACE.at("feature", 2.0)).information == 0.25
    assert bounds.channel(EDGE, clipped_gaussian(7.0).at("feature", 0.1)).scale == pytest.approx(
        0.7
    )


def test_noise_at_the_input_comes_first_whatever_is_named_first():
    """Noise at the input lifts images over a rectifier: bounds on the features do not hold then."""
    relu = sequence([("relu", lambda x: nn.relu(x - 1))], (1, 1, 1))
    defense = GAUSSIAN.at("feature", 0.01) + GAUSSIAN.at("input", 0.3)
    through = bounds.channel(relu, defense)
    assert through.network.cuts == () and through.scale == 0.3
    images = np.array([0.0, 0.8], np.float32).reshape(2, 1, 1, 1)
    released = [
        Release(relu, {}, np.repeat(image[None], 2000, axis=0), defense, jax.random.key(own))
        for own, image in enumerate(images)
    ]
    seen = np.stack([release[np.arange(2000)].ravel() for release in released])
    found = (seen[0] <= 0.03).mean() / 2 + (seen[1] > 0.03).mean() / 2
    clean = np.asarray(relu.apply({}, images))
    assert bounds.fano(bounds.Channel(relu, "gaussian", 0.01), clean) < found - 0.05
    assert found <= bounds.fano(through, images)


def test_what_noise_at_the_input_sees_is_the_same_network_each_time():
    """One level and one cut compile and measure for all of them."""
    of_one, of_other = (
        bounds.channel(network, GAUSSIAN.at("input", level)).network
        for network, level in ((EDGE, 0.5), (AFFINE, 2.0))
    )
    assert of_one is of_other


@pytest.mark.parametrize(
    "defense",
    [NONE, GAUSSIAN.at("feature", 0), QUANTIZE.at("feature", 2) + GAUSSIAN.at("feature", 1)],
)
def test_without_noise_at_first_there_is_no_channel(defense):
    assert bounds.channel(EDGE, defense) is None


def test_defenses_say_what_noise_they_come_to():
    told = {name: each.noise for name, each in defenses.MECHANISMS.items() if each.noise}
    learned = dict.fromkeys(("vib", "cloak", "shaped"), "gaussian")
    assert told == {
        "gaussian": "gaussian",
        "laplace": "laplace",
        "dropout": "dropout",
        **learned,
    }
    assert {defenses.MECHANISMS[name].noise_scale(0.01) for name in learned} == {1.0}
