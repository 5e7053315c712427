"""Timed work, its count, and the script from end to end."""

import dataclasses
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxinv.attacks.whitebox import stage as stages
from jaxinv.attacks.whitebox.settings import RmleSettings, paper_settings
from jaxinv.attacks.whitebox.stage import Stage
from jaxinv.errors import UsageError, UserError
from jaxinv.inputs import data
from jaxinv.look.charts import style, throughput
from jaxinv.networks import lenet5
from jaxinv.studies import speed
from jaxinv.studies.benchmark import flops, reference, timing
from jaxinv.studies.benchmark.attacks import attack_work
from jaxinv.studies.benchmark.work import Timing, Work
from jaxinv.studies.benchmark.works import works
from jaxinv.training import targets
from jaxinv.training.targets import Target

# Multiplications and additions from the image to relu2, by hand: 24 x 24 outputs of 5 x 5 taps and
# 8 filters, then 8 x 8 outputs of 5 x 5 x 8 and 16 filters.
RELU2_FLOPS = 2 * (24 * 24 * 25 * 8 + 8 * 8 * 25 * 8 * 16)


@pytest.fixture(scope="module")
def params():
    """Random ones, made by NumPy: that JAX makes them takes seconds of compiling."""
    shapes = jax.eval_shape(lenet5().init, jax.random.key(0))
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: rng.normal(0, 0.1, leaf.shape).astype(np.float32), shapes)


def problem_of(params, settings, cut="relu2", count=3):
    edge, _ = lenet5().split(cut)
    features = np.random.default_rng(0).random((count, *edge.output_shape), np.float32)
    weights = np.broadcast_to(settings.weights, (count, 2, 2))
    return stages.problem_of(edge, params, features, Stage(settings), None, weights)


# --- FLOPs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "devices", "available", "found"),
    [
        (None, 1, 5000, [1, 10, 100]),
        (None, 1, 60, [1, 10, 60]),
        (None, 2, 7, [1, 3]),
        ([5], 1, 5, [5]),
        ([100], 1, 60, None),
        (None, 8, 7, None),
    ],
)
def test_usual_batches_are_those_that_a_test_split_fills(asked, devices, available, found):
    if found is None:
        with pytest.raises(UsageError, match=f"^batch=100: .* has {available} images.$"):
            speed._batches(asked, devices, available)
        return
    assert speed._batches(asked, devices, available) == found
    assert f"has {available} images" in speed._fewer(found, devices, available)


def test_products_are_counted_as_often_as_loops_run():
    a, b = np.zeros((3, 5), np.float32), np.zeros((5, 5), np.float32)

    def five_times(a, b):
        return jax.lax.fori_loop(0, 5, lambda _, a: a @ b, a)

    def unknown(a, b):
        return jax.lax.while_loop(lambda a: a.sum() < 1, lambda a: jax.jit(jnp.dot)(a, b), a)

    def either(a, b):
        return jax.lax.cond(a.sum() > 0, lambda: a @ b, lambda: (a @ b) @ b)

    once = 2 * 3 * 5 * 5
    assert flops.matrix_flops(lambda a, b: jnp.sin(a + 1) @ b, a, b) == once
    assert flops.matrix_flops(five_times, a, b) == 5 * once
    assert flops.matrix_flops(unknown, a, b) == once
    assert flops.matrix_flops(either, a, b) == 2 * once
    assert flops.matrix_flops(jnp.add, a, a) == 0


def test_an_image_iteration_is_counted_as_by_hand(params):
    edge, _ = lenet5().split("relu2")
    forward = flops.matrix_flops(edge.apply, params, np.zeros((1, 28, 28, 1), np.float32))
    assert forward == RELU2_FLOPS
    # The features and their gradient in the pixels, whatever form computes them here.
    settings = paper_settings(lenet5(), "relu2")
    assert flops.step_flops(problem_of(params, settings)) == 2 * RELU2_FLOPS

    def levenberg(cg_steps):
        settings = RmleSettings("lm", 20, cg_steps=cg_steps, hinge=False)
        return flops.step_flops(problem_of(params, settings))

    # A step of conjugate gradients takes a product with the Jacobian and one with its transpose.
    assert levenberg(5) - levenberg(2) == 3 * 2 * RELU2_FLOPS


def test_the_peak_is_the_best_of_what_was_tried():
    peak = flops.MatrixPeak(1, size=256)
    first = peak.flops_per_s
    assert set(first) == {"exact", "rounded"} and min(first.values()) > 1e7
    for _ in range(5):
        peak.measure()
    assert all(peak.flops_per_s[name] >= rate for name, rate in first.items())


# --- What is timed --------------------------------------------------------------------------------


def test_an_attack_is_counted_in_image_iterations(params):
    edge, _ = lenet5().split("conv1")
    features = np.random.default_rng(0).random((6, *edge.output_shape), np.float32)
    stage = Stage(paper_settings(lenet5(), "conv1"))
    work = attack_work("paper", edge, params, features, stage, split="conv1", chunk=4, steps=7)
    run = work.run()
    assert run.image_iterations == 6 * 7 and run.seconds > 0
    assert work.images == 6 and work.whole == 5000 / 7
    assert work.compile_seconds > 0
    # Two moments, their maximum, the image and the features, at least.
    assert work.memory_bytes > 4 * 4 * (4 * 28 * 28 + 24 * 24 * 8)


def test_a_training_and_what_it_learned_are_timed(params):
    dataset = data.load("mnist_5k", announce=lambda line: None)
    dataset = dataclasses.replace(dataset, attacker=dataset.attacker[:64])
    target = Target("lenet5", lenet5(), params, "random", "", {})
    fit, answer = works(
        "decoder",
        target,
        dataset,
        "fc2",
        batches=[3],
        counts=[1],
        steps=4,
        key=jax.random.key(0),
    )
    assert (fit.phase, fit.batch, fit.images) == ("fit", 32, 0)
    assert fit.run().image_iterations == 4 * 32
    assert (answer.phase, answer.batch, answer.images) == ("attack", 3, 3)
    assert answer.run().image_iterations == 3
    # Forward and backward through the network, and the edge's answer.
    edge, _ = lenet5().split("fc2")
    asked = flops.matrix_flops(edge.apply, params, np.zeros((1, 28, 28, 1), np.float32))
    assert 2 * answer.flops + asked < fit.flops < 3 * answer.flops + asked


class FixedPeak:
    flops_per_s = {"exact": 1000.0, "rounded": 2000.0}  # noqa: RUF012

    def __init__(self, log):
        self.log = log

    def measure(self):
        self.log.append("peak")


def test_everything_is_timed_in_turn_and_medians_are_reported():
    log = []

    def work(name, phase, seconds):
        # The first run does not count.
        durations = itertools.chain([100.0], seconds)

        def run():
            log.append(name)
            return Timing(60, next(durations))

        images = 3 if phase == "attack" else 0
        return Work(name, "relu2", phase, 3, 1, run, images, 5.0, 0.25, 20.0, 512)

    jobs = [work("a", "attack", [2.0, 6.0, 3.0]), work("b", "fit", [1.0, 1.0, 1.0])]
    a, b = timing.measure(jobs, {1: FixedPeak(log)}, repeats=3)
    assert log == ["a", "b", *["peak", "a", "b"] * 3]
    assert a == {
        "method": "a",
        "split": "relu2",
        "phase": "attack",
        "batch": 3,
        "devices": 1,
        "compile_s": 0.25,
        "run_s": 3.0,
        "image_iterations": 60,
        "image_iterations_per_s": 20.0,
        "image_iterations_per_s_low": 10.0,
        "image_iterations_per_s_high": 30.0,
        "images_per_s": 3 / (3.0 * 5),  # in five times as many steps
        "flops_per_image_iteration": 20.0,
        "flops_per_s": 400.0,
        "peak_fraction": 0.4,
        "memory_bytes": 512,
    }
    assert b["images_per_s"] is None
    assert b["peak_fraction"] == 60 * 20 / 2000  # a training is rounded


def test_programs_of_earlier_processes_are_set_aside():
    before = jax.config.jax_compilation_cache_dir
    with timing.compiled_anew():
        assert jax.config.jax_compilation_cache_dir != before
    assert jax.config.jax_compilation_cache_dir == before


# --- Another program ------------------------------------------------------------------------------


def test_a_command_is_filled_in_with_words_of_the_shell():
    command = "run {images} {steps} ${HOME} {split} {other}"
    filled = reference.fill(command, images=3, steps=7, split="a b")
    assert filled == "run 3 7 ${HOME} 'a b' {other}"


def test_the_last_line_of_a_reference_is_its_seconds():
    assert reference.run_reference("echo warming up; echo 1.5e-1") == 0.15


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("exit 3", "status 3"),
        ("true", "''"),
        ("echo fast", "'fast'"),
        ("echo 0", "'0'"),
        ("echo nan", "'nan'"),
    ],
)
def test_a_reference_that_tells_no_seconds_is_refused(command, message):
    with pytest.raises(UserError, match=f"reference={command}: .*{message}"):
        reference.run_reference(command)


# --- The picture ----------------------------------------------------------------------------------


def rows_of(counts, batches=(1, 10)):
    return [
        {
            "split": split,
            "method": method,
            "phase": phase,
            "batch": batch,
            "devices": count,
            "image_iterations_per_s": 100.0 * batch * count,
            "image_iterations_per_s_low": 90.0 * batch * count,
            "image_iterations_per_s_high": 120.0 * batch * count,
        }
        for split in ("conv1", "relu2")
        for method, phase in (("paper", "attack"), ("inverse", "fit"))
        for batch in batches
        for count in counts
    ]


def test_devices_have_a_panel_if_they_were_measured(tmp_path):
    alone, both = (throughput.figure(rows_of(counts), title="$a$") for counts in ((1,), (1, 2)))
    assert [len(figure.panels) for figure in (alone, both)] == [1, 2]
    assert [key.label for key in both.legend] == ["conv1", "relu2", "paper"]
    for panel, along in enumerate(("batch", "devices")):
        spec = both.panels[panel].chart.to_dict()
        line = next(layer for layer in reversed(spec["layer"]) if layer["mark"]["type"] == "line")
        drawn = spec["datasets"][line.get("data", spec.get("data"))["name"]]
        kept = {"batch": ("devices", 1), "devices": ("batch", max((1, 10)))}[along]
        assert {
            (row["series"], row["x"], row["y"], row["y_low"], row["y_high"]) for row in drawn
        } == {
            (
                f"{row['split']}, {row['method']}",
                row[along],
                *(row[f"image_iterations_per_s{end}"] for end in ("", "_low", "_high")),
            )
            for row in rows_of((1, 2))
            if row["phase"] == "attack" and row[kept[0]] == kept[1]
        }
    style.save(tmp_path / "point.png", throughput.figure(rows_of((1,), (4,))))
    with Image.open(tmp_path / "point.png") as image:
        assert image.format == "PNG"
    with pytest.raises(ValueError, match="attack"):
        throughput.figure([row for row in rows_of((1,)) if row["phase"] == "fit"])


# --- The script -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"method": ("paper", "slow")}, "method=slow: expected some of paper, tv"),
        ({"method": ()}, "method=: expected"),
        ({"batch": (10, 0)}, "batch=0: expected positive numbers"),
        ({"batch": ()}, "batch=0: expected"),
        ({"devices": (-1,)}, "devices=-1: expected"),
        ({"devices": (999,)}, "devices=999: there "),
        ({"devices": (999,), "dataset": "nowhere"}, "devices=999: there "),
        ({"reference": "true", "method": ("inverse", "paper")}, "reference=true: .* inverse"),
        ({"split": ("conv9",), "dataset": "mnist_5k"}, "conv9"),
        ({"batch": (1001,), "dataset": "mnist_5k"}, "batch=1001: .* 1000 images"),
    ],
)
def test_a_wrong_flag_is_one_line(flags, message, tmp_path, monkeypatch):
    target = Target("lenet5", lenet5(), {}, "none", "", {})
    monkeypatch.setattr(targets, "find", lambda *args, **options: target)
    monkeypatch.setattr(targets, "test_accuracy", lambda *args: 0.9)
    with pytest.raises(UsageError, match=message) as caught:
        speed.run(speed.BenchmarkConfig(**flags, workdir=str(tmp_path)))
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_script_times_ours_and_another_program(scripts, few, tmp_path):
    calls = tmp_path / "calls"
    path = scripts.record_of(
        "benchmark",
        *few[:2],
        "--split=Conv1",
        "--method=paper",
        "--batch=3",
        "--devices=2,1",
        "--steps=4",
        "--repeat=2",
        f"--reference=echo {{dataset}} {{split}} {{images}} {{steps}} >> {calls}; echo 2",
        cwd=tmp_path,
        own_process=True,  # with two devices
    )
    record = json.loads(path.read_text("utf-8"))
    assert record["experiment"] == "benchmark" and record["splits"] == ["conv1"]
    assert [(row["devices"], row["batch"], row["image_iterations"]) for row in record["rows"]] == [
        (1, 3, 12),
        (2, 3, 24),
    ]
    for row in record["rows"]:
        assert row["compile_s"] > 0 and row["images_per_s"] > 0 and row["memory_bytes"] > 0
        assert 0 < row["peak_fraction"] < 1.1
    assert [peak["devices"] for peak in record["peak"]] == [1, 2]
    assert record["device_peak_bytes"] == [None, None] and record["host_peak_bytes"] > 2**20
    assert calls.read_text("utf-8") == "mnist conv1 3 4\n" * 2
    (compared,) = record["reference"]
    assert compared["reference_s"] == 2.0
    assert compared["times_as_fast_low"] <= compared["times_as_fast"]
    assert compared["times_as_fast"] == pytest.approx(2 / compared["seconds"], rel=0.5)
    with Image.open(path.with_name("benchmark.png")) as image:
        assert image.format == "PNG"
