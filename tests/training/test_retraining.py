"""Targets trained on behind a defense: what moves, what it is worth, and what is kept."""

import functools

import flax.linen as nn
import jax
import numpy as np
import pytest
from datasets import samples

from jaxinv.defenses import (
    ADVERSARIAL,
    BIDO,
    BOTTLENECK,
    CEM,
    CLOAK,
    CODEBOOK,
    DISCO,
    DROPOUT,
    GAUSSIAN,
    NONE,
    NOPEEK,
    SCA,
    VIB,
    Release,
    clipped_gaussian,
    distance_correlation,
    plan,
)
from jaxinv.defenses.trained.bido import dependence
from jaxinv.defenses.trained.cem import information
from jaxinv.defenses.trained.scaled import scale
from jaxinv.defenses.training import FIXED
from jaxinv.inputs.samples import Samples
from jaxinv.networks import sequence
from jaxinv.training import classification, retraining
from jaxinv.training.fit import Fit

NETWORK = sequence(
    [
        ("flat", lambda x: x.reshape(len(x), -1)),
        ("hidden", nn.Dense(12)),
        ("relu", nn.relu),
        ("logits", nn.Dense(3)),
    ],
    (4, 4, 1),
    mean=(0.5,),
    std=(0.3,),
)
EDGE, CLOUD = NETWORK.split("relu")
TAUGHT, TEST = samples(600), samples(300, seed=1)


@functools.cache
def trained():
    """A target that never saw a defense: random features, and the best linear map from them."""
    params = jax.jit(NETWORK.init)(jax.random.key(0))
    features = np.asarray(EDGE.apply(params, TAUGHT.images))
    known = np.column_stack([features, np.ones(len(features))])
    solution = np.linalg.lstsq(known, 4 * np.eye(3)[TAUGHT.labels] - 2, rcond=None)[0].astype("f")
    return {**params, "logits": {"kernel": solution[:-1], "bias": solution[-1]}}


def retrained(family, part, *, params=None, seed=1, steps=60, data=TAUGHT, **options):
    params = trained() if params is None else params
    key = jax.random.key(seed)
    return retraining.retrain(
        NETWORK, params, "relu", family, data, part=part, key=key, steps=steps, **options
    )


def accuracy(params, defense):
    release = Release(EDGE, params, TEST.images, defense, jax.random.key(7))
    return classification.correct(CLOUD, params, release, TEST.labels).mean()


def same(a, b):
    return all(map(np.array_equal, jax.tree.leaves(a), jax.tree.leaves(b)))


DROPOUTS = [DROPOUT.at("feature", level) for level in (0.0, 0.6, 0.85)]


@pytest.fixture(scope="module")
def both():
    return retrained(DROPOUTS, "both")


def test_both_halves_move_and_the_target_that_was_stays(both):
    before = jax.tree.map(np.array, trained())
    for params in both.params:
        assert params.keys() == before.keys()
        assert not same(params["hidden"], before["hidden"])
        assert not same(params["logits"], before["logits"])
    assert same(trained(), before)
    assert both.seconds > 0 and both.compile_seconds > 0


def test_the_cloud_alone_leaves_the_edge_as_it_is():
    cloud = retrained(DROPOUTS[1:], "cloud")
    for params, defense in zip(cloud.params, DROPOUTS[1:], strict=True):
        assert same(params["hidden"], trained()["hidden"])
        assert not same(params["logits"], trained()["logits"])
        assert accuracy(params, defense) > accuracy(trained(), defense) - 0.01
    assert not same(cloud.params[0]["logits"], cloud.params[1]["logits"])


def test_a_target_that_learned_to_live_with_a_defense_is_right_more_often(both):
    for params, defense in zip(both.params[1:], DROPOUTS[1:], strict=True):
        assert accuracy(trained(), defense) < 0.95
        assert accuracy(params, defense) > accuracy(trained(), defense) + 0.02
    assert accuracy(both.params[0], DROPOUTS[0]) > 0.95


def test_a_level_does_not_depend_on_how_many_there_are(both):
    alone = retrained(DROPOUTS[:1], "both")
    for one, other in zip(
        jax.tree.leaves(alone.params[0]), jax.tree.leaves(both.params[0]), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-3)


def correlation(params):
    features = EDGE.apply(params, TEST.images)
    return float(distance_correlation(TEST.images, features))


def test_nopeek_lowers_the_distance_correlation_and_the_cloud_still_classifies():
    family = [NOPEEK.at("feature", level) for level in (0.0, 5.0)]
    without, with_it = retrained(family, "both", steps=200).params
    assert correlation(with_it) < correlation(without) - 0.1
    assert accuracy(with_it, NONE) > 0.8


def test_beside_another_step_nopeek_has_its_own_level():
    noise = GAUSSIAN.at("feature", 0.01)
    family = [NOPEEK.at("feature", level) + noise for level in (0.0, 5.0)]
    without, with_it = retrained(family, "both", steps=200).params
    assert correlation(with_it) < correlation(without) - 0.1


def linear_error(params, defense):
    """Error of the best linear map from releases to images, as a share of that of their mean."""
    planned = plan(NETWORK, "relu", defense.structure)
    edge = planned.network.split(planned.cut)[0]
    rows, images = [], []
    for part, seed in ((TAUGHT, 1), (TEST, 2)):
        release = Release(edge, params, part.images, defense, jax.random.key(seed))
        features = np.asarray(release[np.arange(len(release))], np.float64)
        rows.append(np.column_stack([features.reshape(len(features), -1), np.ones(len(features))]))
        images.append(np.asarray(part.images, np.float64).reshape(len(features), -1))
    found = rows[1] @ np.linalg.lstsq(rows[0], images[0], rcond=1e-6)[0]
    return ((found - images[1]) ** 2).mean() / (images[1] - images[0].mean(0)).var()


def crossing(params, defense):
    """Features without noise at the edge's end, and the parameters of the layer."""
    planned = plan(NETWORK, "relu", defense.structure)
    edge = planned.network.split(planned.cut)[0]
    return np.asarray(edge.apply(params, TEST.images)), planned.layer_of(params)


def bilateral(features):
    classes = np.eye(3, dtype="f")[TEST.labels]
    return dependence(TEST.images, features) - 10 * dependence(classes @ classes.T, features)


PROMISES = {
    BIDO: (0.3, lambda params, own: bilateral(crossing(params, own)[0])),
    ADVERSARIAL: (10.0, lambda params, own: -linear_error(params, own)),
    CEM: (3.0, lambda params, own: information(*2 * crossing(params, own)[:1], TEST.labels)),
    VIB: (0.03, lambda params, own: (crossing(params, own)[0] ** 2).mean()),
    CLOAK: (0.1, lambda params, own: -scale(crossing(params, own)[1]).mean()),
    SCA: (0.4, lambda params, own: (crossing(params, own)[0] > 0).mean()),
    DISCO: (0.5, lambda params, own: (crossing(params, own)[0] != 0).mean()),
    BOTTLENECK: (2.0, lambda params, own: -linear_error(params, own)),
    CODEBOOK: (4.0, lambda params, own: -linear_error(params, own)),
}


@pytest.mark.slow
@pytest.mark.parametrize("mechanism", PROMISES, ids=[each.name for each in PROMISES])
def test_a_defense_that_is_trained_in_keeps_its_promise_and_the_cloud_classifies(mechanism):
    level, measure = PROMISES[mechanism]
    family = [mechanism.at("feature", each) for each in (0.0, level)]
    part = mechanism.training.part
    steps = 600 if mechanism is ADVERSARIAL else 200  # its decoder learns first
    without, with_it = retrained(family, part, steps=steps).params
    assert measure(with_it, family[1]) < measure(without, family[0]) - 0.02
    planned = plan(NETWORK, "relu", family[0].structure)
    edge, cloud = planned.network.split(planned.cut)
    release = Release(edge, with_it, TEST.images, family[1], jax.random.key(7))
    assert classification.correct(cloud, with_it, release, TEST.labels).mean() > 0.8
    if part == "cloud":
        assert same(with_it["hidden"], trained()["hidden"])
    if planned.layer and FIXED in planned.layer_of(with_it):
        fixed = planned.layer_of(with_it)[FIXED]
        features = np.asarray(EDGE.apply(trained(), TAUGHT[:2000].images))
        rows = np.array([[0.0], [level]], "f")
        begun = planned.start(trained(), features, features, rows, jax.random.key(0))[1]
        np.testing.assert_allclose(
            jax.tree.leaves(fixed), jax.tree.leaves(planned.layer_of(begun)[FIXED]), rtol=1e-6
        )


def test_what_was_trained_is_read(both, tmp_path):
    first = retrained(DROPOUTS, "both", folder=tmp_path)
    (path,) = tmp_path.iterdir()
    assert path.name.startswith("relu-")
    written = path.stat().st_mtime_ns
    again = retrained(DROPOUTS, "both", folder=tmp_path)
    assert path.stat().st_mtime_ns == written
    for one, other in zip(first.params, again.params, strict=True):
        assert same(one, other)
    assert same(first.params, both.params)
    assert again.seconds == pytest.approx(first.seconds)


def test_a_killed_training_goes_on_and_ends_the_same(both, tmp_path, monkeypatch):
    save = retraining.checkpoints.save

    def save_and_die(*args, **options):
        save(*args, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(retraining.checkpoints, "save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            retrained(DROPOUTS, "both", folder=tmp_path)
    (path,) = tmp_path.iterdir()
    left = path.read_bytes()
    resumed = retrained(DROPOUTS, "both", folder=tmp_path)
    assert path.read_bytes() != left
    for one, other in zip(resumed.params, both.params, strict=True):
        assert same(one, other)


def test_it_is_kept_by_all_that_it_depends_on(tmp_path, monkeypatch):
    given = []

    def fit(loss, params, data, *, checkpoint, **options):
        given.append(checkpoint)
        return Fit(params, [], 0.0, 0.0)

    monkeypatch.setattr(retraining, "fit", fit)
    defense = GAUSSIAN.at("feature", 0.5)
    changed = {**trained(), "hidden": jax.tree.map(lambda leaf: leaf + 1, trained()["hidden"])}

    def ask(family=(defense,), part="both", **options):
        retrained(list(family), part, folder=tmp_path, **options)
        return given[-1]

    others = [
        ask(part="cloud"),
        ask(steps=120),
        ask(seed=2),
        ask(params=changed),
        ask(data=samples(300)),
        ask(family=[defense, defense]),
        ask(family=[GAUSSIAN.at("input", 0.5)]),
        ask(family=[GAUSSIAN.at("feature", 0.6)]),
        ask(family=[DROPOUT.at("feature", 0.5)]),
        ask(family=[clipped_gaussian(1.0).at("feature", 0.5)]),
        ask(family=[clipped_gaussian(9.0).at("feature", 0.5)]),
    ]
    assert ask() == ask()
    assert len({ask(), *others}) == 1 + len(others)
    retrained([defense], "both")
    assert given[-1] is None


def test_behind_the_last_layer_there_is_nothing_to_train():
    family = [GAUSSIAN.at("feature", 1.0)]
    options = {"part": "cloud", "key": jax.random.key(0)}
    found = retraining.retrain(NETWORK, trained(), "logits", family, TAUGHT, **options)
    assert found.params == (trained(),)


@pytest.mark.parametrize(("channels", "cropped"), [(1, False), (3, True)])
def test_images_in_colour_are_cropped(channels, cropped, monkeypatch):
    crops, crop = [], retraining.crop

    def noted(key, images):
        crops.append(images.shape[1:])
        return crop(key, images)

    monkeypatch.setattr(retraining, "crop", noted)
    network = sequence(
        [("relu", nn.relu), ("logits", nn.DenseGeneral(3, (-3, -2, -1)))], (4, 4, channels)
    )
    data = Samples(np.repeat(TAUGHT.pixels[:64], channels, axis=-1), TAUGHT.labels[:64])
    retraining.retrain(
        network,
        jax.jit(network.init)(jax.random.key(0)),
        "relu",
        DROPOUTS[:1],
        data,
        part="cloud",
        key=jax.random.key(1),
        steps=2,
    )
    assert set(crops) == ({(4, 4, channels)} if cropped else set())


def test_a_layer_begins_with_images_whose_features_fit(monkeypatch):
    """The features of relu are 12 floats."""
    family = [VIB.at("feature", 0.1)]
    seen = []
    in_slices = retraining.devices.in_slices

    def watched(function, pixels, *more, **options):
        seen.append(len(pixels))
        return in_slices(function, pixels, *more, **options)

    monkeypatch.setattr(retraining.devices, "in_slices", watched)
    for most, expected in ((4 * 12 * 50, 50), (1, 1), (2**29, len(TAUGHT))):
        monkeypatch.setattr(retraining, "_START_BYTES", most)
        course = (NETWORK, trained(), "relu", family, TAUGHT, jax.random.key(0))
        retraining._Course.of(*course)
        assert seen.pop() == expected
