"""Targets: shipped, found in a work folder, and training as a run."""

import dataclasses
import functools
import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxinv import networks
from jaxinv.errors import UsageError, UserError
from jaxinv.inputs.data import Dataset, from_arrays
from jaxinv.inputs.samples import Samples
from jaxinv.machine import environment
from jaxinv.networks import loading
from jaxinv.networks.loading import Model
from jaxinv.store import checkpoints, records
from jaxinv.training import classification, fit, measured, recipes, targets

SHIPPED = {
    ("mnist", "lenet5"): (28, 28, 1),
    ("cifar10", "cifar_cnn"): (32, 32, 3),
    ("cifar10", "resnet20"): (32, 32, 3),
    ("cifar10", "vit_tiny"): (32, 32, 3),
}
# Accuracies of the test split.
_LEAST = {"lenet5": 0.97, "cifar_cnn": 0.75, "resnet20": 0.855, "vit_tiny": 0.75}
_EPOCHS = {"lenet5": 12, "cifar_cnn": 16, "resnet20": 30, "vit_tiny": 30}
ONE_EPOCH = recipes.TargetRecipe("amsgrad", 1, 16, 3e-3, 0.0, 1e-3, augmentation="none")
ADAMW = dataclasses.replace(ONE_EPOCH, optimizer="adamw")


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


def shipped_for(name, network):
    """The dataset and the model that a file ships for."""
    shape = SHIPPED[name, network]
    return dataset(name, shape), loading.load(network, shape, 10)


@pytest.mark.parametrize(("name", "network"), SHIPPED)
def test_shipped_targets(name, network, tmp_path, no_training):
    data, model = shipped_for(name, network)
    target = targets.find(data, tmp_path, model=model)
    assert target.source == "shipped"
    assert target.training["fingerprint"] == checkpoints.fingerprint(target.params)
    assert target.fingerprint == measured.fingerprint(target.network, target.params)
    like = jax.eval_shape(target.network.init, jax.random.key(0))
    assert jax.tree.map(np.shape, target.params) == jax.tree.map(lambda leaf: leaf.shape, like)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(target.params))
    assert target.training["dataset"] == name
    assert target.training["test_accuracy"] > _LEAST[network]
    assert not list(tmp_path.iterdir())


def test_a_run_leaves_its_files(workdir):
    record = records.find(workdir, "train_target")[0].fields
    (folder,) = (workdir / "train_target").iterdir()
    names = {"record.json", "target.safetensors", "learning_curve.png"}
    assert {file.name for file in folder.iterdir()} == names
    assert (record["dataset"], record["num_images"], record["num_test_images"]) == ("tiny", 64, 20)
    assert record["config"]["recipe"] == dataclasses.asdict(ONE_EPOCH)
    told = {"epochs": "1", "batch_size": "16", "learning_rate": "0.003"}
    assert record["flags"] == {"dataset": "tiny", **told}
    assert [set(row) for row in record["history"]] == [{"loss", "accuracy", "test_accuracy"}]
    target = targets.load(folder / "target.safetensors", dataset())
    assert checkpoints.fingerprint(target.params) == record["fingerprint"]
    assert target.training["config_hash"] == record["config_hash"]
    measured = classification.accuracy(target.network, target.params, dataset().test)
    assert record["test_accuracy"] == measured == targets.test_accuracy(target, dataset())


def test_the_record_of_a_table_tells_its_columns(tmp_path):
    rows = np.random.default_rng(0).normal(size=(60, 3))
    own = {"parts": ["target"] * 40 + ["test"] * 20, "kind": "table", "names": ["a", "b", "c"]}
    table = from_arrays(rows, np.arange(60) % 2, name="rows", **own)
    path = targets.train_run(table, ONE_EPOCH, tmp_path)
    assert json.loads(path.read_text("utf-8"))["inputs"] == table.columns.fields
    assert records.read(path.parent).kind_of_input.name == "table"


def test_a_finished_run_is_not_repeated(workdir, no_training):
    path = targets.train_run(dataset(), ONE_EPOCH, workdir)
    assert path.name == "record.json"
    assert json.loads(path.read_text("utf-8"))["dataset"] == "tiny"


A_RECORD = {
    **dict.fromkeys(("experiment", "dataset", "data_source", "device", "config_hash"), ""),
    **{"kind": "target", "seed": 0, "versions": {}, "config": {}},
    **{"num_test_images": 20, "fit_s": 1.0},
}


@functools.cache
def untrained():
    """Parameters that nobody trained, and their accuracy."""
    network = networks.lenet5()
    params = jax.jit(network.init)(jax.random.key(3))
    return params, classification.accuracy(network, params, dataset().test)


def recipe(**changes):
    changed = dataclasses.replace(ONE_EPOCH, **changes)
    network = {"network": networks.lenet5().fingerprint}
    return {"recipe": dataclasses.asdict(changed), **network, **environment.numeric_mode()}


def whole_config(seed):
    """Returns the configuration of a run that trains on the tiny dataset."""
    told = {"dataset": "tiny", "data_fingerprint": "0123456789ab", "code": targets._code()}
    return {**told, **recipe(seed=seed)}


def leave(folder, data, **fields):
    """Leaves a run's files without a training; fields replace what is true in its record."""
    params, accuracy = untrained()
    checkpoints.save(folder / targets.WEIGHTS, params, metadata={"dataset": data.name})
    true = {
        "dataset": data.name,
        "data_fingerprint": data.fingerprint,
        "fingerprint": checkpoints.fingerprint(params),
        "test_accuracy": accuracy,
        "code": targets._code(),
        "config": recipe(),
    }
    told = {**A_RECORD, **true, **fields}
    named = {"config_hash": records.config_hash(told["config"]), **fields}
    records.write(folder, {**told, **named}, images=None)
    return folder / targets.WEIGHTS


def test_of_several_that_need_a_target_one_trains(tmp_path, monkeypatch):
    trained = []

    def train_into(folder, dataset, model, recipe, config, flags):
        trained.append(folder)
        time.sleep(0.2)
        leave(folder, dataset, config=config)

    monkeypatch.setattr(targets, "_train_into", train_into)
    with ThreadPoolExecutor(4) as pool:  # the lock is one between open files
        paths = set(pool.map(lambda _: targets.train_run(dataset(), ONE_EPOCH, tmp_path), range(4)))
    assert {path.parent for path in paths} == set(trained)
    assert len(trained) == 1


def test_find_prefers_shipped_to_trained_to_training(tmp_path, workdir, monkeypatch):
    monkeypatch.setattr(targets, "SHIPPED", tmp_path / "weights")
    monkeypatch.setattr(targets, "default_recipe", lambda *given: ONE_EPOCH)
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
    training = json.dumps({"data_fingerprint": dataset().fingerprint})
    checkpoints.save(path, params, metadata={"dataset": "tiny", "training": training})
    shipped = targets.find(dataset(), workdir, announce=pytest.fail)
    assert shipped.source == "shipped"
    assert checkpoints.fingerprint(shipped.params) == checkpoints.fingerprint(params)
    given = targets.find(dataset(), workdir, checkpoint=earlier.source)
    assert (given.source, given.fingerprint) == (earlier.source, earlier.fingerprint)


def test_damaged_weights_are_set_aside_and_trained_again(workdir, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(targets, "SHIPPED", tmp_path / "weights")
    monkeypatch.setattr(targets, "default_recipe", lambda *given: ONE_EPOCH)
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


@pytest.fixture
def one_epoch(monkeypatch, tmp_path):
    """Nothing is shipped, one epoch is the default, and a training is an error."""

    def refuse(*args, **kwargs):
        raise UserError("would train")

    monkeypatch.setattr(targets, "SHIPPED", tmp_path / "weights")
    monkeypatch.setattr(targets, "default_recipe", lambda *given: ONE_EPOCH)
    monkeypatch.setattr(targets, "train", refuse)


NOT_TAKEN = {
    "another seed": {"config": recipe(seed=1)},
    "another rate": {"config": recipe(learning_rate=0.5)},
    "64-bit mode": {"config": {**recipe(), "x64": not jax.config.jax_enable_x64}},
    "another generator": {"config": {**recipe(), "prng": "rbg"}},
    "no recipe": {"config": {}},
    "a recipe that is none": {"config": {"recipe": 3}},
    "an edited recipe": {"config_hash": records.config_hash(recipe(seed=1))},
    "other data": {"data_fingerprint": "ba9876543210"},
    "another name": {"dataset": "other"},
    "other parameters": {"fingerprint": "0" * 12},
    "no target": {"kind": "of tomorrow"},
}


@pytest.mark.parametrize("why", NOT_TAKEN)
def test_only_a_target_of_the_wanted_recipe_seed_and_data_is_taken(tmp_path, one_epoch, why):
    lines = []
    wanted = leave(tmp_path / "train_target" / "wanted", dataset())
    leave(tmp_path / "train_target" / "z", dataset(), **NOT_TAKEN[why])
    found = targets.find(dataset(), tmp_path, announce=lines.append)
    assert (found.source, lines) == (str(wanted), [])
    shutil.rmtree(wanted.parent)
    with pytest.raises(UserError, match="would train"):
        targets.find(dataset(), tmp_path, announce=lines.append)
    assert "No trained target for tiny yet (of seed 0)" in lines[0]


def test_a_target_of_a_seed_is_found_and_knows_its_seed(tmp_path, one_epoch, monkeypatch):
    """The newest target of another seed is not taken, nor is what ships."""
    lines = []
    wanted = leave(tmp_path / "train_target" / "a", dataset(), config={**recipe(seed=7)})
    newest = leave(tmp_path / "train_target" / "z", dataset(), config={**recipe(seed=8)})
    monkeypatch.setattr(targets, "SHIPPED", tmp_path / "shipped")
    targets.SHIPPED.mkdir()
    shutil.copy(newest, targets.SHIPPED / "tiny.safetensors")
    found = targets.find(dataset(), tmp_path, seed=7, announce=lines.append)
    assert (found.source, found.seed, lines) == (str(wanted), 7, [])
    shipped = targets.find(dataset(), tmp_path, announce=lines.append)
    assert (shipped.source, shipped.seed) == ("shipped", 0)
    assert targets.find(dataset(), tmp_path, checkpoint=wanted).seed is None
    with pytest.raises(UserError, match="would train"):
        targets.find(dataset(), tmp_path, seed=9, announce=lines.append)
    assert "(of seed 9)" in lines[-1]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        *(("epochs", 0), ("epochs", 1.5), ("batch_size", 0), ("batch_size", -3)),
        *(("learning_rate", value) for value in (0.0, -1.0, np.nan, np.inf, "0.1", None)),
        *(("weight_decay", -1.0), ("eps", np.nan)),
        *(("augmentation", value) for value in (None, "zoom")),
        ("optimizer", "lion"),
        *(("seed", -1), ("seed", 2**32), ("seed", 1.5), ("seed", True)),
    ],
)
def test_a_recipe_that_cannot_be_trained_by_is_refused(setting, value):
    with pytest.raises(UsageError, match=f"^{setting}={value}: expected .*") as caught:
        dataclasses.replace(ONE_EPOCH, **{setting: value})
    assert "\n" not in str(caught.value)


def test_a_target_of_other_code_is_taken_last_and_said(tmp_path, one_epoch):
    lines = []
    own = leave(tmp_path / "train_target" / "own", dataset())
    time.sleep(0.01)
    older = leave(tmp_path / "train_target" / "older", dataset(), code="0" * 12)
    assert targets.find(dataset(), tmp_path, announce=lines.append).source == str(own)
    assert lines == []
    shutil.rmtree(own.parent)
    copied = shutil.copytree(tmp_path, tmp_path / "copied")  # the paths in it are those of old
    shutil.rmtree(older.parent)
    found = targets.find(dataset(), copied, announce=lines.append)
    assert found.source == str(copied / "train_target" / "older" / targets.WEIGHTS)
    assert len(lines) == 1 and "of another version of the code" in lines[0]


TOLD = [
    *("null", "3", '"0.99"', "[1]", "{}", '{"test_accuracy": null}', '{"test_accuracy": "0.99"}'),
    *('{"test_accuracy": 99.1}', '{"test_accuracy": NaN}', '{"test_accuracy": {"a": 1}}'),
    '{"test_accuracy": 0.99, "data_fingerprint": "0123456789ab", "fingerprint": 7}',
]


@pytest.mark.parametrize("told", TOLD)
def test_an_accuracy_is_measured_whatever_the_file_says(tmp_path, told):
    weights = leave(tmp_path, dataset())
    arrays, _ = checkpoints.read(weights)
    checkpoints.save(weights, arrays, metadata={"dataset": "tiny", "training": told})
    target = targets.load(weights, dataset())
    true = classification.accuracy(target.network, target.params, dataset().test)
    assert targets.test_accuracy(target, dataset()) == true < 0.5
    assert isinstance(target.training, dict)


def test_training_data_that_cannot_be_read_are_one_line(tmp_path):
    weights = leave(tmp_path, dataset())
    arrays, _ = checkpoints.read(weights)
    for told in ("{", "", "[" * 100_000):
        checkpoints.save(weights, arrays, metadata={"dataset": "tiny", "training": told})
        with pytest.raises(UserError, match="its record of training is not readable"):
            targets.load(weights, dataset())


def test_parameters_that_are_not_finite_are_refused(tmp_path):
    weights = leave(tmp_path, dataset())
    arrays, metadata = checkpoints.read(weights)
    arrays["conv1/bias"][1] = np.nan
    checkpoints.save(weights, arrays, metadata=metadata)
    with pytest.raises(UserError, match=f"checkpoint={weights}: its parameters are not all finite"):
        targets.find(dataset(), tmp_path, checkpoint=weights)


def test_a_shipped_target_on_other_data_of_its_name_is_said(tmp_path, no_training):
    lines = []
    targets.find(dataset("mnist"), tmp_path, announce=lines.append)
    assert len(lines) == 1 and "was trained on other data of this name" in lines[0]


def test_a_network_of_the_zoo_is_found_where_its_weights_ship(tmp_path, monkeypatch, no_training):
    """A stand-in for the trained weights; other preprocessing is another network."""
    monkeypatch.setattr(targets, "SHIPPED", tmp_path / "weights")
    own = loading.load("vit_tiny", (8, 8, 1), 10)
    data, lines = dataset(shape=(8, 8, 1)), []
    shapes = jax.eval_shape(own.network.init, jax.random.key(5))
    params = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.5, leaf.dtype), shapes)
    told = json.dumps({"data_fingerprint": data.fingerprint})
    path = targets.SHIPPED / "tiny-vit_tiny.safetensors"
    checkpoints.save(path, params, metadata={"dataset": "tiny", "training": told})
    found = targets.find(data, tmp_path, model=own, announce=lines.append)
    assert (found.source, found.name, lines) == ("shipped", "vit_tiny", [])
    assert targets.shipped(data, own._replace(name="net.py:build")) is None
    other = dataclasses.replace(own.network, mean=(0.25,), std=(0.5,))
    assert targets.shipped(data, own._replace(network=other)) is None
    assert targets.shipped(dataset("other", (8, 8, 1)), own) is None


def test_a_checkpoint_serves_its_data_by_content_and_tells_other_content(tmp_path):
    weights, lines = leave(tmp_path, dataset()), []
    arrays, _ = checkpoints.read(weights)
    for told in (dataset().fingerprint, "ba9876543210"):
        training = json.dumps({"data_fingerprint": told})
        checkpoints.save(weights, arrays, metadata={"dataset": "tiny", "training": training})
        targets.find(dataset(), tmp_path, checkpoint=weights, announce=lines.append)
    assert len(lines) == 1 and "was trained on other data of this name" in lines[0]
    assert lines[0].startswith(f"checkpoint={weights} ")
    with pytest.raises(UserError, match="trained on tiny, not on moved"):
        targets.find(dataset("moved"), tmp_path, checkpoint=weights)
    training = json.dumps({"data_fingerprint": dataset().fingerprint})
    checkpoints.save(weights, arrays, metadata={"dataset": "tiny", "training": training})
    targets.find(dataset("moved"), tmp_path, checkpoint=weights, announce=pytest.fail)


def test_a_record_that_disagrees_with_its_parameters_is_set_aside(tmp_path, one_epoch, capsys):
    path = targets.records.run_dir  # the folder's name has a hash
    config = whole_config(0)
    folder = path(tmp_path, "train_target", config, label="tiny-s0")
    leave(folder, dataset(), config=config)
    assert targets.train_run(dataset(), ONE_EPOCH, tmp_path).parent == folder
    leave(folder, dataset(), config=config, test_accuracy=0.99)
    with pytest.raises(UserError, match="would train"):
        targets.train_run(dataset(), ONE_EPOCH, tmp_path)
    assert "accuracy 0.99, of the parameters beside it 0." in capsys.readouterr().err
    assert (folder / "record.json.corrupt-1").is_file()
    leave(folder, dataset(), config=config, fingerprint="0" * 12)
    with pytest.raises(UserError, match="would train"):
        targets.train_run(dataset(), ONE_EPOCH, tmp_path)
    assert (folder / f"{targets.WEIGHTS}.other-1").is_file()


def test_a_target_of_another_seed_in_the_folder_of_a_run_is_not_taken(tmp_path, one_epoch, capsys):
    config = whole_config(0)
    folder = records.run_dir(tmp_path, "train_target", config, label="tiny-s0")
    leave(folder, dataset(), seed=3, config=whole_config(3))
    with pytest.raises(UserError, match="would train"):
        targets.find(dataset(), tmp_path, announce=lambda line: None)
    assert "the record of another configuration" in capsys.readouterr().err
    assert (folder / "record.json.other-1").is_file()


RECIPES = {
    **{"epochs": 2, "batch_size": 15, "learning_rate": 2e-3, "weight_decay": 0.1, "eps": 1e-4},
    **{"augmentation": "jitter", "seed": 1, "optimizer": "amsgrad"},
}


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """The checkpoint of a training of a small network."""
    path = tmp_path_factory.mktemp("begun") / "checkpoint"
    recipes.train(dataset(count=32), small(), ADAMW, checkpoint=path)
    return path


def small(activation=nn.relu, **normalisation):
    layers = [("act", activation), ("fc", nn.DenseGeneral(10, axis=(-3, -2, -1)))]
    return networks.sequence(layers, (28, 28, 1), **normalisation)


def test_every_setting_of_a_recipe_is_tried():
    assert {field.name for field in dataclasses.fields(recipes.TargetRecipe)} == RECIPES.keys()


OTHER_TRAININGS = {
    **{name: {"recipe": {name: value}} for name, value in RECIPES.items()},
    "normalisation": {"network": small(mean=(0.4,), std=(0.2,))},
    "network": {"network": small(nn.silu)},
    "labels": {"data": {"order": -1}},
    "data": {"data": {"count": 33}},
}


@pytest.mark.parametrize("other", OTHER_TRAININGS)
def test_a_checkpoint_of_other_settings_is_not_resumed(begun, tmp_path, monkeypatch, other):
    path = shutil.copy(begun, tmp_path)
    changed = OTHER_TRAININGS[other]
    data = dataset(count=changed.get("data", {}).get("count", 32))
    if "order" in changed.get("data", {}):
        labels = 9 - data.target.labels
        data = dataclasses.replace(data, target=Samples(data.target.pixels, labels))
    new = dataclasses.replace(ADAMW, **changed.get("recipe", {}))
    network = changed.get("network", small())
    monkeypatch.setattr(fit, "Portions", lambda *args: pytest.fail("trained"))
    with pytest.raises(pytest.fail.Exception, match="trained"):
        recipes.train(data, network, new, checkpoint=path)
    (aside,) = tmp_path.glob("*.other-1")
    assert aside.read_bytes() == begun.read_bytes()


def test_a_checkpoint_of_the_same_settings_is_resumed(begun, monkeypatch):
    monkeypatch.setattr(recipes, "accuracy", pytest.fail)  # of each epoch
    again = recipes.train(dataset(count=32), small(), ADAMW, checkpoint=begun)
    assert len(again.history) == 1


def test_a_target_of_other_data_is_not_found(workdir, monkeypatch):
    def refuse(*args, **kwargs):
        raise UserError("would train")

    monkeypatch.setattr(targets, "train", refuse)
    other = dataclasses.replace(dataset(), fingerprint="ba9876543210")
    with pytest.raises(UserError, match="would train"):
        targets.find(other, workdir, announce=lambda line: None)


def test_a_checkpoint_of_another_dataset_is_refused(workdir):
    (path,) = workdir.glob("*/*/target.safetensors")
    other = dataclasses.replace(dataset("other"), fingerprint="ba9876543210")
    with pytest.raises(UserError, match="trained on tiny, not on other"):
        targets.load(path, other)
    assert targets.load(path, dataset("other")).params  # the same data by another name
    with pytest.raises(UserError, match="another model"):
        targets.load(path, dataset("tiny", (32, 32, 3)))
    with pytest.raises(UserError, match="no such checkpoint"):
        targets.find(dataset(), workdir, checkpoint=path.with_name("absent"))


def test_networks_of_the_zoo_have_recipes_of_their_own():
    colour, grey = dataset(shape=(32, 32, 3)), dataset()
    for name in ("resnet20", "vgg11", "mobilenet_v2", "vit_tiny"):
        own = recipes.default_recipe(colour, name)
        assert own.optimizer == ("nadamw" if name == "vit_tiny" else "sgd")
        assert own.augmentation == ("jitter" if name == "vit_tiny" else "crop")
        assert recipes.default_recipe(grey, name).augmentation == "none"
    assert recipes.default_recipe(colour, "cifar_cnn") == recipes.default_recipe(colour)


def test_flags_tell_a_recipe_or_nothing():
    default, asked = recipes.default_recipe(dataset()), {"dataset": "tiny"}
    assert targets._flags(default, default, asked) == {"dataset": "tiny"}
    other = dataclasses.replace(default, seed=3)
    assert targets._flags(default, other, asked) == {"dataset": "tiny", "seed": "3"}
    assert targets._flags(default, dataclasses.replace(default, eps=0.5), asked) == {}


def test_default_recipes():
    grey, colour = dataset(), dataset("c", (32, 32, 3))
    own = recipes.default_recipe(grey)
    assert own.augmentation == "none"
    assert (own.optimizer, own.batch_size, own.learning_rate, own.eps) == (
        "amsgrad",
        32,
        1e-3,
        1e-3,
    )
    assert recipes.default_recipe(colour).augmentation == "jitter"
    for data in (grey, colour):
        recipe = recipes.default_recipe(data)
        assert recipe.epochs * (len(data.target) // recipe.batch_size) >= 1500


def test_the_authors_recipe_has_a_constant_rate_and_no_clipping():
    recipe = recipes.default_recipe(dataset())
    gradients = {"w": jnp.full(4, 100.0)}
    sizes = []
    for steps in (10, 1000):
        rule = recipe.transformation(steps)
        state = rule.init(gradients)
        for _ in range(3):
            update, state = rule.update(gradients, state, gradients)
            sizes.append(float(jnp.abs(update["w"]).max()))
    np.testing.assert_allclose(sizes, 1e-3, rtol=1e-3)
    with pytest.raises(UsageError, match="weight_decay=0.5: optimizer=amsgrad has none"):
        dataclasses.replace(recipe, weight_decay=0.5)


@pytest.mark.parametrize(("name", "network"), SHIPPED)
def test_what_ships_is_of_seed_0_and_of_the_default_recipe(name, network):
    """Nobody chose a seed by what attacks find."""
    data, model = shipped_for(name, network)
    told = targets.load(targets.shipped(data, model), data, model)
    given = told.training["config"]["recipe"]
    given = {"optimizer": "adamw", **given}  # the only one when CIFAR-10's was trained
    if "augment" in given:  # as when there was one augmentation
        given["augmentation"] = "jitter" if given.pop("augment") else "none"
    wanted = dataclasses.replace(recipes.default_recipe(data, network), epochs=_EPOCHS[network])
    assert told.training["num_images"] > 30_000 and given == dataclasses.asdict(wanted)


def test_another_network_over_the_same_weights_is_another_target():
    own, other = (
        networks.sequence([("fc", nn.Dense(3)), ("act", activation)], (4,))
        for activation in (nn.relu, nn.silu)
    )
    params = own.init(jax.random.key(0))
    assert measured.fingerprint(own, params) == measured.fingerprint(own, params)
    assert measured.fingerprint(own, params) != measured.fingerprint(other, params)
    more = jax.tree.map(lambda leaf: leaf + 1, params)
    assert measured.fingerprint(own, params) != measured.fingerprint(own, more)


# --- Networks that are asked for ------------------------------------------------------------------


def own_model(params=None):
    layers = [("conv", nn.Conv(2, (5, 5), strides=4)), ("head", nn.DenseGeneral(10, (-3, -2, -1)))]
    return Model("net.py:build", networks.sequence(layers, (28, 28, 1)), params)


def test_a_network_that_brings_parameters_is_the_target(tmp_path, no_training):
    params = own_model().network.init(jax.random.key(3))
    target = targets.find(dataset("mnist"), tmp_path, model=own_model(params))
    assert (target.name, target.source, target.seed) == ("net.py:build", "given", None)
    jax.tree.map(np.testing.assert_array_equal, target.params, params)
    assert not target.is_papers(dataset("mnist"))


def test_another_network_is_trained_and_found_again(workdir, tmp_path, monkeypatch):
    monkeypatch.setattr(targets, "default_recipe", lambda *_: ONE_EPOCH)
    lines, asked = [], {"dataset": "tiny", "network": "net.py:build"}
    found = targets.find(dataset(), workdir, model=own_model(), flags=asked, announce=lines.append)
    assert "No trained target for tiny and net.py:build yet" in lines[0]
    (record,) = (each for each in records.find(workdir) if each.network.name == "net.py:build")
    assert record.flags == asked and record.network.fingerprint == own_model().network.fingerprint
    monkeypatch.setattr(targets, "train", lambda *args, **kwargs: pytest.fail("trained again"))
    again = targets.find(dataset(), workdir, model=own_model(), announce=pytest.fail)
    assert again.fingerprint == found.fingerprint


@pytest.mark.parametrize(
    "shape, classes, told",
    [
        ((28, 28, 1), 0, "brings no parameters, and dataset=bare has no labels to train it with"),
        ((28, 28, 1), 7, r"it returns \[10\], no logit for each of the 7 classes"),
    ],
)
def test_a_network_that_nothing_can_train_is_refused(tmp_path, shape, classes, told):
    parts = [samples(8, shape, seed, 7) for seed in range(3)]
    if not classes:
        parts = [Samples(each.pixels) for each in parts]
    bare = Dataset("bare", "random pixels", "0123456789ab", classes, *parts)
    with pytest.raises(UserError, match=told):
        targets.find(bare, tmp_path, model=own_model(), announce=lambda line: None)


def test_a_checkpoint_of_pytorch_serves_a_network_of_the_same_layers(tmp_path):
    rng, path = np.random.default_rng(0), tmp_path / "torch.safetensors"
    shapes = {"a.weight": (2, 1, 5, 5), "a.bias": (2,), "b.weight": (10, 98), "b.bias": (10,)}
    own = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    save_file(own, path)
    target = targets.find(dataset(), tmp_path, model=own_model(), checkpoint=path)
    kernel = np.asarray(target.params["conv"]["kernel"])
    np.testing.assert_array_equal(kernel, np.moveaxis(own["a.weight"], (0, 1), (-1, -2)))
    save_file({**own, "b.bias": own["b.bias"][:9]}, path)
    told = r"a checkpoint of another model \(the network's layer head has bias \[10\]"
    with pytest.raises(UserError, match=told):
        targets.find(dataset(), tmp_path, model=own_model(), checkpoint=path)
