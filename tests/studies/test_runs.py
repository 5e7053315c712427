"""Common parts of the scripts that attack, without a script: flags, and runs done once."""

import dataclasses
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fake_runs
import jax
import numpy as np
import pytest

from jaxinv.defenses import DROPOUT
from jaxinv.errors import UsageError
from jaxinv.inputs import data
from jaxinv.measures import usability
from jaxinv.networks import lenet5
from jaxinv.store import records
from jaxinv.studies import experiment, runs
from jaxinv.studies.config import AttackConfig
from jaxinv.studies.experiment import setting
from jaxinv.training import targets


@dataclasses.dataclass(frozen=True)
class FakeConfig(AttackConfig):
    method: str = setting("magic", "How.")
    depth: int = setting(3, "How deep.")


@pytest.fixture
def scene():
    """Random images, and a target that nobody trained."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (12, 28, 28, 1), dtype=np.uint8)
    samples = data.Samples(pixels, np.zeros(12, np.int32))
    dataset = data.Dataset("random", "nowhere", "f" * 12, 10, samples, samples, samples)
    target = targets.Target("ours", lenet5(), {}, "nowhere", "e" * 12, {})
    usable = usability.undefended("accuracy", 0.5, len(dataset.test))
    return runs.Scene(dataset, target, usable, ["conv1", "relu2"])


class Attack:
    """Counts how often it is called, and returns the originals, or several tries at them."""

    def __init__(self, scene, config, seeds=None):
        images = scene.images(config)
        self.found = images if seeds is None else np.stack([images] * seeds)
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return runs.Outcome(self.found, "nothing", "none", 1.0, 2.0, 3.0, {"more": self.calls})


def run(scene, config, attack, *, cut="relu2", identity=None, **options):
    identity = identity or {"depth": 3}
    return runs.run_once("test", config, scene, cut, attack, identity=identity, **options)


def config_in(tmp_path, **options):
    return FakeConfig(method="magic", workdir=str(tmp_path), num_images=5, **options)


USUAL = {"whitebox": 100, "convergence": 32, "partition": 64, "defenses": 200}


@pytest.fixture
def finds_scene(scene, monkeypatch):
    """Writes what `load` looks for: twelve test images."""
    monkeypatch.setattr(data, "load", lambda *args, **options: scene.dataset)
    monkeypatch.setattr(targets, "find", lambda *args, **options: scene.target)
    monkeypatch.setattr(targets, "test_accuracy", lambda *args: 0.5)


def there_is(name):
    """The part of the test split that an experiment attacks at first, and its size."""
    return ("first half of the test split", 6) if name == "partition" else ("test split", 12)


@pytest.mark.parametrize("name", USUAL)
def test_a_split_of_fewer_images_than_usual_is_attacked_whole_and_said(
    tmp_path, finds_scene, capsys, name
):
    config = experiment.find(name).Config(workdir=str(tmp_path), split=("conv1",))
    scene = runs.load(config)
    part, count = there_is(name)
    assert scene.num_images(config) == len(scene.images(config)) == count
    assert capsys.readouterr().out == (
        f"The {part} has {count} images, fewer than the usual {USUAL[name]}: all are attacked.\n"
    )
    asked = dataclasses.replace(config, num_images=count)
    assert runs.load(asked).num_images(asked) == count
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", USUAL)
@pytest.mark.parametrize("count", ["13", "usual"])
def test_more_images_than_there_are_are_refused_when_asked_for(tmp_path, finds_scene, name, count):
    number = USUAL[name] if count == "usual" else int(count)
    config = experiment.find(name).Config(workdir=str(tmp_path), num_images=number)
    with pytest.raises(UsageError) as caught:
        runs.load(config)
    part, have = there_is(name)
    assert str(caught.value) == f"num_images={number}: the {part} has {have} images."


@pytest.mark.parametrize("half, first", [("choice", 0), ("report", 5)])
def test_a_run_on_a_half_sees_no_image_of_the_other(tmp_path, finds_scene, scene, half, first):
    """The second half of eleven has six."""
    scene.dataset.test.pixels[:] = np.arange(12, dtype=np.uint8)[:, None, None, None]
    scene = scene._replace(
        dataset=dataclasses.replace(scene.dataset, test=scene.dataset.test[np.arange(11)])
    )
    own = scene.on(half, scene.dataset)
    seen = np.rint(own.dataset.test.images[:, 0, 0, 0] * 255)
    np.testing.assert_array_equal(seen, np.arange(first, 5 if half == "choice" else 11))
    config = FakeConfig(method="magic", workdir=str(tmp_path), num_images=5)
    found = {one.half: run(one, config, Attack(one, config)) for one in (scene, own)}
    assert found[half]["test_images"] == half and "test_images" not in found["all"]
    assert found[half]["config_hash"] != found["all"]["config_hash"]
    assert Path(found[half]["path"]).parent.name.split("-")[-2] == half


def test_a_half_has_fewer_images_and_says_so(tmp_path, finds_scene):
    kind = experiment.find("whitebox").Config
    config = kind(workdir=str(tmp_path), num_images=7, test_images="report")
    with pytest.raises(UsageError) as caught:
        runs.load(config)
    told = "num_images=7: the second half of the test split has 6 images."
    assert str(caught.value) == told
    loaded = runs.load(dataclasses.replace(config, num_images=6))
    assert (loaded.half, len(loaded.dataset.test)) == ("report", 6)


def test_a_large_split_is_attacked_as_far_as_usual(tmp_path, scene):
    large = dataclasses.replace(scene.dataset, test=scene.dataset.test[np.arange(150) % 12])
    config = FakeConfig(method="magic", workdir=str(tmp_path))
    assert scene._replace(dataset=large).num_images(config) == 100


def test_a_run_is_done_once_and_again_when_it_is_asked_for(tmp_path, scene):
    config = config_in(tmp_path)
    attack = Attack(scene, config)
    first = run(scene, config, attack)
    assert run(scene, config, attack) == first
    assert attack.calls == 1
    again = run(scene, dataclasses.replace(config, rerun=True), attack)
    assert attack.calls == again["more"] == 2
    assert again["path"] == first["path"]


def test_a_run_whose_images_are_damaged_is_done_again(tmp_path, scene, capsys):
    config = config_in(tmp_path)
    attack = Attack(scene, config)
    images = Path(run(scene, config, attack)["path"]).with_name(records.IMAGES_NAME)
    whole = images.read_bytes()
    images.write_bytes(whole[: len(whole) // 2])
    assert run(scene, config, attack)["more"] == 2
    assert images.with_name("images.npz.corrupt-1").stat().st_size == len(whole) // 2
    assert str(images) in capsys.readouterr().err
    assert run(scene, config, attack)["more"] == 2


def test_a_record_or_images_of_another_run_are_not_taken(tmp_path, scene, capsys):
    """As where somebody copied files between folders."""
    config = config_in(tmp_path)
    attack = Attack(scene, config)
    first = Path(run(scene, config, attack)["path"])
    second = Path(run(scene, config, attack, cut="conv1")["path"])
    second.write_bytes(first.read_bytes())
    assert run(scene, config, attack, cut="conv1")["split"] == "conv1"
    assert attack.calls == 3 and second.with_name("record.json.other-1").is_file()
    images = second.with_name(records.IMAGES_NAME)
    with np.load(images) as found:
        others = {name: 1 - array for name, array in found.items()}
    np.savez(images, **others)
    run(scene, config, attack, cut="conv1")
    assert attack.calls == 4 and images.with_name("images.npz.other-1").is_file()
    assert len(capsys.readouterr().err.splitlines()) == 2
    run(scene, config, attack, cut="conv1")
    assert attack.calls == 4


def test_of_several_that_want_a_run_one_does_it(tmp_path, scene, capsys):
    config = config_in(tmp_path)
    attack = Attack(scene, config)
    begun = threading.Barrier(3)

    def slow():
        time.sleep(0.2)
        return attack()

    def want(_):
        begun.wait()
        return run(scene, config, slow)

    with ThreadPoolExecutor(3) as pool:  # the lock is one between open files
        found = list(pool.map(want, range(3)))
    assert attack.calls == 1
    assert found[0] == found[1] == found[2]
    assert "Waiting for another process" in capsys.readouterr().err


def test_a_sweep_is_told_of_records_that_are_made_or_read(tmp_path, scene, monkeypatch):
    config = config_in(tmp_path)
    listing = tmp_path / "listing"
    attack = Attack(scene, config)
    first = run(scene, config, attack)["path"]
    monkeypatch.setenv("JAXINV_RECORDS", str(listing))
    second = run(scene, config, attack, cut="conv1")["path"]
    assert run(scene, config, attack)["path"] == first
    assert [json.loads(line) for line in listing.read_text("utf-8").splitlines()] == [second, first]


def test_a_record_has_what_every_attack_has(tmp_path, scene):
    config = config_in(tmp_path)
    record = run(scene, config, Attack(scene, config))
    assert record.keys() >= fake_runs.KEYS
    assert record["psnr_mean"] == 100
    assert record["exact_fraction"] == 1
    assert record["images_per_s"] == pytest.approx(5 / 3)
    assert (record["fit_s"], record["compile_s"], record["attack_s"]) == (1, 2, 3)
    assert record["accuracy"] == 0.5


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"num_images": 6}, {"method": "other"}, {"cut": "conv1"}, {"depth": 4}]
)
def test_what_decides_a_run_names_it(tmp_path, scene, change):
    change = dict(change)
    cut, depth = change.pop("cut", "relu2"), change.pop("depth", 3)
    config = config_in(tmp_path)
    first = run(scene, config, Attack(scene, config))
    config = dataclasses.replace(config, **change)
    other = run(scene, config, Attack(scene, config), cut=cut, identity={"depth": depth})
    assert other["path"] != first["path"]
    assert other["config_hash"] != first["config_hash"]


def test_a_defended_run_is_another_one(tmp_path, scene):
    config = config_in(tmp_path)
    asked = [
        {},
        {"method": "adaptive"},
        {"releases": 4},
        {"defense": DROPOUT.at("feature", 0.5)},
        {"defense": DROPOUT.at("input", 0.5)},
        {"defense": DROPOUT.at("feature", 0.6)},
    ]
    records = [run(scene, config, Attack(scene, config), **options) for options in asked]
    assert len({record["path"] for record in records}) == len(asked)
    assert [record["method"] for record in records] == ["magic", "adaptive"] + ["magic"] * 4
    assert [record["releases"] for record in records[1:3]] == [1, 4]
    assert records[0]["defense"] == {"kind": "none", "site": "feature", "level": 0.0}
    assert records[4]["defense"] == {"kind": "dropout", "site": "input", "level": 0.5}
    assert records[0]["accuracy_undefended"] == 0.5
    assert (records[0]["reid_top1"], records[0]["reid_gallery"]) == (1, 12)


def test_a_table_of_ones_own_and_no_picture(tmp_path, scene, capsys):
    config = config_in(tmp_path)
    attacks = [
        lambda cut=cut: run(scene, config, Attack(scene, config), cut=cut) for cut in scene.cuts
    ]
    table = ("what", lambda record: f"<{record['split']}>")
    runs.run_all("test", config, scene, attacks, table=table, grid=False)
    assert capsys.readouterr().out.splitlines()[1:] == ["what", "<conv1>", "<relu2>"]
    assert not list((tmp_path / "test").glob("*.png"))


def test_of_several_seeds_the_first_is_kept_and_all_are_measured(tmp_path, scene):
    config = config_in(tmp_path)
    attack = Attack(scene, config, seeds=3)
    attack.found[1] = 0
    attack.found[2] = np.nan
    record = run(scene, config, attack)
    assert len(record["psnr_by_seed"]) == 3
    assert record["psnr_by_seed"][0] == 100
    assert record["psnr_by_seed"][2] is None
    assert record["diverged"] == 5
    with np.load(record["path"].replace("record.json", "images.npz")) as images:
        np.testing.assert_array_equal(images["reconstructions"], images["originals"])


def test_every_cut_gets_a_line_and_several_a_picture(tmp_path, scene, capsys):
    config = config_in(tmp_path)
    attacks = [
        lambda cut=cut: run(scene, config, Attack(scene, config), cut=cut) for cut in scene.cuts
    ]
    finished = runs.run_all("test", config, scene, attacks)
    out = capsys.readouterr().out.splitlines()
    assert [record["split"] for record in finished] == ["conv1", "relu2"]
    assert out[2].startswith("conv1") and out[3].startswith("relu2")
    (picture,) = (tmp_path / "test").glob("grid-random-magic-*.png")
    assert str(picture) in out[4]


def test_64_bits_are_another_run(scene, tmp_path):
    config = config_in(tmp_path)
    folders = set()
    for mode in (False, True):
        with jax.enable_x64(mode):
            record = run(scene, config, Attack(scene, config))
        assert record["numerics"]["x64"] == mode
        assert record["config"].get("x64", False) == mode
        folders.add(record["path"])
    assert len(folders) == 2
