"""The convergence experiment: what its watcher sees, and the script from end to end."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
from PIL import Image

from jaxinv.attacks.inversion.loop import Snapshot
from jaxinv.attacks.whitebox import rmle
from jaxinv.attacks.whitebox.settings import RmleSettings
from jaxinv.attacks.whitebox.stage import Stage
from jaxinv.errors import UsageError
from jaxinv.measures import quality
from jaxinv.networks import lenet5
from jaxinv.store import checkpoints, records
from jaxinv.store.record import ConvergenceRecord
from jaxinv.studies import convergence
from jaxinv.studies.convergence import watcher as watching

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPT = ROOT / "experiments" / "convergence.py"


@pytest.fixture(scope="module")
def edge():
    return lenet5().split("conv1")[0]


@pytest.fixture(scope="module")
def params():
    """Random ones, made by NumPy: that JAX makes them takes seconds of compiling."""
    shapes = jax.eval_shape(lenet5().init, jax.random.key(0))
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: rng.normal(0, 0.1, leaf.shape).astype(np.float32), shapes)


def originals_of(count):
    return np.random.default_rng(0).random((count, 28, 28, 1), np.float32)


def watcher_of(edge, params, count):
    images = originals_of(count)
    features = np.asarray(edge.apply(params, images))
    return watching.Watcher(images, features, edge, params), images


def snapshot(images, indices, steps, seconds, error):
    """Reconstructions that are off by `error` at every pixel: PSNR is -20 log10(error)."""
    rows = np.maximum(indices, 0)
    x = images[rows] + np.reshape(np.float32(error), (-1, 1, 1, 1)) * (1 - 2 * (images[rows] > 0.5))
    return Snapshot(np.array(indices), np.array(steps), x.astype(np.float32), seconds)


def test_the_misfit_is_the_error_of_the_features_over_the_features(edge, params):
    rng = np.random.default_rng(1)
    x, observed = originals_of(2), rng.normal(size=(2, *edge.output_shape)).astype(np.float32)
    features = np.asarray(edge.apply(params, x), np.float64)
    expected = [
        np.sum((made - seen) ** 2) / np.sum(seen.astype(np.float64) ** 2)
        for made, seen in zip(features, observed, strict=True)
    ]
    found = watching.relative_misfit(edge, params, x, observed)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_misfit_of_features_that_are_all_zero_is_finite(edge, params):
    observed = np.zeros((2, *edge.output_shape), np.float32)
    assert np.isfinite(watching.relative_misfit(edge, params, originals_of(2), observed)).all()


def test_curves_are_statistics_over_the_images(edge, params):
    watcher, images = watcher_of(edge, params, 2)
    errors = np.array([[0.4, 0.1], [0.2, 0.01]])
    for steps, seconds, error in [(1, 0.4, errors[0]), (4, 1.0, errors[1])]:
        watcher(0, snapshot(images, [0, 1], [steps] * 2, seconds, error))
    curves = watcher.curves()
    psnr = -20 * np.log10(errors)
    assert curves["steps"].tolist() == [1, 4]
    np.testing.assert_allclose(curves["seconds"], [0.2, 0.5])
    np.testing.assert_allclose(curves["psnr_mean"], psnr.mean(axis=1), rtol=1e-4)
    np.testing.assert_allclose(curves["psnr_low"], np.percentile(psnr, 25, axis=1), rtol=1e-4)
    np.testing.assert_allclose(curves["psnr_high"], np.percentile(psnr, 75, axis=1), rtol=1e-4)
    last = snapshot(images, [0, 1], [4] * 2, 1.0, errors[1]).x
    features = np.asarray(edge.apply(params, images))
    misfit = watching.relative_misfit(edge, params, last, features)
    assert curves["misfit_median"][-1] == pytest.approx(np.median(misfit), rel=1e-5)
    assert curves["misfit_low"][-1] == pytest.approx(np.percentile(misfit, 25), rel=1e-5)
    assert curves["misfit_high"][-1] == pytest.approx(np.percentile(misfit, 75), rel=1e-5)
    assert curves["ssim_mean"][-1] == pytest.approx(quality.evaluate(images, last).ssim.mean())
    assert curves["stage_steps"] == curves["stage_seconds"] == []


def test_an_image_that_ends_early_keeps_its_last_value(edge, params):
    watcher, images = watcher_of(edge, params, 2)
    watcher(0, snapshot(images, [0, 1], [2, 2], 1.0, [0.1, 0.1]))
    # The idle place holds something that must not count.
    watcher(0, snapshot(images, [0, -1], [6, 2], 3.0, [0.01, 0.4]))
    curves = watcher.curves()
    assert curves["steps"].tolist() == [2, 6]
    np.testing.assert_allclose(curves["psnr_mean"], [20, 30], rtol=1e-4)
    np.testing.assert_allclose(curves["seconds"], [0.5, (1.5 + 0.5) / 2])


def test_images_of_the_next_chunk_count_from_their_own_beginning(edge, params):
    watcher, images = watcher_of(edge, params, 4)
    for indices, began in [([0, 1], 0.0), ([2, 3], 3.0)]:
        for steps, seconds, error in [(1, 1.0, 0.1), (4, 3.0, 0.01)]:
            watcher(0, snapshot(images, indices, [steps] * 2, began + seconds, [error] * 2))
    curves = watcher.curves()
    assert curves["steps"].tolist() == [1, 4]
    np.testing.assert_allclose(curves["psnr_mean"], [20, 40], rtol=1e-4)
    np.testing.assert_allclose(curves["seconds"], [0.5, 1.5])


def test_curves_begin_where_every_image_was_seen(edge, params):
    watcher, images = watcher_of(edge, params, 2)
    for index, steps, seconds, error in [
        (0, 1, 2.0, 0.1),
        (0, 3, 6.0, 0.1),
        (0, 5, 10.0, 0.01),
        (1, 2, 14.0, 0.1),
        (1, 5, 20.0, 0.01),
    ]:
        watcher(0, snapshot(images, [index, -1], [steps, 9], seconds, [error, 0.5]))
    curves = watcher.curves()
    assert curves["steps"].tolist() == [3, 5]
    # At 3 steps image 1 is a third of its way from 20 to 40 dB, and from 2 to 5 seconds.
    np.testing.assert_allclose(curves["psnr_mean"], [(20 + 20 + 20 / 3) / 2, 40], rtol=1e-4)
    np.testing.assert_allclose(curves["seconds"], [3, 5])


def test_diverged_images_are_in_no_statistic(edge, params):
    watcher, images = watcher_of(edge, params, 2)
    watcher(0, snapshot(images, [0, 1], [1, 1], 1.0, [0.1, 0.01]))
    watcher(0, snapshot(images, [0, 1], [2, 2], 2.0, [0.1, np.nan]))
    curves = watcher.curves()
    np.testing.assert_allclose(curves["psnr_mean"], [30, 20], rtol=1e-4)
    assert np.isfinite(curves["misfit_median"]).all()


def test_images_that_all_diverge_leave_no_curve(edge, params):
    watcher, images = watcher_of(edge, params, 2)
    watcher(0, snapshot(images, [0, 1], [1, 1], 1.0, [np.nan, np.inf]))
    assert np.isnan(watcher.curves()["psnr_mean"]).all()


def test_later_stages_carry_on_steps_and_seconds(edge, params):
    watcher, images = watcher_of(edge, params, 2)
    watcher.spend(0.2)
    watcher(0, snapshot(images, [0, 1], [3, 3], 1.0, [0.1, 0.1]))
    watcher.spend(0.4)
    watcher(1, snapshot(images, [0, 1], [1, 1], 1.0, [0.01, 0.01]))
    watcher(1, snapshot(images, [0, 1], [2, 2], 2.0, [0.01, 0.01]))
    curves = watcher.curves()
    assert curves["steps"].tolist() == [3, 4, 5]
    np.testing.assert_allclose(curves["seconds"], [0.6, 1.3, 1.8])
    assert curves["stage_steps"] == [3]
    np.testing.assert_allclose(curves["stage_seconds"], [0.6])


def test_an_attack_in_stages_is_followed_to_what_it_returns(edge, params):
    images = originals_of(5)
    features = np.asarray(edge.apply(params, images))
    settings = RmleSettings("adam", 6, learning_rate=0.05)

    def slow_start(features, found):
        time.sleep(0.02)
        return np.full((len(features), 28, 28, 1), 0.3, np.float32) if found is None else found

    stages = [Stage(settings, estimate=slow_start) for _ in range(2)]
    watcher = watching.Watcher(images, features, edge, params)
    timed = [convergence._timed(stage, watcher.spend) for stage in stages]
    found = rmle.invert(edge, params, features, timed, chunk=2, watch=watcher, watch_every=2)
    plain = rmle.invert(edge, params, features, stages, chunk=2)
    np.testing.assert_array_equal(found.images, plain.images)
    curves = watcher.curves()
    measured = quality.evaluate(images, found.images)
    assert curves["steps"][-1] == 12
    assert curves["stage_steps"] == [6]
    assert curves["psnr_mean"][-1] == pytest.approx(measured.psnr.mean(), rel=1e-5)
    assert (np.diff(curves["seconds"]) > 0).all()
    # Each estimate is counted once, though it ran twice.
    assert 2 * 0.02 / 5 < curves["seconds"][-1] < found.seconds
    assert convergence._timed(Stage(settings), watcher.spend) == Stage(settings)


def test_methods_keep_their_order_and_are_taken_once():
    assert convergence.resolve_methods(["TV", " paper", "tv"]) == ("tv", "paper")
    for names, word in [(["magic"], "method=magic: .*paper, tv, map, hybrid"), ([], "method=: ")]:
        with pytest.raises(UsageError, match=word):
            convergence.resolve_methods(names)


FLAGS = ("--dataset=mnist_5k", "--checkpoint=target", "--num_images=2", "--steps=7")


def run_script(folder, *options):
    env = {k: v for k, v in os.environ.items() if k not in ("TFDS_DATA_DIR", "XDG_CACHE_HOME")}
    env |= {"HOME": str(folder), "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, str(SCRIPT), *FLAGS, *options],
        cwd=folder,
        env=env,
        text=True,
        capture_output=True,
        timeout=600,
    )


def config_in(folder, **changes):
    """Settings that `run_script` runs there without other flags, for this process."""
    return convergence.ConvergenceConfig(
        **{
            "method": ("tv", "paper"),
            "split": ("conv1",),
            "steps": 7,
            "dataset": "mnist_5k",
            "workdir": str(folder / "results"),
            "checkpoint": str(folder / "target"),
            "num_images": 2,
            **changes,
        }
    )


class First(NamedTuple):
    done: subprocess.CompletedProcess
    path: Path
    folder: Path


@pytest.fixture(scope="module")
def first(tmp_path_factory, params):
    """A first run, on a target that was never trained."""
    folder = tmp_path_factory.mktemp("convergence")
    checkpoints.save(folder / "target", params, metadata={"dataset": "mnist_5k"})
    done = run_script(folder, "--split=conv1", "--method=tv,paper")
    assert done.returncode == 0, done.stderr
    return First(done, folder / done.stdout.splitlines()[-1], folder)


@pytest.mark.slow
def test_the_script_leaves_a_record_and_a_picture(first):
    record = json.loads(first.path.read_text("utf-8"))
    found = records.read(first.path.parent)
    assert isinstance(found, ConvergenceRecord) and found.fields == record
    assert record["cut"] == "conv1"
    assert list(record["curves"]) == record["methods"] == ["tv", "paper"]
    for method, curves in record["curves"].items():
        attack = record["attacks"][method]
        assert (curves["steps"][0], curves["steps"][-1]) == (1, 7)
        assert attack["stages"][0]["steps"] == 7
        assert curves["psnr_mean"][-1] == pytest.approx(attack["psnr_mean"], rel=1e-4)
        assert curves["misfit_median"][-1] < curves["misfit_median"][0]
    with Image.open(first.path.with_name("convergence.png")) as picture:
        assert picture.format == "PNG"


def test_the_script_prints_a_line_for_each_method_and_the_path_last(first):
    lines = first.done.stdout.splitlines()
    assert [line.split()[:2] for line in lines[-3:-1]] == [["conv1", "tv"], ["conv1", "paper"]]
    assert first.path.name == "record.json"
    assert first.done.stderr == ""


def test_the_same_command_reads_what_is_finished_and_draws_what_is_missing(first):
    before = first.path.stat().st_mtime_ns
    picture = first.path.with_name("convergence.png")
    picture.unlink()
    (record,) = convergence.run(config_in(first.folder))
    assert Path(record["path"]) == first.path
    assert first.path.stat().st_mtime_ns == before
    assert picture.is_file()
    (record,) = convergence.run(config_in(first.folder, rerun=True))
    assert Path(record["path"]) == first.path
    assert first.path.stat().st_mtime_ns != before


def test_each_split_is_a_run_of_its_own(first, capsys):
    config = config_in(first.folder, split=("relu1", "Conv1"), method=("tv",))
    found = convergence.run(config)
    assert [record["cut"] for record in found] == ["relu1", "conv1"]
    assert len({first.path, *(Path(record["path"]) for record in found)}) == 3
    rows = [line.split()[:2] for line in capsys.readouterr().out.splitlines()[-2:]]
    assert rows == [["relu1", "tv"], ["conv1", "tv"]]
