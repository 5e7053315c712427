"""White-box attackers who know the defence: what that is worth, and what they keep."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.attacks.attack import EdgeKnown
from jaxinv.attacks.learned import inverse, maps, retrieval
from jaxinv.attacks.learned.estimator import Estimator
from jaxinv.attacks.learned.maps import TrainedMap
from jaxinv.attacks.shelf import Shelf
from jaxinv.attacks.whitebox import adaptive, refinement, rmle, trials
from jaxinv.attacks.whitebox.adaptive import AdaptiveEdge
from jaxinv.attacks.whitebox.settings import hybrid_settings, paper_settings
from jaxinv.attacks.whitebox.stage import Stage, run_stage
from jaxinv.defenses import DROPOUT, GAUSSIAN, Coding, Joined, Mechanism, Release
from jaxinv.errors import UserError
from jaxinv.measures import quality
from jaxinv.networks import sequence
from jaxinv.store import checkpoints
from jaxinv.training.fit import Fit

SIZE = 12  # the least for SSIM, about
NETWORK = sequence(
    [
        ("flat", lambda x: x.reshape(len(x), -1)),
        ("hidden", nn.Dense(80)),
        ("relu", nn.relu),
        ("logits", nn.Dense(3)),
    ],
    (SIZE, SIZE, 1),
    mean=(0.5,),
    std=(0.3,),
)
EDGE, _ = NETWORK.split("relu")
PARAMS = jax.jit(NETWORK.init)(jax.random.key(1))


def waves(count, *, seed=0):
    """Images of a few slow waves, in unit space."""
    rng = np.random.default_rng(seed)
    place = np.arange(SIZE) / SIZE
    each = [np.cos(np.pi * (a * place[:, None] + b * place)) for a in range(3) for b in range(3)]
    mixed = np.tensordot(rng.normal(size=(count, 9)), each, 1)
    return (1 / (1 + np.exp(-mixed)))[..., None].astype(np.float32)


IMAGES, ATTACKED = waves(300), waves(20, seed=1)
NOISES = [GAUSSIAN.at("feature", level) for level in (0.02, 0.5)]


@pytest.fixture(scope="module", autouse=True)
def _small():
    """Little is tried, and little is learned, of as many images: one program serves for all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(maps, "estimator_for", lambda shape: Estimator(shape, 4, depth=1))
        patch.setattr(refinement, "_STEPS", 5)
        patch.setattr(refinement, "_NOISY", ((0.03, 0.3), (0.01, 0.1)))
        patch.setattr(trials, "TAUGHT", (40, 40))
        patch.setattr(adaptive, "_MOST_TRIALS", 10)
        yield


def learn(family, folder=None, *, fit_steps=60, releases=1, **options):
    known = EdgeKnown(EDGE, PARAMS, IMAGES, tuple(family), releases)
    attack = AdaptiveEdge(fit_steps=fit_steps, **options)
    return attack.learn(known, jax.random.key(2), Shelf(folder, "relu"))


def seen_of(family, *, releases=1):
    keys = jax.random.split(jax.random.key(3), len(family))
    return [
        Release(EDGE, PARAMS, ATTACKED, defense, key, releases=releases)
        for defense, key in zip(family, keys, strict=True)
    ]


def psnr(images):
    return float(quality.evaluate(ATTACKED, np.clip(images, 0, 1)).psnr.mean())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("learned")


@pytest.fixture(scope="module")
def attack(_small, folder):
    return learn(NOISES, folder)


@pytest.fixture(scope="module")
def found(attack):
    return attack.invert_each(seen_of(NOISES))


def test_an_attacker_is_as_good_as_it_says_and_chooses_its_best_way(attack, found):
    assert [each.images.shape for each in found] == [ATTACKED.shape] * 2
    assert [each.info["held_out_psnr"] for each in found] == attack.quality
    assert [each.info["way"] for each in found] == attack.ways
    for scores, way, each in zip(attack.quality, attack.ways, found, strict=True):
        assert tuple(scores) == adaptive.WAYS
        assert scores[way] == max(scores.values())
        assert psnr(each.images) == pytest.approx(scores[way], abs=2)
        assert tuple(each.ways) == adaptive.WAYS and each.images is each.ways[way]
        for name, images in each.ways.items():
            assert psnr(images) == pytest.approx(scores[name], abs=2)
    assert attack.quality[0]["inverse map"] > attack.quality[1]["inverse map"]
    assert attack.ways[0] != "inverse map"  # where there is little noise, rMLE adds to it
    assert attack.fit_seconds > 0 and found[0].seconds == found[1].seconds > 0
    assert found[0].fit_seconds == attack.fit_seconds / 2


def test_where_few_releases_differ_what_is_retrieved_is_released_alike():
    """Behind noise, and where all releases differ, it is the nearest to what was found."""
    code = Mechanism(
        "code",
        lambda key, x, level: jnp.where(x > 0.5, 1.0, 0.0) * (jnp.arange(x.size) < 3),
        random=False,
        coding=Coding(lambda count, level: 3, lambda x, level: 1.0),
    )
    family = [code.at("feature", 1)]
    known = EdgeKnown(EDGE, PARAMS, IMAGES, tuple(family))
    made = adaptive.Retrieved.of(known, IMAGES)
    (own,) = made.released
    assert 2 <= len(np.unique(own, axis=0)) <= 8
    (seen,) = seen_of(family)
    estimates = np.full(ATTACKED.shape, 0.4, np.float32)
    found = made.run([seen], estimates, [0])
    places = [int(np.flatnonzero((image == IMAGES).all(axis=(1, 2, 3)))[0]) for image in found]
    told = seen[np.arange(len(seen))]
    alike = [
        (own[place] == row).all() or not (own == row).all(1).any()
        for place, row in zip(places, told, strict=True)
    ]
    assert all(alike) and len(set(places)) > 1
    for others in (NOISES, [GAUSSIAN.at("feature", 1) + code.at("feature", 1)]):
        known = EdgeKnown(EDGE, PARAMS, IMAGES, tuple(others))
        plain = adaptive.Retrieved.of(known, IMAGES)
        assert plain.released == (None,) * len(others)
        nearest = plain.run(seen_of(others)[:1], estimates, [0])
        np.testing.assert_array_equal(nearest, retrieval.Retrieval(IMAGES)(estimates))


def test_each_member_goes_on_from_its_own_best_way():
    found = {way: np.full((5, 1), number) for number, way in enumerate(("a", "b"))}
    scores = {"a": np.array([1.0, 4.0, 0.0]), "b": np.array([2.0, 3.0, 0.0])}
    best = adaptive._best_of(found, scores, [2, 3], [1, 0])
    np.testing.assert_array_equal(best.ravel(), [0, 0, 1, 1, 1])


def test_knowing_the_defence_is_worth_something(found):
    ignorant = dataclasses.replace(paper_settings(NETWORK, "relu"), steps=300)
    features = seen_of(NOISES)[1]
    paper = rmle.invert(EDGE, PARAMS, features, ignorant)
    assert psnr(found[1].images) > psnr(paper.images) + 3


def test_releases_and_their_features_are_attacked_alike(attack, found):
    arrays = [release[np.arange(len(ATTACKED))] for release in seen_of(NOISES)]
    again = attack.invert_each(arrays)
    for one, other in zip(found, again, strict=True):
        np.testing.assert_allclose(one.images, other.images, atol=1e-4)


def test_one_level_can_be_attacked_alone(attack, found):
    alone = attack.invert(seen_of(NOISES)[1], 1)
    np.testing.assert_allclose(alone.images, found[1].images, atol=1e-3)
    assert alone.fit_seconds == attack.fit_seconds


def test_how_many_are_attacked_does_not_matter(attack, found):
    whole, part = (release[np.arange(20)] for release in seen_of(NOISES))
    # As many images in all, so that one program serves.
    again = [
        each.images for each in attack.invert_each([np.concatenate([whole, whole[:8]]), part[3:15]])
    ]
    assert [len(images) for images in again] == [28, 12]
    np.testing.assert_allclose(again[0][:20], found[0].images, atol=1e-3)
    np.testing.assert_allclose(again[0][20:], found[0].images[:8], atol=1e-3)
    np.testing.assert_allclose(again[1], found[1].images[3:15], atol=1e-3)


def test_what_was_learned_is_read(attack, found, folder):
    kept = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert sorted(path.name.rpartition("-")[2].partition(".")[0] for path in kept) == [
        "correction",
        "inverse",
        "ridge",
    ]
    assert all(path.name.startswith("relu-") for path in kept)
    again = learn(NOISES, folder)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == kept
    assert again.quality == attack.quality
    assert again.fit_seconds > 0
    for one, other in zip(again.invert_each(seen_of(NOISES)), found, strict=True):
        np.testing.assert_array_equal(one.images, other.images)


def test_trials_take_fewer_steps_than_attacks(folder, monkeypatch):
    taken = []

    def run_stage(*args, **options):
        done = original(*args, **options)
        taken.append(done.info["solver_steps"].max())
        return done

    original = refinement.run_stage
    monkeypatch.setattr(refinement, "run_stage", run_stage)
    monkeypatch.setattr(refinement, "_TRIAL_STEPS", 3)
    learn(NOISES, folder, correction=False).invert_each(seen_of(NOISES))
    assert taken == [3, 5]


def test_a_killed_correction_goes_on(attack, found, folder, tmp_path, monkeypatch):
    save = checkpoints.save

    def save_and_die(path, *args, **options):
        save(path, *args, **options)
        if "correction" in path.name:
            raise KeyboardInterrupt

    for path in folder.glob("*inverse*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            learn(NOISES, tmp_path)
    (left,) = tmp_path.glob("*correction*")
    before = left.read_bytes()
    resumed = learn(NOISES, tmp_path)
    assert left.read_bytes() != before
    assert resumed.quality == attack.quality


@pytest.mark.slow
def test_behind_a_defended_input_an_attacker_is_as_good_as_it_says(monkeypatch):
    """The map is the best linear one here, and nothing is trained."""
    monkeypatch.setattr(maps, "fit", lambda loss, params, *data, **_: Fit(params, [], 0.0, 0.0))
    monkeypatch.setattr(refinement, "_INPUT", ((0.0, 0.1), (0.0, 0.01)))
    monkeypatch.setattr(trials, "TAUGHT", (20, 20))
    family = [DROPOUT.at("input", 0.2)]
    attack = learn(family)
    ((scores,), (way,)) = attack.quality, attack.ways
    assert tuple(scores) == adaptive.WAYS
    assert scores[way] == max(scores.values())
    images = attack.invert(seen_of(family)[0]).images
    assert psnr(images) == pytest.approx(scores[way], abs=2)


def test_of_several_defended_inputs_there_is_no_rmle(monkeypatch):
    """The mean of what they lead to is of no single one."""

    def grey(params, features, which):
        return jnp.full((len(features), SIZE, SIZE, 1), 0.5)

    monkeypatch.setattr(inverse, "learn", lambda *args, **options: TrainedMap(grey, {}, 0.0, 0.0))
    family = [DROPOUT.at("input", level) for level in (0.2, 0.4)]
    attack = learn(family, releases=4)
    assert attack.ways == ["inverse map"] * 2
    assert [tuple(quality) for quality in attack.quality] == [("inverse map", "retrieval")] * 2
    found = attack.invert_each(seen_of(family, releases=4))
    assert [(each.images == 0.5).all() for each in found] == [True, True]
    assert tuple(found[0].ways) == ("inverse map", "retrieval")


def test_the_right_residual_is_worth_something(attack):
    """Zeros that a defence left say less than features that are zero."""
    defense = DROPOUT.at("feature", 0.5)
    (features,) = seen_of([defense])
    means = np.broadcast_to(IMAGES.mean(axis=0), ATTACKED.shape)
    weights = np.broadcast_to(np.float32([[0.1, 0.03], [0.01, 0.01]]), (20, 2, 2))
    quality = []
    for structure, levels in ((defense.structure, [defense.levels] * 20), ((), None)):
        stage = Stage(hybrid_settings(), attack.refinement.prior, structure=structure)
        stacked = levels and np.stack(levels)
        found = run_stage(EDGE, PARAMS, Joined([features]), stage, means, weights, levels=stacked)
        quality.append(psnr(found.images))
    assert quality[0] > quality[1] + 1


def test_too_few_images_are_a_mistake():
    with pytest.raises(UserError, match="19 surrogate images: an adaptive attacker needs 20"):
        AdaptiveEdge().learn(EdgeKnown(EDGE, PARAMS, IMAGES[:19]), jax.random.key(0))
