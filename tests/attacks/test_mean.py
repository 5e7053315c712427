"""The mean attacker: what it answers, and that every experiment with attacks offers it."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from jaxinv.attacks import registry
from jaxinv.attacks.attack import CloudKnown, EdgeKnown, QueriesKnown
from jaxinv.constants.threats import THREATS
from jaxinv.errors import UserError
from jaxinv.inputs.samples import Samples
from jaxinv.networks import sequence

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 4, 3, 1), dtype=np.uint8)
SAMPLES = Samples(PIXELS, np.zeros(30, np.int32))


def known_of(threat, samples):
    """Knowledge whose networks tell nothing, and whose queries would fail."""
    if threat == "whitebox":
        return EdgeKnown(sequence([("relu", nn.relu)], (4, 3, 1)), {}, samples.images)
    if threat == "blackbox":
        return QueriesKnown(None, samples.images)
    cloud = sequence([("relu", nn.relu)], (7,))
    return CloudKnown(cloud, {}, samples, np.zeros((5, 7), np.float32))


@pytest.mark.parametrize("threat", THREATS)
def test_every_image_is_the_mean_of_the_attackers_own(threat):
    attack = registry.make(threat, "mean", fit_steps=3)
    learned = attack.learn(known_of(threat, SAMPLES), jax.random.key(0))
    found = learned.invert(np.zeros((5, 7)))
    assert found.images.shape == (5, 4, 3, 1)
    assert found.images.dtype == np.float32
    for image in found.images:
        np.testing.assert_allclose(image, PIXELS.mean(0) / 255, rtol=1e-5)
    assert found.seconds > 0
    assert attack.identity == {} and attack.learns
    with pytest.raises(UserError, match="19 surrogate images: mean needs 20"):
        attack.learn(known_of(threat, SAMPLES[:19]), jax.random.key(0))


@pytest.mark.parametrize("threat", THREATS)
def test_each_experiment_with_attacks_offers_it(threat):
    assert "mean" in registry.methods(threat)
    assert "mean" in registry.methods("defenses", threat)
