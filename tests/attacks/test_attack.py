"""Knowledge and reconstructions as values."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from jaxinv import defenses
from jaxinv.attacks.attack import EdgeKnown, Reconstruction, shared_out
from jaxinv.defenses import GAUSSIAN
from jaxinv.networks import sequence

EDGE = sequence([("conv", nn.Conv(2, (3, 3)))], (4, 4, 1))
PARAMS = jax.jit(EDGE.init)(jax.random.key(0))
IMAGES = np.random.default_rng(0).random((3, 4, 4, 1), np.float32)


def keys():
    return jax.random.split(jax.random.key(1), 3)


FAMILY = tuple(GAUSSIAN.at("feature", level) for level in (0.1, 2.0))


@pytest.mark.parametrize("releases", [1, 3])
def test_who_knows_the_edge_can_ask_as_one_who_may_only_query(releases):
    known = EdgeKnown(EDGE, PARAMS, IMAGES, FAMILY, releases)
    family = known.queries()
    assert family.members == 2 and family.images is IMAGES
    for member, defense in enumerate(FAMILY):
        alone = known.queries(member)
        expected = defenses.query_function(EDGE, PARAMS, defense, releases=releases)(keys(), IMAGES)
        assert alone.members == 0
        np.testing.assert_array_equal(alone.query(keys(), IMAGES), expected)
        found = family.query(keys(), IMAGES, np.full(3, member))
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_parts_share_the_time_of_the_whole():
    whole = Reconstruction(IMAGES, 6.0, 3.0, 9.0)
    parts = shared_out(whole, [Reconstruction(IMAGES[:1], 0.0), Reconstruction(IMAGES[1:], 0.0)])
    assert [part.seconds for part in parts] == [3.0, 3.0]
    assert [part.compile_seconds for part in parts] == [1.5, 1.5]
    assert sum(part.fit_seconds for part in parts) == 9.0
    assert len(parts[1].images) == 2


def test_the_answer_is_the_joint_one_where_there_are_several():
    assert Reconstruction(IMAGES, 1.0).answer is IMAGES
    assert Reconstruction(np.stack([IMAGES] * 2), 1.0, joint=IMAGES).answer is IMAGES
