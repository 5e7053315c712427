import functools

import flax.linen as nn
import jax
import numpy as np
import pytest
from toys import blobs

from jaxinv.attacks import registry
from jaxinv.attacks.attack import EdgeKnown
from jaxinv.attacks.inversion import loop as optimize
from jaxinv.attacks.learned import inverse
from jaxinv.attacks.shelf import NOWHERE, Shelf
from jaxinv.attacks.whitebox import hybrid, map, rmle, trials
from jaxinv.attacks.whitebox.settings import tv_settings
from jaxinv.errors import UserError
from jaxinv.measures import quality
from jaxinv.networks import lenet5, sequence


def key():
    return jax.random.key(3)


@functools.cache
def attacker(cut):
    """An edge with random parameters, images to learn from, and others to attack."""
    network = lenet5()
    params = network.init(jax.random.key(1))
    edge, _ = network.split(cut)
    images = blobs(260, network.input_shape)
    return edge, edge.select(params), images[:240], images[240:]


def learn(method, edge, params, images, *, shelf=NOWHERE, seed=3, **options):
    attack = registry.make("whitebox", method, **options)
    return attack.learn(EdgeKnown(edge, params, images), jax.random.key(seed), shelf)


@functools.cache
def lesson_of_map():
    edge, params, images, _ = attacker("relu2")
    return learn("map", edge, params, images)


@pytest.fixture(scope="module", autouse=True)
def _few_at_once():
    """As few images are attacked, places for more would be idle."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optimize, "_CPU_LARGEST", 20)
        yield


@pytest.fixture
def briefly(monkeypatch):
    """Learns from few trials, and few corrections."""
    monkeypatch.setattr(trials, "TAUGHT", (40, 40))
    monkeypatch.setattr(hybrid, "MOST_TRIALS", 6)
    monkeypatch.setattr(map, "MOST_TRIALS", 6)
    monkeypatch.setattr(map, "_ENDS", (1e-2, 1e-4))
    monkeypatch.setattr(hybrid, "_CORRECTIONS", 1)


def psnr(images, found):
    return float(quality.evaluate(images, found.images).psnr.mean())


@pytest.mark.slow
def test_map_knows_how_good_it_is_on_images_it_has_not_seen():
    edge, params, _, attacked = attacker("relu2")
    lesson = lesson_of_map()
    (stage,) = lesson.stages
    assert stage.estimate is None
    assert lesson.fit_seconds > 0
    features = np.asarray(edge.apply(params, attacked))
    found = lesson.invert(features)
    assert psnr(attacked, found) == pytest.approx(lesson.quality[0], abs=2)


@pytest.mark.slow
def test_map_beats_an_attack_that_learns_nothing():
    edge, params, _, attacked = attacker("relu2")
    features = np.asarray(edge.apply(params, attacked[:10]))
    learned = lesson_of_map().invert(features)
    tv = rmle.invert(edge, params, features, tv_settings(lenet5(), "relu2"))
    assert psnr(attacked[:10], learned) > psnr(attacked[:10], tv) + 1


def test_images_that_are_held_out_do_not_teach():
    edge, params, images, _ = attacker("relu2")
    held_out = images.copy()
    held_out[-24:] = 1 - held_out[-24:]
    prior, other = (
        learn("map", edge, params, given, overrides={"steps": 1, "cg_steps": 1}).stages[0].prior
        for given in (images, held_out)
    )
    for expected, found in zip(prior, other, strict=True):
        np.testing.assert_array_equal(expected, found)


def test_weights_that_were_chosen_do_best_on_the_trial_images(monkeypatch):
    edge, params, images, _ = attacker("relu2")
    tried = []
    original = map._best

    def note(known, lessons, stage, options, means):
        best = original(known, lessons, stage, options, means)
        tried.append((options, best))
        return best

    monkeypatch.setattr(map, "_best", note)
    overrides = {"steps": 4, "cg_steps": 6}
    lesson = learn("map", edge, params, images, overrides=overrides)
    ends = {option.tv_weight for options, _ in tried for option in options}
    assert len(ends) > 3
    assert lesson.quality[0] == max(best.quality for _, best in tried)
    chosen = lesson.stages[0].settings
    assert chosen in [option for options, _ in tried for option in options]
    trial = images[-12:]
    features = np.asarray(edge.apply(params, trial))
    found = lesson.invert(features)
    assert psnr(trial, found) == pytest.approx(lesson.quality[0], abs=0.1)


@pytest.mark.slow
def test_behind_an_affine_edge_hybrid_has_nothing_to_add(monkeypatch):
    monkeypatch.delattr(inverse, "learn")
    edge, params, images, attacked = attacker("conv1")
    lesson = learn("hybrid", edge, params, images)
    assert len(lesson.stages) == 1
    features = np.asarray(edge.apply(params, attacked))
    found = lesson.invert(features)
    assert (quality.evaluate(attacked, found.images).psnr > 60).all()


@pytest.mark.slow
def test_hybrid_is_never_worse_than_map_and_each_stage_adds(briefly):
    edge, params, images, attacked = attacker("pool2")
    overrides = {"steps": 6, "cg_steps": 8}
    map_lesson, found_by = (
        learn(method, edge, params, images, overrides=overrides, fit_steps=60)
        for method in ("map", "hybrid")
    )
    assert len(found_by.quality) == len(found_by.stages)
    assert list(found_by.quality) == sorted(found_by.quality)
    assert found_by.quality[-1] >= map_lesson.quality[-1]
    features = np.asarray(edge.apply(params, attacked))
    found = found_by.invert(features)
    assert psnr(attacked, found) == pytest.approx(found_by.quality[-1], abs=2)
    for stage in found_by.stages:
        expected = (1, 8) if stage.settings.solver == "none" else (6, 8)
        assert (stage.settings.steps, stage.settings.cg_steps) == expected


@pytest.mark.slow
def test_hybrid_keeps_an_estimate_that_no_stage_improves(briefly, monkeypatch):
    edge, params, images, attacked = attacker("pool2")
    monkeypatch.setattr(hybrid, "scores", lambda trial, tries: np.array([90.0]))
    options = {"overrides": {"steps": 2, "cg_steps": 4}, "fit_steps": 20}
    found_by = learn("hybrid", edge, params, images, **options)
    (stage,) = found_by.stages
    assert stage.settings.solver == "none" and found_by.quality == (90.0,)
    features = np.asarray(edge.apply(params, attacked))
    found = found_by.invert(features).images
    np.testing.assert_array_equal(found, stage.estimate(features, None))


@pytest.fixture
def first_stage(briefly, monkeypatch):
    """Learns a hybrid in one stage, as if map had found nothing."""
    monkeypatch.setattr(hybrid, "_CORRECTIONS", 0)
    chosen, calls = hybrid.choose_ends, []

    def worthless_at_first(known, lessons, stage, means=None):
        calls.append(stage)
        tried = chosen(known, lessons, stage, means)
        return tried._replace(quality=-1.0) if means is None else tried

    monkeypatch.setattr(hybrid, "choose_ends", worthless_at_first)

    def learned(edge, params, images, shelf, **options):
        options = {"overrides": {"steps": 1, "cg_steps": 1}, "fit_steps": 20, **options}
        (stage,) = learn("hybrid", edge, params, images, shelf=shelf, **options).stages
        return stage

    return learned


@pytest.mark.slow
def test_what_was_trained_is_read_again_and_only_for_the_same_question(first_stage, tmp_path):
    edge, params, images, attacked = attacker("pool2")
    features, shelf = np.asarray(edge.apply(params, attacked[:3])), Shelf(tmp_path, "pool2")
    expected = first_stage(edge, params, images, shelf).estimate(features, None)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert any("inverse" in path.name for path in kept)
    again = first_stage(edge, params, images, shelf).estimate(features, None)
    np.testing.assert_array_equal(again, expected)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == kept
    first_stage(edge, params, images, shelf, fit_steps=21)
    assert len(list(tmp_path.glob("*inverse*"))) == 2


@pytest.mark.slow
def test_a_black_box_attacker_leaves_the_inverse_map_that_hybrid_needs(first_stage, tmp_path):
    edge, params, images, attacked = attacker("pool2")
    features, shelf = np.asarray(edge.apply(params, attacked)), Shelf(tmp_path, "pool2")
    strong = registry.make("blackbox", "strong", fit_steps=20)
    known = EdgeKnown(edge, params, images).queries(0)
    found = strong.learn(known, key(), shelf).invert(features)
    (kept,) = (path for path in tmp_path.iterdir() if "inverse" in path.name)
    written = kept.stat().st_mtime_ns
    stage = first_stage(edge, params, images, shelf)
    np.testing.assert_array_equal(stage.estimate(features, None), found.images)
    assert [path for path in tmp_path.iterdir() if "inverse" in path.name] == [kept]
    assert kept.stat().st_mtime_ns == written


@pytest.mark.slow
def test_a_network_of_any_size_is_attacked_through_frequencies():
    # 4,356 pixels are more than a full covariance is made for.
    network = sequence([("conv", nn.Conv(6, (3, 3))), ("relu", nn.relu)], input_shape=(66, 66, 1))
    params = network.init(jax.random.key(0))
    images = blobs(44, network.input_shape)
    edge, _ = network.split("relu")
    overrides = {"steps": 10, "cg_steps": 10}
    lesson = learn("map", edge, params, images[:40], overrides=overrides)
    (stage,) = lesson.stages
    assert stage.prior.precision.shape == (66 * 66, 1, 1)
    features = np.asarray(edge.apply(params, images[40:]))
    found = lesson.invert(features)
    assert (quality.evaluate(images[40:], found.images).psnr > 40).all()


def test_too_few_images_are_a_mistake():
    edge, params, images, _ = attacker("conv1")
    with pytest.raises(UserError, match="19 surrogate images: map needs 20"):
        learn("map", edge, params, images[:19])
