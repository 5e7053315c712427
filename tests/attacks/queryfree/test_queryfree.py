"""Query-free attacks: what they are handed, what shadows are worth, and what is kept."""

import dataclasses

import jax
import numpy as np
import pytest
from datasets import samples
from toys import classify, edge

from jaxinv.attacks import registry
from jaxinv.attacks.attack import CloudKnown
from jaxinv.attacks.learned import maps
from jaxinv.attacks.learned.estimator import Estimator
from jaxinv.attacks.queryfree import shadow, shadowed
from jaxinv.attacks.queryfree.paper import inversion_settings
from jaxinv.attacks.shelf import NOWHERE, Shelf
from jaxinv.defenses import DROPOUT, NONE
from jaxinv.errors import UserError
from jaxinv.networks import lenet5, sequence

IMAGES = samples(40, seed=8).images
CLOUD = sequence([("logits", classify)], (6,))


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(maps, "estimator_for", lambda shape: Estimator(shape, 4))


def learned(method, stream, *, images=600, shelf=NOWHERE, defense=NONE, **options):
    options = {"num_shadows": 2, "shadow_steps": 400, "fit_steps": 100, **options}
    attack = registry.make("queryfree", method, **options)
    known = CloudKnown(CLOUD, {}, samples(images), stream, defense)
    return attack.learn(known, jax.random.key(0), shelf)


def attack(method, **options):
    return learned(method, edge(samples(1500, seed=9).images), **options).invert(edge(IMAGES))


def mean_error(found):
    return ((found - IMAGES) ** 2).mean()


@pytest.fixture(scope="module")
def strong():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(maps, "estimator_for", lambda shape: Estimator(shape, 4))
        return attack("strong")


def test_every_shadow_answers_and_so_do_all_together(strong):
    assert strong.images.shape == (2, *IMAGES.shape)
    assert strong.joint.shape == IMAGES.shape
    assert list(strong.ways) == ["joint", "uncorrected", "shadow 0", "shadow 1"]
    assert np.array_equal(strong.ways["joint"], strong.joint)
    assert mean_error(strong.joint) < mean_error(strong.ways["uncorrected"])
    assert not np.array_equal(*strong.images)
    assert len(strong.info["shadow_accuracy"]) == 2
    assert strong.seconds > 0 and strong.fit_seconds > 0


def test_the_stream_is_worth_something(strong):
    guess = samples().images.mean(axis=0, keepdims=True)
    assert mean_error(strong.joint) < 0.7 * ((guess - IMAGES) ** 2).mean()
    paper = attack("paper")
    assert paper.images.shape == (2, *IMAGES.shape)
    assert mean_error(strong.joint) < mean_error(paper.joint.clip(0, 1))


def test_the_authors_settings():
    settings = inversion_settings(lenet5())
    assert (settings.solver, settings.steps, settings.learning_rate) == ("amsgrad", 500, 0.1)
    assert settings.tv_weight == settings.tv_start == 2
    assert not settings.box and not settings.hinge


def test_what_an_attacker_is_handed_holds_nothing_of_the_edge():
    handed = {field.name for field in dataclasses.fields(CloudKnown)}
    assert not handed & {"edge", "query", "target", "images"}


def test_a_shadow_is_designed_by_what_was_seen(monkeypatch):
    seen = []

    def design(image_shape, feature_shape, **options):
        seen.append((image_shape, feature_shape, options))
        raise UserError("enough")

    monkeypatch.setattr(shadowed, "design", design)
    for features, rectified in ((np.zeros((3, 6)), True), (-np.ones((3, 6)), False)):
        with pytest.raises(UserError, match="enough"):
            learned("strong", features.astype("f"))
        assert seen[-1][:2] == ((4, 4, 1), (6,))
        assert seen[-1][2]["rectified"] is rectified
    colours = samples()[:500].images
    assert seen[0][2]["mean"] == pytest.approx([colours.mean()], rel=1e-5)
    assert seen[0][2]["std"] == pytest.approx([colours.std()], rel=0.01)


@pytest.mark.parametrize("method", ["paper", "strong", "adaptive"])
def test_strong_knows_the_defence_and_the_authors_train_longer_behind_a_rectifier(
    monkeypatch, method
):
    asked = []

    def fit(*args, recipe, defense=NONE, **options):
        asked.append((recipe.steps, defense))
        raise UserError("enough")

    monkeypatch.setattr(shadow, "fit", fit)
    defense = DROPOUT.at("feature", 0.5)
    for features in (np.zeros((3, 6), "f"), -np.ones((3, 6), "f")):
        for steps in (None, 7):
            with pytest.raises(UserError, match="enough"):
                learned(method, features, defense=defense, shadow_steps=steps)
    strong = ([600, 7, 600, 7], defense)
    steps, known = {"paper": ([11250, 7, 5625, 7], NONE)}.get(method, strong)
    assert asked == [(each, known) for each in steps]


@pytest.mark.slow
def test_what_was_trained_is_kept(tmp_path):
    options = {
        "num_shadows": 1,
        "shadow_steps": 10,
        "fit_steps": 10,
        "shelf": Shelf(tmp_path),
    }
    first = attack("strong", **options)
    kept = {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    assert len(kept) == 3  # shadows, and a map with its linear part
    again = attack("strong", **options)
    assert {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == kept
    np.testing.assert_allclose(first.images, again.images, atol=1e-6)


def test_too_few_images_are_a_mistake():
    with pytest.raises(UserError, match="3 surrogate images"):
        learned("paper", edge(IMAGES), images=3)
