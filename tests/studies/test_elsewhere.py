"""Attacks of other programs: what crossed is written, and what comes back is judged."""

import json
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import pytest
from datasets import random_split, write_tfds

from jaxinv import networks
from jaxinv.errors import UserError
from jaxinv.inputs import data
from jaxinv.inputs.samples import Samples
from jaxinv.machine import hosts
from jaxinv.measures import usability
from jaxinv.studies import elsewhere, experiment
from jaxinv.studies.blackbox import BlackboxConfig
from jaxinv.studies.scenes import Scene
from jaxinv.studies.whitebox import WhiteboxConfig
from jaxinv.training import targets
from jaxinv.training.target import Target


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A directory with twelve images in the place of MNIST, whose target ships."""
    folder = tmp_path_factory.mktemp("tfds")
    split = random_split(12, (28, 28, 1))
    write_tfds(folder, "mnist", split, split, num_classes=10)
    return folder


def test_of_several_processes_the_first_writes_the_export(tmp_path, monkeypatch):
    """The others compute what crossed together with it."""
    calls = []
    monkeypatch.setattr(hosts, "first", lambda function: calls.append(function))
    network = networks.sequence([("act", nn.relu), ("head", nn.Dense(2))], (3,))
    target = Target("own", network, network.init(jax.random.key(0)), "given", "0" * 12, {})
    images = Samples(np.zeros((4, 2, 2, 1), np.uint8))
    monkeypatch.setattr(elsewhere.defenses, "Release", lambda *_: np.ones((4, 3), np.float32))
    made = data.Dataset("own", "zeros", "0" * 12, 0, images, images, images)
    scene = Scene(made, target, usability.undefended("agreement", None, 4), ["act"])
    config = WhiteboxConfig(export=str(tmp_path / "a.npz"), num_images=4)
    elsewhere._export(config.export, config, scene)
    assert len(calls) == 1 and not list(tmp_path.iterdir())
    calls[0]()
    assert (tmp_path / "a.npz").is_file()


@pytest.fixture
def reconstructed(root, tmp_path):
    images = data.load("mnist", data_dir=root).test[:3].images + np.float32(0.1)
    np.savez(tmp_path / "found.npz", images=images)
    return str(tmp_path / "found.npz")


def settings(root, tmp_path, **given):
    common = {"data_dir": str(root), "workdir": str(tmp_path / "work"), "split": ("relu2",)}
    return common | given


def test_out_and_back(root, tmp_path, reconstructed, capsys):
    path = str(tmp_path / "out" / "sent.npz")
    given = settings(root, tmp_path, imported=reconstructed, export=path)
    found = experiment.find("whitebox")
    (made,) = found.run(WhiteboxConfig(**given))
    test = data.load("mnist", data_dir=root).test[:3]
    target = targets.find(data.load("mnist", data_dir=root), tmp_path, announce=print)
    edge, _ = target.network.split("relu2")
    with np.load(path) as sent:
        assert sorted(sent) == ["features", "images", "labels"]
        np.testing.assert_array_equal(sent["labels"], test.labels)
        np.testing.assert_array_equal(sent["images"], test.images)
        expected = edge.apply(target.params, test.images)
        np.testing.assert_allclose(sent["features"], expected, atol=1e-4)
    record = json.loads(Path(made["path"]).read_text("utf-8"))
    assert record["method"] == "import" and record["num_images"] == len(record["psnr"]) == 3
    assert record["reid_top1"] == 1 and record["reid_top1_ci"][0] < 0.5
    assert record["reid_likelihood"] is None and record["attack_s"] is None
    told = {"dataset": "mnist", "split": "relu2", "import": reconstructed, "num_images": "3"}
    assert record["flags"] == told
    assert "method import" in capsys.readouterr().out
    assert found.run(WhiteboxConfig(**given))[0]["path"] == made["path"]


def test_the_flag_has_the_name_that_python_keeps_to_itself():
    found = experiment.find("blackbox")
    values = found.define_flags()
    values(["blackbox", "--import=a.npz"])
    assert found.config(values).imported == "a.npz"
    assert experiment.spelled(BlackboxConfig(imported="a.npz")) == {"import": "a.npz"}
    assert experiment.spelled(BlackboxConfig(export="a.npz")) == {}
    assert "--import\n" in found.help("blackbox") and "imported" not in found.help("blackbox")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"split": ("conv1", "fc1")}, "^import=.*: split=conv1,fc1 are 2 cuts; expected one"),
        ({"steps": 3}, "^steps=3: import="),
        ({"num_images": 2}, "^num_images=2: import=.* has 3"),
        ({"split": ("all",), "imported": None, "export": "a.npz"}, "^export=a.npz: split="),
        ({"imported": None, "export": "/"}, "^export=/: expected FILE.npz"),
        ({"imported": None, "export": "features.txt"}, "^export=features.txt: expected FILE.npz"),
        ({"imported": "none.npz"}, "^import=none.npz: cannot be read"),
    ],
    ids=["cuts", "steps", "count", "all", "folder", "text", "none"],
)
def test_files_that_do_not_fit(root, tmp_path, reconstructed, given, words):
    config = WhiteboxConfig(**settings(root, tmp_path, **{"imported": reconstructed} | given))
    with pytest.raises(UserError, match=words):
        experiment.find("whitebox").run(config)
    assert not (tmp_path / "work").exists()


def test_images_of_another_shape_or_too_many(root, tmp_path):
    for images in (np.zeros((3, 28, 27, 1), np.uint8), np.zeros((13, 28, 28, 1), np.uint8)):
        np.savez(tmp_path / "found.npz", images=images)
        given = settings(root, tmp_path, imported=str(tmp_path / "found.npz"))
        with pytest.raises(UserError, match="27, 1.: expected images|^import=.* with 13 images: "):
            experiment.find("blackbox").run(BlackboxConfig(**given))
