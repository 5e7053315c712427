"""Targets: shipped, found in a work folder, and training as a run."""

import dataclasses
import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import flax.linen as nn
import jax
import numpy as np
import pytest

from jaxinv import networks
from jaxinv.errors import UserError
from jaxinv.inputs.data import Dataset, Samples
from jaxinv.store import checkpoints, records
from jaxinv.training import classification, recipes, targets

SHIPPED = {"mnist": (28, 28, 1), "cifar10": (32, 32, 3)}
ONE_EPOCH = recipes.TargetRecipe(1, 16, 1e-3, 0.0, 1e-3, augment=False)


def samples(count, shape, seed, classes=10):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
    return Samples(pixels, rng.integers(0, classes, count).astype(np.int32))


def dataset(name="tiny", shape=(28, 28, 1), count=64):
    parts = (samples(count, shape, 0), samples(8, shape, 1), samples(20, shape, 2))
    return Dataset(name, "random pixels", "0123456789ab", 10, *parts)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A work folder with the finished run of one target."""
    folder = tmp_path_factory.mktemp("results")
    targets.train_run(dataset(), ONE_EPOCH, folder)
    return folder


@pytest.fixture
def no_training(monkeypatch):
    monkeypatch.setattr(targets, "train", lambda *args, **kwargs: pytest.fail("trained again"))


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_targets(name, tmp_path, no_training):
    target = targets.find(dataset(name, SHIPPED[name]), tmp_path)
    assert target.source == "shipped"
    assert target.training["fingerprint"] == checkpoints.fingerprint(target.params)
    assert target.fingerprint == targets.fingerprint(target.network, target.params)
    like = jax.eval_shape(target.network.init, jax.random.key(0))
    assert jax.tree.map(np.shape, target.params) == jax.tree.map(lambda leaf: leaf.shape, like)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(target.params))
    assert target.training["dataset"] == name
    assert target.training["test_accuracy"] > {"mnist": 0.97, "cifar10": 0.75}[name]
    assert not list(tmp_path.iterdir())


def test_a_run_leaves_its_files(workdir):
    record = records.find(workdir, "train_target")[0].fields
    (folder,) = (workdir / "train_target").iterdir()
    names = {"record.json", "target.safetensors", "learning_curve.png"}
    assert {file.name for file in folder.iterdir()} == names
    assert (record["dataset"], record["num_images"], record["num_test_images"]) == ("tiny", 64, 20)
    assert record["config"]["recipe"] == dataclasses.asdict(ONE_EPOCH)
    told = {"epochs": "1", "batch_size": "16", "learning_rate": "0.001"}
    assert record["flags"] == {"dataset": "tiny", **told}
    assert [set(row) for row in record["history"]] == [{"loss", "accuracy", "test_accuracy"}]
    target = targets.load(folder / "target.safetensors", dataset())
    assert checkpoints.fingerprint(target.params) == record["fingerprint"]
    assert target.training["config_hash"] == record["config_hash"]
    measured = classification.accuracy(target.network, target.params, dataset().test)
    assert record["test_accuracy"] == measured == targets.test_accuracy(target, dataset())


def test_a_finished_run_is_not_repeated(workdir, no_training):
    path = targets.train_run(dataset(), ONE_EPOCH, workdir)
    assert path.name == "record.json"
    assert json.loads(path.read_text())["dataset"] == "tiny"


A_RECORD = {
    **dict.fromkeys(("experiment", "dataset", "data_source", "device", "config_hash"), ""),
    **{"kind": "target", "seed": 0, "versions": {}, "config": {}},
    **{"test_accuracy": 0.5, "num_test_images": 1, "fingerprint": "", "fit_s": 1.0},
}


def test_of_several_that_need_a_target_one_trains(tmp_path, monkeypatch):
    trained = []

    def train_into(folder, dataset, recipe, config):
        trained.append(folder)
        time.sleep(0.2)
        checkpoints.save(folder / targets.WEIGHTS, {})
        records.write(folder, A_RECORD, images=None)

    monkeypatch.setattr(targets, "_train_into", train_into)
    with ThreadPoolExecutor(4) as pool:  # the lock is one between open files
        paths = set(pool.map(lambda _: targets.train_run(dataset(), ONE_EPOCH, tmp_path), range(4)))
    assert {path.parent for path in paths} == set(trained)
    assert len(trained) == 1


def test_find_prefers_shipped_to_trained_to_training(tmp_path, workdir, monkeypatch):
    monkeypatch.setattr(targets, "SHIPPED", tmp_path / "weights")
    monkeypatch.setattr(targets, "default_recipe", lambda dataset: ONE_EPOCH)
    lines = []
    trained = targets.find(dataset(), tmp_path / "results", announce=lines.append)
    assert len(lines) == 1
    assert "tiny" in lines[0]
    assert str(tmp_path / "results") in trained.source

    monkeypatch.setattr(targets, "train", lambda *args, **kwargs: pytest.fail("trained again"))
    earlier = targets.find(dataset(), workdir, announce=pytest.fail)
    assert str(workdir) in earlier.source
    assert earlier.fingerprint == trained.fingerprint  # the same recipe and data

    params = jax.tree.map(lambda leaf: leaf + 1, trained.params)
    path = tmp_path / "weights" / "tiny.safetensors"
    checkpoints.save(path, params, metadata={"dataset": "tiny"})
    shipped = targets.find(dataset(), workdir, announce=pytest.fail)
    assert shipped.source == "shipped"
    assert checkpoints.fingerprint(shipped.params) == checkpoints.fingerprint(params)
    given = targets.find(dataset(), workdir, checkpoint=earlier.source)
    assert (given.source, given.fingerprint) == (earlier.source, earlier.fingerprint)


def test_damaged_weights_are_set_aside_and_trained_again(workdir, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(targets, "SHIPPED", tmp_path / "weights")
    monkeypatch.setattr(targets, "default_recipe", lambda dataset: ONE_EPOCH)
    shutil.copytree(workdir, tmp_path / "results")
    (weights,) = tmp_path.glob(f"results/train_target/*/{targets.WEIGHTS}")
    content = weights.read_bytes()
    damaged = content[:-4] + bytes([content[-4] ^ 1]) + content[-3:]
    weights.write_bytes(damaged)
    again = targets.find(dataset(), tmp_path / "results", announce=lambda line: None)
    assert again.source == str(weights)
    assert checkpoints.fingerprint(again.params) == checkpoints.fingerprint(
        checkpoints.read(weights)[0]
    )
    assert weights.with_name(f"{targets.WEIGHTS}.corrupt-1").read_bytes() == damaged
    assert str(weights) in capsys.readouterr().err


def test_a_target_of_other_data_is_not_found(workdir, monkeypatch):
    def refuse(*args, **kwargs):
        raise UserError("would train")

    monkeypatch.setattr(targets, "train", refuse)
    other = dataclasses.replace(dataset(), fingerprint="ba9876543210")
    with pytest.raises(UserError, match="would train"):
        targets.find(other, workdir, announce=lambda line: None)


def test_a_checkpoint_of_another_dataset_is_refused(workdir):
    (path,) = workdir.glob("*/*/target.safetensors")
    with pytest.raises(UserError, match="trained on tiny, not on other"):
        targets.load(path, dataset("other"))
    with pytest.raises(UserError, match="another model"):
        targets.load(path, dataset("tiny", (32, 32, 3)))
    with pytest.raises(UserError, match="no such checkpoint"):
        targets.find(dataset(), workdir, checkpoint=path.with_name("absent"))


def test_flags_tell_a_recipe_or_nothing():
    default = recipes.default_recipe(dataset())
    assert targets._flags(dataset(), default) == {"dataset": "tiny"}
    other = dataclasses.replace(default, seed=3)
    assert targets._flags(dataset(), other) == {"dataset": "tiny", "seed": "3"}
    assert targets._flags(dataset(), dataclasses.replace(default, weight_decay=0.5)) == {}


def test_default_recipes():
    grey, colour = dataset(), dataset("c", (32, 32, 3))
    assert not recipes.default_recipe(grey).augment
    assert recipes.default_recipe(colour).augment
    for data in (grey, colour):
        recipe = recipes.default_recipe(data)
        assert recipe.epochs * (len(data.target) // recipe.batch_size) >= 1500


def test_another_network_over_the_same_weights_is_another_target():
    own, other = (
        networks.sequence([("fc", nn.Dense(3)), ("act", activation)], (4,))
        for activation in (nn.relu, nn.silu)
    )
    params = own.init(jax.random.key(0))
    assert targets.fingerprint(own, params) == targets.fingerprint(own, params)
    assert targets.fingerprint(own, params) != targets.fingerprint(other, params)
    more = jax.tree.map(lambda leaf: leaf + 1, params)
    assert targets.fingerprint(own, params) != targets.fingerprint(own, more)
