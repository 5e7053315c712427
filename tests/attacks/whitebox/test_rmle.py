import dataclasses
import functools
import inspect

import flax.linen as nn
import jax
import numpy as np
import pytest
from toys import blobs

from jaxinv import defenses
from jaxinv.attacks import registry
from jaxinv.attacks.attack import EdgeKnown
from jaxinv.attacks.inversion import priors
from jaxinv.attacks.inversion.solvers import Result
from jaxinv.attacks.whitebox import rmle
from jaxinv.attacks.whitebox.settings import (
    SOLVERS,
    RmleSettings,
    map_settings,
    paper_settings,
    tv_settings,
)
from jaxinv.attacks.whitebox.stage import Stage, problem_of
from jaxinv.errors import UsageError
from jaxinv.measures import quality
from jaxinv.networks import cifar_cnn, lenet5, sequence


@functools.cache
def prepared(make_network):
    """A network with random parameters, and images it takes."""
    network = make_network()
    return network, network.init(jax.random.key(1)), blobs(12, network.input_shape)


def features_of(make_network, cut, count=12):
    network, params, images = prepared(make_network)
    edge, _ = network.split(cut)
    return edge, params, images[:count], np.asarray(edge.apply(params, images[:count]))


METHODS = {"paper": paper_settings, "tv": tv_settings}


def settings_of(method, cut, *, make_network=lenet5, **changes):
    return dataclasses.replace(METHODS[method](make_network(), cut), **changes)


@functools.cache
def blobs_prior(make_network, cut):
    """Makes the prior that `map.MapAttack` would make of other blobs."""
    network, params, _ = prepared(make_network)
    edge, _ = network.split(cut)
    images = blobs(400, network.input_shape, seed=1)
    mean = images.mean(axis=0)
    curvature = priors.mean_curvature(edge, params, images, jax.random.key(0))
    return priors.gaussian(mean, priors.second_moment(images - mean), curvature)


def attack_of(method, cut, *, make_network=lenet5, **changes):
    """The attack of a method; of map with weights as `map.MapAttack` chooses them."""
    if method != "map":
        return settings_of(method, cut, make_network=make_network, **changes)
    weights = {"tv_weight": 1e-3, "prior_weight": 3e-5}
    settings = dataclasses.replace(map_settings(), **weights, **changes)
    # The covariance of the larger images takes long, and no test here asks for it.
    prior = blobs_prior(make_network, cut) if make_network is lenet5 else None
    return [Stage(settings, prior)]


def mean_psnr(images, found):
    return float(np.mean(quality.evaluate(images, found.images).psnr))


@pytest.mark.slow
@pytest.mark.parametrize("cut", ["conv1", "relu2", "fc1"])
@pytest.mark.parametrize(("method", "steps"), [("paper", 60), ("tv", 60), ("map", 10)])
def test_no_image_sees_how_many_are_attacked_with_it(method, steps, cut):
    edge, params, _, features = features_of(lenet5, cut)
    settings = attack_of(method, cut, steps=steps)
    many = np.concatenate([features] * 10)  # three chunks
    # As a CPU has it anyway. An accelerator has as many as there are, and rounds others otherwise.
    chunk = 50
    expected = rmle.invert(edge, params, many, settings, chunk=chunk)
    for count in (1, 7):
        found = rmle.invert(edge, params, features[:count], settings, chunk=chunk)
        np.testing.assert_allclose(found.images, expected.images[:count], atol=1e-4)
        np.testing.assert_allclose(
            found.info["objective"], expected.info["objective"][:count], rtol=1e-3
        )
    again = expected.images[108:]  # the first twelve, in the last chunk
    np.testing.assert_allclose(again, expected.images[:12], atol=1e-4)


def test_tv_recovers_the_images_behind_a_convolution():
    edge, params, images, features = features_of(lenet5, "conv1")
    found = rmle.invert(edge, params, features, settings_of("tv", "conv1", steps=500))
    assert found.images.shape == images.shape
    assert (quality.evaluate(images, found.images).psnr > 60).all()


@pytest.mark.slow
def test_tv_beats_paper_behind_a_rectifier_at_equal_steps():
    edge, params, images, features = features_of(lenet5, "relu2")
    paper, tv = (
        rmle.invert(edge, params, features, settings_of(method, "relu2", steps=300))
        for method in ("paper", "tv")
    )
    assert mean_psnr(images, tv) > mean_psnr(images, paper) + 3


def test_tv_keeps_pixels_in_unit_space():
    edge, params, _, features = features_of(lenet5, "relu2", count=3)
    found = rmle.invert(edge, params, features, settings_of("tv", "relu2", steps=20)).images
    assert found.min() >= 0
    assert found.max() <= 1


def test_the_attacker_is_given_features_and_no_images():
    parameters = inspect.signature(rmle.invert).parameters
    given = ["edge", "params", "features", "attack", "chunk", "watch", "watch_every"]
    assert list(parameters) == given


def test_parameters_of_the_cloud_do_not_matter():
    edge, params, _, features = features_of(lenet5, "conv1", count=2)
    settings = settings_of("tv", "conv1", steps=5)
    own = {"conv1": params["conv1"]}
    np.testing.assert_array_equal(
        rmle.invert(edge, own, features, settings).images,
        rmle.invert(edge, params, features, settings).images,
    )


def test_a_release_is_attacked_like_its_features():
    edge, params, images, features = features_of(lenet5, "relu2", count=5)
    release = defenses.Release(edge, params, images, defenses.NONE, jax.random.key(0))
    seen = release[np.arange(5)]
    np.testing.assert_allclose(seen, features, atol=1e-5)
    settings = settings_of("tv", "relu2", steps=10)
    np.testing.assert_array_equal(  # steps make much of how a feature was rounded
        rmle.invert(edge, params, release, settings, chunk=2).images,
        rmle.invert(edge, params, seen, settings, chunk=2).images,
    )


def test_paper_settings_are_the_authors():
    conv1, relu2 = (paper_settings(lenet5(), cut) for cut in ("conv1", "relu2"))
    assert conv1.tv_weight == 0
    assert relu2.tv_weight == 1
    assert dataclasses.replace(conv1, tv_weight=1.0, tv_start=1.0) == relu2
    assert (relu2.steps, relu2.learning_rate, relu2.eps) == (5000, 1e-2, 1e-3)
    assert (relu2.space, relu2.scale, relu2.solver) == ("normalized", "mean", "amsgrad")
    assert not relu2.box
    assert not relu2.hinge


def test_a_prior_weighs_less_where_more_is_observed_than_an_image_has():
    """Only what passed the narrowest place counts, and only open rectifiers."""
    wide, narrowed = (
        sequence([("fc1", nn.Dense(width)), ("act", nn.silu), ("fc2", nn.Dense(64))], (8,))
        for width in (32, 16)
    )
    features = np.ones((3, 64), np.float32)
    features[1, 24:], features[2, 16:] = 0, 0
    np.testing.assert_allclose(rmle._shares(wide, features, 5.0).ravel(), [2**-5, 1.5**-5, 1])
    np.testing.assert_array_equal(rmle._shares(narrowed, features, 5.0).ravel(), 1)
    np.testing.assert_array_equal(rmle._shares(wide, features, 0.0).ravel(), 1)


def test_tv_settings_need_no_prior_behind_an_affine_edge():
    conv1, relu1 = (tv_settings(lenet5(), cut) for cut in ("conv1", "relu1"))
    assert conv1.tv_weight == conv1.tv_start == 0
    assert relu1.tv_weight > 0
    assert relu1.box
    assert relu1.hinge


# One cut of each kind, for the time that compiling takes.
LENET_CUTS = ["conv1", "relu1", "pool1", "relu2", "fc1", "relu3", "fc3"]
CIFAR_CUTS = ["conv11", "relu12", "pool1", "conv31", "fc1", "sigmoid1"]
CUTS = [(lenet5, cut) for cut in LENET_CUTS] + [(cifar_cnn, cut) for cut in CIFAR_CUTS]


@pytest.mark.slow
@pytest.mark.parametrize(("make_network", "cut"), CUTS)
def test_a_cut_of_every_kind_gives_images(make_network, cut):
    edge, params, images, features = features_of(make_network, cut, count=2)
    # The method alternates: that all run at every cut would take thrice as long.
    method = ("tv", "paper", "map")[make_network().cuts.index(cut) % 3]
    attack = attack_of(method, cut, make_network=make_network, steps=2)
    found = rmle.invert(edge, params, features, attack, chunk=2)
    assert found.images.shape == images.shape
    assert np.isfinite(found.images).all()
    assert np.isfinite(found.info["objective"]).all()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["paper", "tv", "map"])
@pytest.mark.parametrize("cut", ["conv1", "relu2"])
def test_an_image_whose_features_are_not_finite_diverges_alone(method, cut):
    edge, params, _, features = features_of(lenet5, cut, count=4)
    attack = attack_of(method, cut, steps=5)
    expected = rmle.invert(edge, params, features, attack).images
    broken = features.copy()
    broken[1] = np.nan
    found = rmle.invert(edge, params, broken, attack)
    assert not np.isfinite(found.images[1]).all()
    assert found.info["solver_result"][1] == Result.DIVERGED
    others = [0, 2, 3]
    assert (found.info["solver_result"][others] != Result.DIVERGED).all()
    np.testing.assert_allclose(found.images[others], expected[others], atol=1e-5)


@pytest.mark.slow
def test_map_recovers_what_a_rectifier_leaves_and_ends_early():
    edge, params, images, features = features_of(lenet5, "relu1")
    found = rmle.invert(edge, params, features, attack_of("map", "relu1", steps=40))
    assert (quality.evaluate(images, found.images).psnr > 60).all()
    assert (found.info["solver_result"] == Result.CONVERGED).all()
    assert (found.info["solver_steps"] < 40).all()


@pytest.mark.slow
def test_map_beats_tv_behind_a_pooling_with_a_fiftieth_of_its_steps():
    edge, params, images, features = features_of(lenet5, "pool1")
    tv = rmle.invert(edge, params, features, settings_of("tv", "pool1"))
    found = rmle.invert(edge, params, features, attack_of("map", "pool1"))
    assert found.info["solver_steps"].max() <= tv.info["solver_steps"].min() / 50
    assert mean_psnr(images, found) > mean_psnr(images, tv)


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_lowers_the_objective_and_keeps_pixels_in_the_box(solver):
    edge, params, _, features = features_of(lenet5, "relu2", count=3)
    stages = attack_of("map", "relu2", solver=solver, ramp=0.1)
    (few,), (many,) = (
        [dataclasses.replace(s, settings=dataclasses.replace(s.settings, steps=n)) for s in stages]
        for n in (2, 25)
    )
    start, end = (rmle.invert(edge, params, features, [stage]) for stage in (few, many))
    assert (end.info["objective"] < start.info["objective"]).all()
    assert end.images.min() >= 0
    assert end.images.max() <= 1


def test_a_stage_starts_from_its_estimate_and_hands_on_what_it_finds():
    edge, params, images, features = features_of(lenet5, "conv1", count=3)
    seen = []

    def estimate(given, found):
        seen.append(found)
        np.testing.assert_array_equal(given[np.arange(3)], features)
        return np.full_like(images, 0.25) if found is None else found

    still = RmleSettings("adam", 1, learning_rate=0.0)
    stages = [Stage(still, estimate=estimate), Stage(still, estimate=estimate)]
    found = rmle.invert(edge, params, features, stages)
    np.testing.assert_array_equal(found.images, np.full_like(images, 0.25))
    assert seen[0] is None
    np.testing.assert_array_equal(seen[1], found.images)


@pytest.mark.slow
def test_the_mean_of_a_prior_is_that_of_the_estimate_where_the_edge_says_nothing():
    network, params, images = prepared(lenet5)
    edge, _ = network.split("conv1")
    nothing = np.zeros((2, *edge.output_shape), np.float32)
    blind = {"conv1": {name: 0 * value for name, value in params["conv1"].items()}}
    settings = dataclasses.replace(map_settings(), tv_weight=0.0, tv_start=0.0, prior_weight=1.0)
    prior = blobs_prior(lenet5, "conv1")
    found = rmle.invert(edge, blind, nothing, [Stage(settings, prior)])
    np.testing.assert_allclose(found.images[0], np.clip(prior.mean, 0, 1), atol=1e-3)
    stage = Stage(settings, prior, lambda features, found: images[:2])
    found = rmle.invert(edge, blind, nothing, [stage])
    np.testing.assert_allclose(found.images, images[:2], atol=1e-3)


def test_a_watcher_is_told_the_stage_and_sees_unit_space():
    edge, params, _, features = features_of(lenet5, "relu2", count=2)
    settings = settings_of("paper", "relu2", steps=2, learning_rate=0.0)
    seen = []
    stages = [Stage(settings), Stage(settings)]
    rmle.invert(
        edge, params, features, stages, watch=lambda *what: seen.append(what), watch_every=1
    )
    assert [number for number, _ in seen] == [0, 0, 1, 1]
    # Normalised space starts at the mean of the images.
    for _, snapshot in seen:
        places = snapshot.indices >= 0
        np.testing.assert_allclose(snapshot.x[places], edge.mean[0], atol=1e-6)


def test_settings_that_are_arguments_share_a_program_and_equal_weights_have_settled():
    network, params, images = prepared(lenet5)
    edge, _ = network.split("conv1")
    features = np.asarray(edge.apply(params, images[:2]))
    weights = np.float32([[[0.1, 0.2], [0.1, 0.2]], [[0.1, 0.2], [0.1, 0.1]]])
    first, second = (
        problem_of(
            edge,
            params,
            features,
            Stage(dataclasses.replace(map_settings(), steps=steps, tv_weight=weight)),
            None,
            weights,
        )
        for steps, weight in ((3, 0.1), (5, 0.7))
    )
    assert first.make_objective is second.make_objective
    assert first.solver == second.solver
    inputs = first.inputs[np.arange(2)]
    for done, settled in ((0.0, [True, False]), (1.0, [True, True])):
        objective = first.make_objective(first.params, inputs, np.full(2, done, np.float32))
        assert objective.settled.tolist() == settled


def test_defenses_at_one_edge_are_attacked_in_one_batch_and_share_its_time():
    edge, params, _, features = features_of(lenet5, "conv1", count=5)
    attack = registry.make("whitebox", "tv", network=lenet5(), cut="conv1", overrides={"steps": 3})
    learned = attack.learn(EdgeKnown(edge, params, np.zeros((0, 28, 28, 1))), jax.random.key(0))
    first, second = learned.invert_each([features[:2], features[2:]])
    whole = rmle.invert(edge, params, features, attack.settings)
    np.testing.assert_array_equal(np.concatenate([first.images, second.images]), whole.images)
    np.testing.assert_array_equal(second.info["objective"], whole.info["objective"][2:])
    assert second.info["solver_results"]["steps"] == 3
    assert first.info["stages"] == [dataclasses.asdict(attack.settings)]
    assert first.seconds == second.seconds > 0
    assert (first.fit_seconds, attack.learns) == (0.0, False)


def test_a_weight_is_of_the_program_of_the_paper_or_a_number():
    def weight(method, text=None):
        attack = registry.make("whitebox", method, network=lenet5(), cut="fc1", tv_weight=text)
        return attack.settings.tv_weight, attack.settings.tv_start

    assert weight("paper") == weight("paper", "code") == (1.0, 1.0)
    assert weight("paper", "printed") == (0.1, 0.1)
    assert weight("tv", "0.5") == (0.5, 0.5)
    with pytest.raises(UsageError, match="tv_weight=printed: is for method=paper alone"):
        weight("tv", "printed")
