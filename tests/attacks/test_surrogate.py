import functools

import flax.linen as nn
import jax
import numpy as np
import pytest
from test_whitebox import blobs

from jaxinv import defenses
from jaxinv.attacks.blackbox import blackbox
from jaxinv.attacks.inversion import loop as optimize
from jaxinv.attacks.learned import inverse
from jaxinv.attacks.whitebox import rmle as whitebox
from jaxinv.attacks.whitebox import surrogate
from jaxinv.errors import UsageError, UserError
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


@functools.cache
def lesson_of_map():
    edge, params, images, _ = attacker("relu2")
    return surrogate.learn("map", edge, params, images, key=key())


@pytest.fixture(scope="module", autouse=True)
def _few_at_once():
    """As few images are attacked, places for more would be idle."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optimize, "_CPU_LARGEST", 20)
        yield


@pytest.fixture
def briefly(monkeypatch):
    """Learns from few trials, and few corrections."""
    monkeypatch.setattr(surrogate, "_CORRECTION_IMAGES", (40, 40))
    monkeypatch.setattr(surrogate, "_TRIAL_IMAGES", (6, 6))
    monkeypatch.setattr(surrogate, "_ENDS", (1e-2, 1e-4))
    monkeypatch.setattr(surrogate, "_CORRECTIONS", 1)


def psnr(images, found):
    return float(quality.evaluate(images, found.images).psnr.mean())


def test_map_knows_how_good_it_is_on_images_it_has_not_seen():
    edge, params, _, attacked = attacker("relu2")
    lesson = lesson_of_map()
    (stage,) = lesson.stages
    assert stage.estimate is None
    assert lesson.seconds > 0
    features = np.asarray(edge.apply(params, attacked))
    found = whitebox.invert(edge, params, features, lesson.stages)
    assert psnr(attacked, found) == pytest.approx(lesson.quality[0], abs=2)


def test_map_beats_an_attack_that_learns_nothing():
    edge, params, _, attacked = attacker("relu2")
    features = np.asarray(edge.apply(params, attacked[:10]))
    learned = whitebox.invert(edge, params, features, lesson_of_map().stages)
    tv = whitebox.invert(edge, params, features, whitebox.tv_settings(lenet5(), "relu2"))
    assert psnr(attacked[:10], learned) > psnr(attacked[:10], tv) + 1


def test_images_that_are_held_out_do_not_teach():
    edge, params, images, _ = attacker("relu2")
    held_out = images.copy()
    held_out[-24:] = 1 - held_out[-24:]
    prior, other = (
        surrogate.learn(
            "map", edge, params, given, key=key(), overrides={"steps": 1, "cg_steps": 1}
        )
        .stages[0]
        .prior
        for given in (images, held_out)
    )
    for expected, found in zip(prior, other, strict=True):
        np.testing.assert_array_equal(expected, found)


def test_weights_that_were_chosen_do_best_on_the_trial_images(monkeypatch):
    edge, params, images, _ = attacker("relu2")
    tried = []
    original = surrogate._Learner._best

    def note(self, stage, options, means):
        best = original(self, stage, options, means)
        tried.append((options, best))
        return best

    monkeypatch.setattr(surrogate._Learner, "_best", note)
    overrides = {"steps": 4, "cg_steps": 6}
    lesson = surrogate.learn("map", edge, params, images, key=key(), overrides=overrides)
    ends = {option.tv_weight for options, _ in tried for option in options}
    assert len(ends) > 3
    assert lesson.quality[0] == max(best[1] for _, best in tried)
    chosen = lesson.stages[0].settings
    assert chosen in [option for options, _ in tried for option in options]
    trial = images[-12:]
    features = np.asarray(edge.apply(params, trial))
    found = whitebox.invert(edge, params, features, lesson.stages)
    assert psnr(trial, found) == pytest.approx(lesson.quality[0], abs=0.1)


def test_behind_an_affine_edge_hybrid_has_nothing_to_add(monkeypatch):
    monkeypatch.delattr(inverse, "learn")
    edge, params, images, attacked = attacker("conv1")
    lesson = surrogate.learn("hybrid", edge, params, images, key=key())
    assert len(lesson.stages) == 1
    features = np.asarray(edge.apply(params, attacked))
    found = whitebox.invert(edge, params, features, lesson.stages)
    assert (quality.evaluate(attacked, found.images).psnr > 60).all()


def test_hybrid_is_never_worse_than_map_and_each_stage_adds(briefly):
    edge, params, images, attacked = attacker("pool2")
    overrides = {"steps": 6, "cg_steps": 8}
    map_lesson, hybrid = (
        surrogate.learn(method, edge, params, images, key=key(), overrides=overrides, fit_steps=60)
        for method in ("map", "hybrid")
    )
    assert len(hybrid.quality) == len(hybrid.stages)
    assert list(hybrid.quality) == sorted(hybrid.quality)
    assert hybrid.quality[-1] >= map_lesson.quality[-1]
    features = np.asarray(edge.apply(params, attacked))
    found = whitebox.invert(edge, params, features, hybrid.stages)
    assert psnr(attacked, found) == pytest.approx(hybrid.quality[-1], abs=2)
    for stage in hybrid.stages:
        assert (stage.settings.steps, stage.settings.cg_steps) == (6, 8)


def test_what_was_trained_is_read_again_and_only_for_the_same_question(briefly, tmp_path):
    edge, params, images, attacked = attacker("pool2")
    features = np.asarray(edge.apply(params, attacked[:3]))

    def learner(params=params, images=images, seed=3, fit_steps=20):
        overrides = {"steps": 1, "cg_steps": 1}
        key = jax.random.key(seed)
        return surrogate._Learner(edge, params, images, key, overrides, fit_steps, tmp_path)

    def estimate():
        asked = learner()
        asked._map()
        stages, _ = asked._hybrid()
        return stages[0].estimate(features, None)

    expected = estimate()
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert any("inverse" in path.name for path in kept)
    np.testing.assert_array_equal(estimate(), expected)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == kept
    changed = {**params, "conv1": {**params["conv1"], "bias": params["conv1"]["bias"] + 0.1}}
    others = [
        learner(params=changed),
        learner(images=images[:-1]),
        learner(seed=4),
        learner(fit_steps=21),
    ]
    names = {asked._checkpoint("correction") for asked in (learner(), *others)}
    assert len(names) == 1 + len(others)


def test_a_black_box_attacker_leaves_the_inverse_map_that_hybrid_needs(briefly, tmp_path):
    edge, params, images, attacked = attacker("pool2")
    features = np.asarray(edge.apply(params, attacked))
    query = defenses.query_function(edge, params)
    options = {"key": key(), "fit_steps": 20, "folder": tmp_path}
    found = blackbox.invert("strong", query, features, images, label="pool2", **options)
    (kept,) = (path for path in tmp_path.iterdir() if "inverse" in path.name)
    written = kept.stat().st_mtime_ns
    overrides = {"steps": 1, "cg_steps": 1}
    learner = surrogate._Learner(edge, params, images, key(), overrides, 20, tmp_path)
    learner._map()
    stages, _ = learner._hybrid()
    np.testing.assert_array_equal(stages[0].estimate(features, None), found.images)
    assert [path for path in tmp_path.iterdir() if "inverse" in path.name] == [kept]
    assert kept.stat().st_mtime_ns == written


def test_a_network_of_any_size_is_attacked_through_frequencies():
    # 4,356 pixels are more than a full covariance is made for.
    network = sequence([("conv", nn.Conv(6, (3, 3))), ("relu", nn.relu)], input_shape=(66, 66, 1))
    params = network.init(jax.random.key(0))
    images = blobs(44, network.input_shape)
    edge, _ = network.split("relu")
    overrides = {"steps": 10, "cg_steps": 10}
    lesson = surrogate.learn("map", edge, params, images[:40], key=key(), overrides=overrides)
    (stage,) = lesson.stages
    assert stage.prior.precision.shape == (66 * 66, 1, 1)
    features = np.asarray(edge.apply(params, images[40:]))
    found = whitebox.invert(edge, params, features, lesson.stages)
    assert (quality.evaluate(images[40:], found.images).psnr > 40).all()


def test_mistakes_are_named():
    edge, params, images, _ = attacker("conv1")
    with pytest.raises(UsageError, match="method=magic: .*map, hybrid"):
        surrogate.learn("magic", edge, params, images, key=key())
    with pytest.raises(UserError, match="19 surrogate images: map needs 20"):
        surrogate.learn("map", edge, params, images[:19], key=key())
