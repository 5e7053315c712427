"""Inverse maps from pairs that are given: they learn as those that ask, and from nothing else."""

import jax
import numpy as np
import pytest
from toys import blobs

from jaxinv.attacks.blackbox.pairs import PairsAttack
from jaxinv.attacks.learned.pairs import Pairs
from jaxinv.errors import UsageError, UserError

GIVEN, OTHERS = blobs(100, (12, 12, 1)), blobs(20, (12, 12, 1), seed=1)
MATRIX = np.random.default_rng(0).normal(size=(144, 60)).astype(np.float32)


def edge(images):
    return np.maximum(images.reshape(len(images), -1) @ MATRIX, 0)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "steps"), [("strong", 40), ("paper", 3)])
def test_pairs_teach_an_inverse(method, steps):
    learned = PairsAttack(method, steps).learn(Pairs(GIVEN, edge(GIVEN)), jax.random.key(0))
    found = learned.invert(edge(OTHERS))
    assert found.images.shape == OTHERS.shape and found.info["fit_steps"] == steps
    assert (found.info["num_pairs"], found.info["num_held_out"]) == (90, 10)
    guess = np.mean((GIVEN.mean(axis=0) - OTHERS) ** 2)
    error = np.mean((np.clip(found.images, 0, 1) - OTHERS) ** 2)
    assert error < (0.75 if method == "strong" else 2) * guess
    with pytest.raises(UsageError, match="^observed="):
        learned.invert(OTHERS)


def test_too_few_pairs_and_methods_that_ask():
    pairs = Pairs(GIVEN[:19], edge(GIVEN[:19]))
    with pytest.raises(UserError, match="^19 pairs; at least 20"):
        PairsAttack().learn(pairs, jax.random.key(0))
    with pytest.raises(UsageError, match="^method=mean: expected one of strong, paper"):
        PairsAttack("mean")
    with pytest.raises(UsageError, match="^fit_steps=0"):
        PairsAttack(fit_steps=0)
