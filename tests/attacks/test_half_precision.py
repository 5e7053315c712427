"""Attackers who learn from queries of half precision, or from a cloud of half precision."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from datasets import samples
from toys import blobs

from jaxinv.attacks import registry
from jaxinv.attacks.attack import CloudKnown, EdgeKnown
from jaxinv.attacks.learned import maps
from jaxinv.attacks.learned.estimator import Estimator
from jaxinv.defenses import GAUSSIAN, NONE, Release
from jaxinv.measures import quality
from jaxinv.networks import sequence

SHAPE = (12, 12, 1)
ALL = blobs(68, SHAPE)
IMAGES, ATTACKED = ALL[:60], ALL[60:]


def network(dtype=None):
    """A network of a first layer of half precision, then a rectifier."""
    layers = [("conv", nn.Conv(8, (3, 3), dtype=dtype)), ("relu", nn.relu)]
    return sequence(layers, SHAPE, mean=0.5, std=0.5)


PARAMS = network().init(jax.random.key(0))


@pytest.fixture(scope="module", autouse=True)
def _small():
    """Little is tried, and little is learned."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(maps, "estimator_for", lambda shape: Estimator(shape, 4, depth=1))
        yield


def seen_of(dtype, defense=NONE):
    return Release(network(dtype), PARAMS, ATTACKED, defense, jax.random.key(2))


def psnr(found):
    assert found.dtype == np.float32
    return quality.evaluate(ATTACKED, np.clip(found, 0, 1)).psnr.mean()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "defense"),
    [("paper", NONE), ("strong", NONE), ("adaptive", GAUSSIAN.at("feature", 0.1))],
)
def test_queries_of_half_precision_are_learned_from_as_well(method, defense):
    def attacked(dtype):
        edge = EdgeKnown(network(dtype), PARAMS, IMAGES, (defense,))
        known = edge.queries(None if method == "adaptive" else 0)
        attack = registry.make("blackbox", method, fit_steps=40)
        learned = attack.learn(known, jax.random.key(1))
        return psnr(learned.invert(seen_of(dtype, defense)).answer)

    assert attacked(jnp.bfloat16) == pytest.approx(attacked(None), abs=3)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["strong", "adaptive"])
def test_clouds_of_half_precision_are_attacked_without_queries(method):
    def cloud(dtype):
        layers = [("hidden", nn.Dense(8, dtype=dtype)), ("relu", nn.relu)]
        return sequence([*layers, ("logits", nn.Dense(3, dtype=dtype))], (6,))

    params = cloud(None).init(jax.random.key(0))
    stream = np.random.default_rng(0).normal(size=(200, 6)).astype(np.float32)

    def attacked(dtype):
        options = {"num_shadows": 1, "shadow_steps": 20, "fit_steps": 10}
        attack = registry.make("queryfree", method, **options)
        known = CloudKnown(cloud(dtype), params, samples(200), stream)
        return attack.learn(known, jax.random.key(0)).invert(stream[:4]).answer

    found = attacked(jnp.bfloat16)
    assert found.dtype == np.float32 and np.isfinite(found).all()
