"""Linkage by the release, as records have it."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.attacks.attack import CloudKnown, EdgeKnown
from jaxinv.defenses import DROPOUT, GAUSSIAN, NONE, Release
from jaxinv.measures.intervals import Share
from jaxinv.networks import sequence
from jaxinv.studies import evaluation, linked

SHAPE = (4, 4, 1)
EDGE = sequence([("same", lambda x: x)], SHAPE)
GALLERY = np.random.default_rng(0).random((130, *SHAPE)).astype(np.float32)


def fields(defense, *, edge=EDGE, black=False, gallery=GALLERY):
    known = EdgeKnown(edge, {}, GALLERY[:0], (defense,))
    release = Release(edge, {}, gallery, defense, jax.random.key(1))
    return linked.fields(known.queries(0) if black else known, None, release, gallery, seed=0)


def test_a_share_has_its_exact_interval_and_tells_how_it_was_found():
    found = fields(GAUSSIAN.at("feature", 0.5))
    share, count = found["reid_likelihood"], found["reid_likelihood_images"]
    assert 0.1 < share < 0.9 and count == 130
    assert found["reid_likelihood_ci"] == pytest.approx(list(Share(share, count).interval()))
    assert found["reid_likelihood_way"] == "exact"
    assert fields(GAUSSIAN.at("feature", 0.5), black=True)["reid_likelihood_way"] == "draws"


def test_features_that_are_not_finite_are_no_protection():
    """One infinite feature hides no other, and scores that say nothing are no measure."""
    gallery = GALLERY.copy()
    gallery[3, 0, 0] = 0.0
    infinite = sequence([("log", jnp.log)], SHAPE)
    assert fields(NONE, edge=infinite, gallery=gallery)["reid_likelihood"] == 1.0
    undefined = sequence([("none", lambda x: x + jnp.log(-1 - x))], SHAPE)
    for defense in (NONE, GAUSSIAN.at("feature", 0.5)):
        assert fields(defense, edge=undefined) == evaluation.NO_LINK


def test_work_and_memory_are_bounded(monkeypatch):
    monkeypatch.setattr(linked, "_WORK", 1.0)
    assert fields(DROPOUT.at("feature", 0.2))["reid_likelihood_images"] == 100
    monkeypatch.setattr(linked, "_BYTES", 1)
    assert linked.gallery_size(16, 130) == 100 and linked.gallery_size(16, 30) == 30


def test_an_attacker_without_models_of_the_edge_has_nothing_to_compare_with():
    cloud = sequence([("out", lambda x: x[..., 0])], SHAPE)
    known = types.SimpleNamespace(images=GALLERY[:0])
    release = Release(EDGE, {}, GALLERY, GAUSSIAN.at("feature", 1.0), jax.random.key(1))

    unaware = CloudKnown(cloud, {}, known, release)  # type: ignore[arg-type]
    assert linked.fields(unaware, None, release, GALLERY, seed=0) == evaluation.NO_LINK


def test_the_worse_of_both_counts_and_both_intervals_hold_together():
    record = {"num_images": 64, "reid_top1": 0.0, "reid_likelihood": 0.5}
    found = evaluation.worst_linkage({**record, "reid_likelihood_images": 400})
    assert found["reid"] == 0.5
    ends = (Share(0.5, 400).interval(0.975).low, Share(0.5, 400).interval().high)
    assert found["reid_ci"] == pytest.approx(list(ends))
    alone = evaluation.worst_linkage({"num_images": 64, "reid_top1": 0.25})
    assert (alone["reid"], alone["reid_ci"]) == (0.25, list(Share(0.25, 64).interval()))
    few = evaluation.worst_linkage({**record, "num_images": 3, "reid_likelihood_images": 400})
    assert few["reid_ci"][1] > 0.7  # three images prove little
