"""Shadow edges: their shape, what they learn from, and that the cloud stays as it is."""

import dataclasses
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from datasets import samples
from toys import classify, edge

from jaxinv.attacks.queryfree import groups, shadow, stream
from jaxinv.attacks.queryfree.design import design
from jaxinv.attacks.queryfree.shadow import Recipe
from jaxinv.attacks.queryfree.stream import (
    Stream,
    class_mean_distance,
    group_mean_distance,
    observe,
)
from jaxinv.attacks.shelf import Shelf
from jaxinv.defenses import GAUSSIAN
from jaxinv.errors import UserError
from jaxinv.inputs.samples import Samples
from jaxinv.machine import memory
from jaxinv.networks import cifar_cnn, lenet5, sequence

COLOURS = {1: {"mean": (0.5,), "std": (0.5,)}, 3: {"mean": (0.5,) * 3, "std": (0.2,) * 3}}


def key(number=0):
    return jax.random.key(number)


@pytest.fixture(scope="module")
def cloud():
    """A cloud of one dense layer, and parameters with which it classifies behind `edge`."""
    network = sequence([("logits", classify)], (6,))
    return network, {}


def linear_shadow():
    """A shadow that could be the edge."""
    return sequence(
        [
            ("flatten", lambda x: x.reshape(len(x), -1)),
            ("dense", nn.Dense(6)),
        ],
        (4, 4, 1),
    )


def fitted(cloud, recipe, *, seeds=2, seed=0, stream=None, given=None, **options):
    network, params = cloud
    return shadow.fit(
        network,
        params,
        given or samples(),
        network=linear_shadow(),
        recipe=recipe,
        seeds=seeds,
        key=key(seed),
        stream=stream,
        **options,
    )


PLAIN = Recipe(steps=150, batch_size=64, cross_entropy=1.0)
STRONG = Recipe(steps=400, batch_size=64, cross_entropy=0.01, means=10.0)


@pytest.mark.parametrize("make_network", [lenet5, cifar_cnn])
def test_there_is_a_shadow_for_every_cut_and_it_is_another_network(make_network):
    target = make_network()
    colours = COLOURS[target.input_shape[-1]]
    for cut in target.cuts:
        own, _ = target.split(cut)
        rectified = "relu" in cut or "pool" in cut or "sigmoid" in cut
        made = design(target.input_shape, own.output_shape, rectified=rectified, **colours)
        assert made.output_shape == own.output_shape

        def kernels(network):
            params = jax.eval_shape(network.init, key())
            return [leaf.shape for leaf in jax.tree.leaves(params) if leaf.ndim > 1]

        assert kernels(made) != kernels(own)
        last = [name for name in made.cuts if "conv" in name or "dense" in name][-1]
        behind = made.cuts[made.cuts.index(last) + 1 :]
        assert any("relu" in name or "rect" in name for name in behind) == rectified


def test_the_authors_shadow_at_relu2():
    made = design((28, 28, 1), (8, 8, 16), rectified=True, **COLOURS[1])
    kinds = [name.rstrip("0123456789") for name in made.cuts]
    assert kinds == ["conv", "conv", "relu", "pool", "conv", "conv", "relu"]
    params = jax.eval_shape(made.init, key())
    shapes = [params[name]["kernel"].shape for name in made.cuts if "conv" in name]
    assert shapes == [(3, 3, 1, 8), (3, 3, 8, 16), (3, 3, 16, 16), (3, 3, 16, 16)]


def test_the_authors_shadow_at_relu22():
    made = design((32, 32, 3), (16, 16, 128), rectified=True, **COLOURS[3])
    assert [name.rstrip("0123456789") for name in made.cuts] == [
        *("conv", "relu", "pool"),
        *("conv", "relu"),
    ]
    params = jax.eval_shape(made.init, key())
    assert params["conv0"]["kernel"].shape == (5, 5, 3, 64)
    assert params["conv1"]["kernel"].shape == (5, 5, 64, 128)


@pytest.mark.parametrize(
    "features", [(40, 40, 2), (1, 1, 64), (15, 15, 3), (23, 27, 2), (49, 16), (7, 7, 4, 2), (5,)]
)
def test_features_of_any_shape_have_a_shadow(features):
    for rectified in (False, True):
        made = design((28, 28, 1), features, rectified=rectified, **COLOURS[1])
        assert made.output_shape == features


def test_a_stream_is_summed_up_by_what_the_cloud_takes_it_for(cloud, monkeypatch):
    monkeypatch.setattr(stream, "_SLICE", 70)
    network, params = cloud
    features = edge(samples(400).images)
    seen = observe(network, params, features)
    taken_for = np.asarray(classify(features)).argmax(1)
    for number in range(3):
        members = features[taken_for == number]
        assert seen.counts[number] == len(members) > 0
        np.testing.assert_allclose(seen.means[number], members.mean(0), rtol=1e-4, atol=1e-5)
    assert seen.scale == pytest.approx(features.std(), rel=1e-5)
    np.testing.assert_allclose(seen.spread, features.std(axis=0), rtol=1e-4)


def test_means_of_many_classes_are_of_coarse_features(monkeypatch):
    """Squares of places stand for the means of all classes that would be too large."""
    features = np.random.default_rng(0).random((2, 8, 6, 3), np.float32)
    plain = stream.places(features, 10)
    np.testing.assert_array_equal(plain, features.reshape(2, -1))
    monkeypatch.setattr(stream, "_MOST_MEANS", 10 * 4 * 3 * 3)
    coarse = np.asarray(stream.places(features, 10)).reshape(2, 4, 3, 3)
    assert abs(coarse - features.reshape(2, 4, 2, 3, 2, 3).mean((2, 4))).max() < 0.35
    np.testing.assert_allclose(coarse.mean(), features.mean(), rtol=0.02)


def test_the_slices_of_a_stream_follow_from_shapes(cloud, monkeypatch):
    images = np.zeros((900, 64), np.float32)
    wide = sequence([("wide", lambda x: jnp.repeat(x, 100, axis=1))], (64,))
    assert stream.slice_of(wide, {}, images) == 500
    monkeypatch.setattr(memory, "TRAINING", 2 * 4 * 6400 * 130)
    assert stream.slice_of(wide, {}, images) == 125


def test_class_mean_distance_is_unbiased():
    rng = np.random.default_rng(0)
    truth = np.array([[1.0, -1.0], [0.0, 2.0]], np.float32)
    stream = Stream(truth + 0.5, np.ones(2, np.float32), 2.0, np.ones(2))
    labels = np.tile([0, 1], 8).astype(np.int32)
    draws = truth[labels] + 3 * rng.normal(size=(4000, 16, 2)).astype(np.float32)
    of_one = partial(class_mean_distance, labels=jnp.asarray(labels), stream=stream)
    distances = np.asarray(jax.vmap(of_one)(draws))
    # Each value's mean is 0.5 off, a quarter of a standard deviation of 2.
    assert float(distances.mean()) == pytest.approx(
        0.25**2, abs=4 * float(distances.std()) / 4000**0.5
    )
    assert distances.min() < 0


def test_classes_that_are_missing_do_not_count():
    stream = Stream(np.zeros((3, 2)), np.array([1, 1, 0], np.float32), 1.0, np.ones(2))
    features = jnp.ones((4, 2))
    some = class_mean_distance(features, jnp.array([0, 2, 0, 1]), stream)
    assert float(some) == pytest.approx(1.0)
    none = class_mean_distance(features, jnp.array([0, 0, 1, 1]), stream)
    assert float(none) == 0


def test_groups_are_of_outputs_that_lie_together():
    rng = np.random.default_rng(0)
    corners = np.array([[0, 0, 5], [9, 0, 0], [0, 9, 0]], np.float32)
    which = np.arange(300) % 3
    outputs = corners[which] + rng.normal(0, 0.1, (300, 3)).astype("f")
    shares = np.asarray(groups.of(outputs).shares(jnp.asarray(outputs)))
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-5)
    together = shares @ shares.T
    assert together[which[:, None] != which].max() < 1e-3
    alike = groups.of(np.ones((5, 2), np.float32))
    np.testing.assert_array_equal(alike.shares(jnp.ones((4, 2))), np.ones((4, 1)))


def test_group_means_of_what_was_streamed_are_met_and_others_are_not(cloud):
    features = edge(samples(4000, seed=5).images)
    seen = observe(*cloud, features, labelled=False)
    assert seen.counts.sum() == pytest.approx(4000, rel=1e-4)
    again = edge(samples(4000, seed=6).images)

    def distance(made):
        return float(group_mean_distance(jnp.asarray(made), classify(made), seen))

    assert abs(distance(again)) < 0.01
    assert distance(again[:, ::-1].copy()) > 0.3
    assert distance(again[classify(again).argmax(1) > 0]) > 0.1  # a class is missing


def test_without_labels_training_brings_a_shadow_nearer_to_the_stream(cloud):
    seen = observe(*cloud, edge(samples(3000, seed=5).images), labelled=False)
    images = samples(1000, seed=6).images

    def distance(steps):
        recipe = dataclasses.replace(STRONG, steps=steps)
        found = fitted(cloud, recipe, stream=seen, given=Samples(samples().pixels), seeds=1)
        assert found.accuracy is None
        made = found.network.apply(found.params[0], images)
        return float(group_mean_distance(made, classify(made), seen))

    assert distance(200) < 0.9 * distance(8)


def test_the_cloud_classifies_what_shadows_make(cloud):
    found = fitted(cloud, PLAIN)
    assert len(found.params) == len(found.accuracy) == 2
    assert min(found.accuracy) > 0.9
    first, second = (np.asarray(params["dense"]["kernel"]) for params in found.params)
    assert np.abs(first - second).max() > 0.05
    assert found.seconds > 0


def test_class_means_of_the_stream_make_a_shadow_the_edge(cloud):
    seen = observe(*cloud, edge(samples(3000, seed=5).images))
    shadows = {"plain": fitted(cloud, PLAIN), "strong": fitted(cloud, STRONG, stream=seen)}
    images = samples(100, seed=6).images
    wanted = edge(images)

    def error(found):
        made = [np.asarray(found.network.apply(params, images)) for params in found.params]
        return max(((features - wanted) ** 2).mean() for features in made) / wanted.var()

    assert error(shadows["plain"]) > 0.5
    assert error(shadows["strong"]) < 0.2


def test_calibrated_channels_vary_as_the_streams_do(cloud):
    images = samples().images
    seen = observe(*cloud, 3 * edge(images))
    seen.spread[2] = 0  # a dead one
    plain = fitted(cloud, PLAIN)
    found = shadow.calibrated(plain, images, seen)
    for params, before in zip(found.params, plain.params, strict=True):
        made = np.asarray(found.network.apply(params, images))
        own = np.asarray(plain.network.apply(before, images))
        alive = np.arange(6) != 2
        np.testing.assert_allclose(made.std(axis=0)[alive], seen.spread[alive], rtol=1e-4)
        np.testing.assert_array_equal(made[:, 2], own[:, 2])
    assert found.network.output_shape == plain.network.output_shape


def test_the_clouds_weights_do_not_move():
    network = lenet5()
    params = jax.jit(network.init)(key(1))
    before = jax.tree.map(np.array, params)
    _, cloud = network.split("relu2")
    rng = np.random.default_rng(0)
    given = Samples(
        rng.integers(0, 256, (64, 28, 28, 1), dtype=np.uint8),
        rng.integers(0, 10, 64).astype(np.int32),
    )
    made = design((28, 28, 1), cloud.input_shape, rectified=True, **COLOURS[1])
    recipe = Recipe(steps=4, batch_size=8, cross_entropy=1.0, authors=True)
    found = shadow.fit(cloud, params, given, network=made, recipe=recipe, seeds=2, key=key(2))
    jax.tree.map(np.testing.assert_array_equal, before, params)
    assert all(set(own) <= set(made.cuts) for own in found.params)
    first, second = (jax.tree.leaves(own) for own in found.params)
    assert any(not np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_shadow_does_not_depend_on_how_many_there_are(cloud):
    alone, three = fitted(cloud, PLAIN, seeds=1), fitted(cloud, PLAIN, seeds=3)
    for one, other in zip(
        jax.tree.leaves(alone.params[0]), jax.tree.leaves(three.params[0]), strict=True
    ):
        # A single one would be clipped otherwise if the norm were that of all.
        np.testing.assert_allclose(one, other, atol=0.02)


def test_there_may_be_more_shadows_than_images_for_a_batch_each(cloud):
    network, params = cloud
    found = shadow.fit(
        network,
        params,
        samples(20),
        network=linear_shadow(),
        recipe=PLAIN,
        seeds=12,
        key=key(),
    )
    assert len(found.params) == 12


def test_accuracy_is_that_of_shadow_and_cloud_on_images_that_taught_nothing(cloud):
    found = fitted(cloud, PLAIN, seeds=1)
    held = samples()[540:]
    features = np.asarray(found.network.apply(found.params[0], held.images))
    expected = (np.asarray(classify(features)).argmax(1) == held.labels).mean()
    assert found.accuracy == (pytest.approx(expected),)


def test_a_finished_training_is_read_and_other_settings_are_another(cloud, tmp_path, monkeypatch):
    first = fitted(cloud, PLAIN, shelf=Shelf(tmp_path))
    (file,) = tmp_path.iterdir()
    written = file.stat().st_mtime_ns
    again = fitted(cloud, PLAIN, shelf=Shelf(tmp_path))
    assert file.stat().st_mtime_ns == written
    jax.tree.map(np.testing.assert_array_equal, first.params, again.params)
    fitted(cloud, PLAIN, seed=1, shelf=Shelf(tmp_path))
    assert len(list(tmp_path.iterdir())) == 2


def test_mistakes_are_named(cloud):
    with pytest.raises(UserError, match="needs a stream"):
        fitted(cloud, STRONG)
    unlabelled = Samples(samples(50).pixels)
    with pytest.raises(UserError, match="has no labels"):
        fitted(cloud, PLAIN, given=unlabelled)
    seen = observe(*cloud, edge(samples(50).images))
    with pytest.raises(UserError, match="need a stream of groups"):
        fitted(cloud, STRONG, given=unlabelled, stream=seen)
    _, other = lenet5().split("relu2")
    with pytest.raises(UserError, match="the cloud takes"):
        shadow.fit(
            other,
            {},
            samples(),
            network=linear_shadow(),
            recipe=PLAIN,
            seeds=1,
            key=key(),
        )


def test_a_shadow_behind_a_defence_is_calibrated_and_kept_by_itself(cloud, tmp_path, monkeypatch):
    """Its channels vary as the stream's do without the noise, which scales with nothing."""
    monkeypatch.setattr(stream, "_SLICE", 250)
    images = samples().images
    defense = GAUSSIAN.at("feature", 0.3)
    rng = np.random.default_rng(0)
    noisy = edge(images) + rng.normal(0, 0.3, (600, 6)).astype("f")
    seen = observe(*cloud, noisy)
    behind = fitted(cloud, PLAIN, defense=defense, shelf=Shelf(tmp_path), seeds=1)
    found = shadow.calibrated(behind, images, seen, defense=defense)
    own = np.asarray(behind.network.apply(behind.params[0], images))
    factor = np.asarray(found.network.apply(found.params[0], images)) / own
    expected = edge(images).std(axis=0) / own.std(axis=0)
    np.testing.assert_allclose(factor, np.broadcast_to(expected, factor.shape), rtol=0.15)
    fitted(cloud, PLAIN, shelf=Shelf(tmp_path), seeds=1)
    assert len(list(tmp_path.iterdir())) == 2


def test_calibration_is_not_misled_by_noise():
    """Noise that is known to stand behind the edge belongs to no channel's scale."""
    defense = GAUSSIAN.at("feature", 1.0)
    rng = np.random.default_rng(0)
    images = rng.random((1000, 4, 4, 1), dtype=np.float32)
    same = sequence([("same", lambda x: x)], (4, 4, 1))
    plain = shadow.Shadows(same, ({},), (0.0,), 0.0, 0.0)
    for releases in (1, 4):
        noise = rng.normal(size=images.shape).astype("f") / releases**0.5
        sent = 2 * images + noise
        seen = Stream(np.zeros((1, 16)), np.ones(1), 1.0, sent.std((0, 1, 2)))
        found = shadow.calibrated(plain, images, seen, defense=defense, releases=releases)
        assert float(found.params[0]["scale"]["factor"][0]) == pytest.approx(2, abs=0.15)
