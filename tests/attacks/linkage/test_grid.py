"""Linkage by the numbers that noise takes, on noise of our own and of others'."""

import jax
import numpy as np
import pytest
import scipy.stats

from jaxinv.attacks.attack import EdgeKnown
from jaxinv.attacks.linkage import bayes, grid, link
from jaxinv.defenses import GAUSSIAN, LAPLACE, QUANTIZE, Mechanism, Release, clipped_gaussian
from jaxinv.measures.linkage import singled_out
from jaxinv.networks import sequence

RNG = np.random.default_rng(0)
CANDIDATES = RNG.random((40, 6, 6, 1)).astype(np.float32)
MATRIX = RNG.normal(size=(36, 700)).astype(np.float32)
EDGES = {
    "affine": sequence([("a", lambda x: x.reshape(len(x), -1) @ MATRIX)], (6, 6, 1)),
    "rectified": sequence(
        [("r", lambda x: jax.nn.relu((x.reshape(len(x), -1) - 0.5) @ MATRIX))], (6, 6, 1)
    ),
}
MUCH = 512.0  # noise behind which features are lost

every_edge = pytest.mark.parametrize("edge", EDGES.values(), ids=EDGES)


def naive(draw, **more):
    def apply(key, x, level):
        return x + level * draw(key, x.shape, x.dtype)

    return Mechanism("naive", apply, **more)


def likely(clean, observed, level):
    return -(((observed - clean) / level) ** 2) / 2


NAIVE = {
    "normal": naive(jax.random.normal),
    "laplace": naive(jax.random.laplace, log_likelihood=likely),
    "known": naive(jax.random.normal, log_likelihood=likely, noise="gaussian"),
    "said to be rounded": naive(
        jax.random.normal, log_likelihood=likely, noise="gaussian", rounded=True
    ),
}


def released(edge, defense, releases=1):
    known = EdgeKnown(edge, {}, CANDIDATES[:0], (defense,), releases)
    made = Release(edge, {}, CANDIDATES, defense, jax.random.key(1), releases=releases)
    return known, made.each()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, edge",
    [("known", "affine"), *((name, "rectified") for name in NAIVE)],
)
def test_noise_that_is_not_rounded_tells_everybody(name, edge):
    known, observed = released(EDGES[edge], NAIVE[name].at("feature", MUCH))
    found = link(known, None, CANDIDATES, observed, jax.random.key(2))
    assert found.way == "grid"
    assert singled_out(found.scores, CANDIDATES).all()


@every_edge
@pytest.mark.parametrize(
    "mechanism", [GAUSSIAN, LAPLACE, clipped_gaussian(2.0)], ids=["gaussian", "laplace", "clip"]
)
def test_noise_that_is_rounded_tells_nothing_by_its_numbers(mechanism, edge, monkeypatch):
    """Even an attacker who makes use of them all the same finds no more than chance."""
    known, observed = released(edge, mechanism.at("feature", MUCH))
    assert grid.scores(known, CANDIDATES, observed, jax.random.key(2)) is None
    monkeypatch.setattr(grid.Hits, "tell", True)
    found = grid.scores(known, CANDIDATES, observed, jax.random.key(2))
    right = int(singled_out(found, CANDIDATES).sum())
    assert scipy.stats.binom.sf(right - 1, 40, 1 / 40) > 1e-3


@pytest.mark.parametrize(
    "defense",
    [
        NAIVE["normal"].at("input", 1.0),
        NAIVE["normal"].at("feature", 1.0) + QUANTIZE.at("feature", 4),
        QUANTIZE.at("feature", 4),
    ],
    ids=["at the input", "quantized", "nothing drawn"],
)
def test_where_no_noise_comes_last_its_numbers_are_not_looked_for(defense):
    known, observed = released(EDGES["affine"], defense)
    assert grid.scores(known, CANDIDATES, observed, jax.random.key(2)) is None


def test_each_of_several_releases_is_looked_at():
    known, observed = released(EDGES["affine"], NAIVE["known"].at("feature", MUCH), releases=2)
    found = link(known, None, CANDIDATES, observed, jax.random.key(2))
    assert found.way == "grid" and singled_out(found.scores, CANDIDATES).all()


def test_noise_that_is_not_rounded_has_no_bayes_rate():
    """Its density is not all that it tells."""
    known, _ = released(EDGES["affine"], NAIVE["known"].at("feature", MUCH))
    assert bayes.rate(known, CANDIDATES, seed=0) is None
