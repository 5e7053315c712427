"""Experiments on TensorBoard: figures, curves and reconstructions of finished runs."""

import importlib.util

import events
import numpy as np
import pytest
from PIL import Image
from scripts import outcome

from jaxinv.machine import tracking
from jaxinv.studies import cli, experiment, tracked
from jaxinv.studies.config import AttackConfig
from jaxinv.studies.experiment import Experiment


def record(folder, **fields):
    return {"path": str(folder / "record.json"), "experiment": "fake", "kind": "attack", **fields}


def test_a_run_shows_its_figures_and_reconstructions(tmp_path):
    folder = tmp_path / "fake" / "some-run"
    folder.mkdir(parents=True)
    picture = np.full((4, 6, 3), 7, np.uint8)
    Image.fromarray(picture).save(folder / "grid.png")
    with tracking.writing_to(tmp_path / "board"):
        tracked.tell(record(folder, psnr_mean=20.5, ssim_mean=None, psnr=[20.5], num_images=1))
    ((name, found),) = events.read(tmp_path / "board").items()
    assert name == "fake/some-run" and found["psnr_mean"] == [(1, 20.5)]
    ((_, seen),) = found["reconstructions"]
    np.testing.assert_array_equal(seen, picture)
    assert found.keys() == {"psnr_mean", "reconstructions"}


def test_a_study_of_convergence_shows_the_way_of_each_method(tmp_path):
    way = {"psnr_mean": [5.0, 9.0], "ssim_mean": [0.25, None], "misfit_median": [1.0, 0.5]}
    way["steps"] = [1, 30]
    with tracking.writing_to(tmp_path):
        tracked.tell(record(tmp_path / "run", curves={"tv": way}))
    assert events.read(tmp_path) == {
        "fake/run/tv": {
            "psnr_mean": [(1, 5.0), (30, 9.0)],
            "ssim_mean": [(1, 0.25)],
            "misfit_median": [(1, 1.0), (30, 0.5)],
        }
    }


def test_the_flag_says_where(tmp_path, monkeypatch):
    def run(config):
        with tracking.track("told") as track:
            track.add({"loss": 0.5}, 3)
        return []

    monkeypatch.setattr(cli, "use_compilation_cache", lambda: None)
    fake = Experiment("fake", AttackConfig, run, "Fake.")
    cli.run(fake, [f"--tensorboard={tmp_path / 'board'}"], "fake.py")
    assert events.read(tmp_path / "board") == {"told": {"loss": [(3, 0.5)]}}


@pytest.mark.parametrize("name", ["whitebox", "defenses", "partition", "train_target"])
def test_what_cannot_be_written_is_refused_before_anything_begins(name, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    status, said = outcome(name, [f"--tensorboard={tmp_path / 'file'}"])
    assert status == 1 and "--tensorboard=" in said and said.count("\n") == 1
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    status, said = outcome(name, [f"--tensorboard={tmp_path}", f"--workdir={tmp_path / 'work'}"])
    assert status == 1 and "install jaxinv[tensorboard]" in said and said.count("\n") == 1
    assert not (tmp_path / "work").exists()


def test_a_folder_for_tensorboard_is_of_this_machine():
    found = experiment.find("whitebox")
    assert experiment.spelled(found.Config(tensorboard="x")) == {}
