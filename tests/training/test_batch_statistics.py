"""BatchNorm: by the batch in training, settled when it ends, and kept by what is trained on."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from datasets import samples

from jaxinv.defenses import DROPOUT
from jaxinv.inputs.data import Dataset
from jaxinv.networks import append, sequence, statistics
from jaxinv.networks.zoo.blocks import ConvNorm
from jaxinv.training import batch_statistics, classification, recipes, retraining

NETWORK = sequence(
    [
        ("stem", ConvNorm(6)),
        ("relu", nn.relu),
        ("flat", lambda x: x.reshape(len(x), -1)),
        ("head", nn.Dense(3)),
    ],
    (4, 4, 1),
    mean=(0.5,),
    std=(0.3,),
)
DATA = Dataset("tiny", "blobs", "0123456789ab", 3, samples(256), samples(8), samples(64, seed=1))
RECIPE = recipes.TargetRecipe("sgd", 3, 32, 0.1, 5e-4, 0.0, augmentation="none")


@functools.cache
def fresh():
    return jax.jit(NETWORK.init)(jax.random.key(0))


@functools.cache
def trained():
    return recipes.train(DATA, NETWORK, RECIPE)


def held(params):
    """Returns the statistics of the one layer that has some."""
    return params["stem"]["batch_stats"]["norm"]


def convolved(params, images):
    """Computes what BatchNorm is given."""
    kernel = params["stem"]["params"]["conv"]["kernel"]
    x = (np.asarray(images) - 0.5) / 0.3
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def test_a_batch_is_normalised_by_its_own_statistics():
    images = jnp.asarray(DATA.target.images[:32])
    logits, found = NETWORK.apply_in_training(fresh(), images)
    given = np.asarray(convolved(fresh(), images))
    np.testing.assert_allclose(held(found)["mean"], given.mean((0, 1, 2)), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(held(found)["var"], given.var((0, 1, 2)), rtol=1e-3)
    np.testing.assert_allclose(NETWORK.apply(found, images), logits, rtol=1e-3, atol=1e-5)
    assert not np.allclose(NETWORK.apply(fresh(), images), logits, rtol=0.1)


def test_a_layer_that_is_added_leaves_training_as_it_is():
    network = append(NETWORK, "scaled", lambda x: 2 * x)
    images = jnp.asarray(DATA.target.images[:32])
    given, wanted = (each.apply_in_training(fresh(), images) for each in (network, NETWORK))
    np.testing.assert_allclose(given[0], 2 * wanted[0], rtol=1e-5, atol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, given[1], wanted[1])


def test_networks_without_statistics_are_trained_as_they_are():
    network = sequence([("fc", nn.Dense(2))], (3,))
    params, x = network.init(jax.random.key(0)), jnp.ones((2, 3))
    y, found = network.apply_in_training(params, x)
    np.testing.assert_array_equal(y, network.apply(params, x))
    assert found is params
    assert batch_statistics.measured(network, params, DATA.target, batch_size=8) is params


def test_statistics_of_several_batches_are_those_of_all_their_images():
    few = DATA.target[:200]
    found = batch_statistics.measured(NETWORK, fresh(), few, batch_size=32, images=150)
    given = np.asarray(convolved(fresh(), few[:128].images))
    np.testing.assert_allclose(held(found)["mean"], given.mean((0, 1, 2)), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(held(found)["var"], given.var((0, 1, 2)), rtol=1e-3)


def test_no_gradient_reaches_statistics_in_training():
    images = DATA.target.images[:8]

    def loss(params):
        return (NETWORK.apply_in_training(params, jnp.asarray(images))[0] ** 2).sum()

    grads = jax.grad(loss)(fresh())
    assert not any(np.any(leaf) for leaf in held(grads).values())
    assert np.any(grads["stem"]["params"]["conv"]["kernel"])


def test_a_target_learns_and_ends_with_statistics_of_its_images():
    done = trained()
    assert [set(row) for row in done.history] == [{"loss", "accuracy", "test_accuracy"}] * 3
    accuracy = classification.accuracy(NETWORK, done.params, DATA.test)
    assert accuracy > 0.8 > 0.5 > classification.accuracy(NETWORK, fresh(), DATA.test)
    again = batch_statistics.measured(NETWORK, done.params, DATA.target, batch_size=32)
    jax.tree.map(np.testing.assert_array_equal, held(done.params), held(again))
    assert not np.allclose(held(done.params)["var"], 1, rtol=0.1)


def test_a_killed_training_ends_with_the_same_parameters(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.safetensors"
    rows = iter([0.5, 0.5])  # of two epochs; the third ends the process
    with monkeypatch.context() as patch, pytest.raises(StopIteration):
        patch.setattr(recipes, "accuracy", lambda *given: next(rows))
        recipes.train(DATA, NETWORK, RECIPE, checkpoint=path)
    done = recipes.train(DATA, NETWORK, RECIPE, checkpoint=path)
    assert done.history[0]["test_accuracy"] == 0.5
    jax.tree.map(np.testing.assert_array_equal, done.params, trained().params)


def test_a_training_that_goes_on_keeps_statistics():
    family = [DROPOUT.at("feature", 0.3)]
    before = trained().params
    (after,) = retraining.retrain(
        NETWORK, before, "relu", family, DATA.target, part="both", key=jax.random.key(1), steps=8
    ).params
    jax.tree.map(np.testing.assert_array_equal, held(after), held(before))
    kernels = (params["stem"]["params"]["conv"]["kernel"] for params in (after, before))
    assert not np.array_equal(*kernels)


@pytest.mark.parametrize("optimizer", ["sgd", "nadamw"])
def test_weight_decay_is_of_kernels_alone(optimizer):
    rule = dataclasses.replace(RECIPE, optimizer=optimizer, eps=1e-8).transformation(10)
    params = jax.tree.map(jnp.ones_like, fresh())
    updates, _ = rule.update(jax.tree.map(jnp.zeros_like, params), rule.init(params), params)
    moved = {path[-1].key for path, leaf in jax.tree.leaves_with_path(updates) if np.any(leaf)}
    assert moved == {"kernel"}


def test_the_mask_tells_statistics():
    named = jax.tree.leaves_with_path(statistics.mask(fresh()))
    assert {path[-1].key for path, is_statistic in named if is_statistic} == {"mean", "var"}


def test_kept_statistics_have_no_part_in_the_size_of_a_gradient():
    rule = batch_statistics.kept(optax.clip_by_global_norm(1.0))
    grads = jax.tree.map(jnp.zeros_like, fresh())
    grads["stem"]["batch_stats"]["norm"] = {"mean": jnp.full(6, 1e6), "var": jnp.full(6, 1e6)}
    grads["head"]["bias"] = jnp.full(3, 0.1)
    updates, _ = rule.update(grads, rule.init(fresh()), fresh())
    np.testing.assert_allclose(updates["head"]["bias"], 0.1, rtol=1e-6)
    assert not any(np.any(leaf) for leaf in held(updates).values())
