"""The scripts from end to end, as a user runs them: in processes of their own, without a network
and without prepared data."""

import itertools
import json
import subprocess
from pathlib import Path
from typing import NamedTuple

import fake_runs
import jax
import numpy as np
import pytest
from PIL import Image

from jaxinv.inputs import decode as _decode
from jaxinv.networks import lenet5
from jaxinv.store import checkpoints

ROOT = Path(__file__).resolve().parent.parent.parent
FLAGS = ("--dataset=mnist_5k", "--num_images=8")
# The default method learns at every cut, which takes its time.
FAST = (*FLAGS, "--method=tv", "--steps=50")


class First(NamedTuple):
    done: subprocess.CompletedProcess
    path: Path
    checkpoint: Path


@pytest.fixture(scope="module")
def first(scripts):
    """The first run in an empty folder: it trains the target, too."""
    done = scripts.run("whitebox", "--split=conv1", *FLAGS)
    assert done.returncode == 0, done.stderr
    path = scripts.folder / done.stdout.splitlines()[-1]
    (checkpoint,) = scripts.folder.glob("results/train_target/*/target.safetensors")
    return First(done, path, checkpoint)


def test_a_run_leaves_a_record_images_and_a_grid(first):
    assert first.path.name == "record.json"
    record = json.loads(first.path.read_text("utf-8"))
    assert record.keys() >= fake_runs.KEYS
    assert record["dataset"] == "mnist_5k"
    assert record["num_images"] == len(record["psnr"]) == len(record["ssim"]) == 8
    assert record["psnr_mean"] == pytest.approx(np.mean(record["psnr"]), rel=1e-4)
    assert record["psnr_mean"] > 20
    assert record["method"] == "map"
    assert record["fit_s"] > 0
    assert "surrogate images" in record["attacker_knowledge"]
    assert record["surrogate"] == "attacker"
    assert len(record["stages"]) == len(record["held_out_psnr"]) == 1
    assert record["solver_results"]["converged"] == 8
    assert record["paper"] == {"psnr": 39.69, "ssim": 1.0}
    assert record["accuracy"] == record["accuracy_undefended"] > 0.9
    with np.load(first.path.with_name("images.npz")) as images:
        assert images["originals"].shape == images["reconstructions"].shape == (8, 28, 28, 1)
    with Image.open(first.path.with_name("grid.png")) as grid:
        assert grid.format == "PNG"


def test_a_run_says_that_it_trains_and_what_it_found(first):
    stdout, record = first.done.stdout, json.loads(first.path.read_text("utf-8"))
    assert "No trained target for mnist_5k yet (of seed 0)" in stdout
    assert f"{record['psnr_mean']:.2f}" in stdout
    assert first.done.stderr == ""


@pytest.mark.skipif(_decode.has_tensorflow(), reason="TensorFlow could download MNIST")
def test_the_embedded_digits_are_announced_on_the_first_line(scripts, first):
    done = scripts.here("whitebox", "--split=conv1", *FLAGS[1:], "--dataset=mnist")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("Using mnist_5k, 5,000 embedded MNIST digits")
    assert scripts.folder / lines[-1] == first.path


@pytest.mark.slow
def test_the_same_command_reads_what_is_finished(scripts, first):
    path = scripts.record_of("whitebox", "--split=conv1", *FAST)
    before = path.stat().st_mtime_ns
    assert scripts.record_of("whitebox", "--split=Conv1", *FAST) == path
    assert path.stat().st_mtime_ns == before
    assert scripts.record_of("whitebox", "--split=conv1", *FAST, "--rerun") == path
    assert path.stat().st_mtime_ns != before


@pytest.mark.slow
def test_a_run_without_its_images_is_done_again(scripts, first):
    images = scripts.record_of("whitebox", "--split=conv1", *FAST).with_name("images.npz")
    images.unlink()
    scripts.record_of("whitebox", "--split=conv1", *FAST)
    assert images.is_file()


@pytest.mark.slow
def test_other_settings_are_another_run(scripts, first):
    flags = ("--split=conv1", *FLAGS, "--steps=50", "--method=paper", "--tv_weight=0.5")
    path = scripts.record_of("whitebox", *flags)
    assert path != first.path
    record = json.loads(path.read_text("utf-8"))
    assert record["config"]["settings"]["tv_weight"] == 0.5
    assert record["config"]["settings"]["steps"] == 50
    assert record["surrogate"] == "none"
    assert record["fit_s"] == 0
    assert set(record["solver_steps"]) == {50}


@pytest.mark.slow
def test_hybrid_learns_once_and_tells_its_stages(scripts, few):
    flags = ("--split=conv2", *few, "--method=hybrid", "--steps=1", "--cg_steps=2")
    flags = (*flags, "--fit_steps=10")
    path = scripts.record_of("whitebox", *flags)
    record = json.loads(path.read_text("utf-8"))
    assert len(record["stages"]) == len(record["held_out_psnr"]) >= 1
    assert {(stage["steps"], stage["cg_steps"]) for stage in record["stages"]} == {(1, 2)}
    learned = scripts.folder / "results" / "learned"
    kept = {file: file.stat().st_mtime_ns for file in learned.iterdir()}
    (inverse_map,) = (file for file in kept if "inverse" in file.name)
    assert "conv2" in inverse_map.name
    again = json.loads(scripts.record_of("whitebox", *flags, "--rerun").read_text("utf-8"))
    assert {file: file.stat().st_mtime_ns for file in learned.iterdir()} == kept
    assert again["psnr"] == pytest.approx(record["psnr"], abs=0.05)
    # A black-box attacker would train the same inverse map.
    scripts.record_of("blackbox", "--split=conv2", *few, "--fit_steps=10")
    assert {file: file.stat().st_mtime_ns for file in learned.iterdir()} == kept


@pytest.mark.slow
def test_black_box_runs_keep_to_their_budgets_and_are_drawn(scripts, few):
    flags = ("--split=conv1,relu2", *few, "--num_queries=785,70", "--fit_steps=5")
    done = scripts.here("blackbox", *flags)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    folder = scripts.folder / "results" / "blackbox"
    written = {}
    for path in folder.glob("*-q*-n8-s0-*/record.json"):
        record = json.loads(path.read_text("utf-8"))
        assert record.keys() >= fake_runs.KEYS
        written[record["split"], record["num_queries"]] = record
    exact = written["conv1", 785]
    assert exact["queries"] == 785
    assert exact["way"] == "affine"
    assert exact["psnr_mean"] == 100
    for key in (("conv1", 70), ("relu2", 70), ("relu2", 785)):
        record = written[key]
        assert record["way"] == "inverse map"
        assert record["queries"] == key[1]
        assert record["fit_s"] > 0
        assert "queries" in record["attacker_knowledge"]
        assert record["surrogate"] == "attacker"
        assert record["held_out_psnr"] == pytest.approx(record["psnr_mean"], abs=4)
    assert written["relu2", 785]["paper"] == {"psnr": 20.81, "ssim": 0.8}
    assert written["relu2", 785]["psnr_mean"] > written["relu2", 70]["psnr_mean"]
    (picture,) = folder.glob("queries-*.png")
    with Image.open(picture) as image:
        assert image.format == "PNG"
    before = picture.stat().st_mtime_ns, finished(scripts.folder, "blackbox")
    scripts.record_of("blackbox", *flags)
    assert finished(scripts.folder, "blackbox") == before[1]


def test_the_authors_decoder_from_the_command_line(scripts, few):
    flags = ("--split=relu2", *few, "--method=paper", "--fit_steps=60", "--surrogate=same")
    record = json.loads(scripts.record_of("blackbox", *flags).read_text("utf-8"))
    assert record["way"] == "decoder"
    assert record["surrogate"] == "same"
    assert record["num_queries"] == record["queries"] == 600  # images of the target


@pytest.mark.slow
def test_query_free_runs_report_every_shadow(scripts, few):
    flags = ("--split=fc3", *few, "--num_shadows=2", "--shadow_steps=3", "--fit_steps=3")
    path = scripts.record_of("queryfree", *flags)
    record = json.loads(path.read_text("utf-8"))
    assert record.keys() >= fake_runs.KEYS
    assert "stream" in record["attacker_knowledge"]
    assert record["num_stream"] == 512  # test images that are not attacked
    assert not record["stream_is_attacked"]
    assert len(record["psnr_by_seed"]) == len(record["shadow_accuracy"]) == 2
    assert record["psnr_mean"] == pytest.approx(np.mean(record["psnr_by_seed"]), rel=1e-4)
    assert record["psnr_mean"] == pytest.approx(np.mean(record["psnr"]), rel=1e-4)
    assert record["psnr_seed_std"] >= 0
    assert len(record["joint"]["psnr"]) == 8
    with np.load(path.with_name("images.npz")) as images:
        assert images["reconstructions"].shape == (8, 28, 28, 1)
    before = path.stat().st_mtime_ns
    assert scripts.record_of("queryfree", *flags) == path
    assert path.stat().st_mtime_ns == before


@pytest.mark.slow
def test_the_authors_query_free_attack_from_the_command_line(scripts, few):
    flags = ("--split=conv1,fc1", *few, "--method=paper", "--num_shadows=1", "--shadow_steps=3")
    done = scripts.here("queryfree", *flags, "--surrogate=same")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    folder = scripts.folder / "results" / "queryfree"
    (path,) = folder.glob("*-conv1-paper-*/record.json")
    record = json.loads(path.read_text("utf-8"))
    assert record["paper"] == {"psnr": 17.86, "ssim": 0.64}
    assert record["surrogate"] == "same"
    assert "stream" not in record["attacker_knowledge"]
    assert record["psnr_seed_std"] is None
    (picture,) = folder.glob("splits-*.png")
    with Image.open(picture) as image:
        assert image.format == "PNG"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("experiment", "more"),
    [
        *(("whitebox", ()), ("blackbox", ()), ("queryfree", ())),
        ("blackbox", ("--num_queries=30,60",)),
    ],
)
def test_the_mean_image_at_several_cuts(scripts, few, experiment, more):
    done = scripts.here(experiment, "--split=conv1,fc1", *few, "--method=mean", *more)
    assert done.returncode == 0, done.stderr
    record = json.loads((scripts.folder / done.stdout.splitlines()[-1]).read_text("utf-8"))
    assert (record["split"], record["method"]) == ("fc1", "mean")
    assert record["psnr_mean"] > 0


class Study(NamedTuple):
    """Records and pictures that a study of defences left behind."""

    flags: tuple[str, ...]
    done: subprocess.CompletedProcess
    records: dict[tuple[str, float], dict]
    paths: dict[tuple[str, float], Path]


DEFENDED = ("--split=pool1", "--defense=dropout", "--level=0,.6", "--fit_steps=10")


@pytest.fixture(scope="module")
def study(scripts, few):
    """Two levels, and the attackers of the authors and of ours."""
    flags = (*DEFENDED, *few)
    done = scripts.here("defenses", *flags)
    assert done.returncode == 0, done.stderr
    written, paths = {}, {}
    for path in scripts.folder.glob("results/defenses/*-pool1-*/record.json"):
        record = json.loads(path.read_text("utf-8"))
        key = record["method"], record["defense"]["level"]
        written[key], paths[key] = record, path
    return Study(flags, done, written, paths)


@pytest.mark.slow
def test_a_study_of_defences_leaves_a_record_for_each_level_and_attacker(scripts, study):
    assert study.done.stderr == ""
    assert set(study.records) == {(m, level) for m in ("paper", "adaptive") for level in (0, 0.6)}
    for (method, level), record in study.records.items():
        assert record.keys() >= fake_runs.KEYS
        assert record["experiment"] == "defenses"
        assert record["defense"] == {"kind": "dropout", "site": "feature", "level": level}
        assert record["threat_model"] == "whitebox"
        assert (record["releases"], record["draws"], record["retrain"]) == (1, 2, "none")
        assert ("the defence and its level" in record["attacker_knowledge"]) == (
            method == "adaptive"
        )
        assert record["surrogate"] == ("attacker" if method == "adaptive" else "none")
        assert (record["fit_s"] > 0) == (method == "adaptive")
        assert record["attack_s"] > 0
        assert len(record["psnr"]) == len(record["ssim"]) == record["num_images"] == 8
        assert len(record["psnr_by_seed"]) == 2
        for name in ("accuracy", "reid_top1", "judge_accuracy", "judge_accuracy_originals"):
            assert 0 <= record[name] <= 1
        low, high = record["accuracy_ci"]
        assert low <= record["accuracy"] <= high
        path = study.paths[method, level]
        with np.load(path.with_name("images.npz")) as images:
            assert images["originals"].shape == images["reconstructions"].shape == (8, 28, 28, 1)
        assert path.with_name("grid.png").is_file()
    adaptive = study.records["adaptive", 0.6]
    assert adaptive["held_out_psnr"][adaptive["way"]] == max(adaptive["held_out_psnr"].values())


@pytest.mark.slow
def test_defences_cost_accuracy_and_knowing_them_helps(study):
    known = study.records
    for method in ("paper", "adaptive"):
        undefended, defended = known[method, 0], known[method, 0.6]
        assert undefended["accuracy"] == undefended["accuracy_undefended"] > 0.95
        assert defended["accuracy"] < undefended["accuracy"] - 0.02
        assert defended["psnr_mean"] < undefended["psnr_mean"]
    assert known["paper", 0.6]["accuracy"] == known["adaptive", 0.6]["accuracy"]
    assert known["adaptive", 0.6]["psnr_mean"] > known["paper", 0.6]["psnr_mean"] + 3


@pytest.mark.slow
def test_a_study_of_defences_prints_a_table_a_verdict_and_pictures(scripts, study):
    lines = study.done.stdout.splitlines()
    header = next(i for i, line in enumerate(lines) if line.startswith("split"))
    rows = [line.split() for line in lines[header + 1 : header + 5]]
    assert [(row[3], row[5]) for row in rows] == [
        ("0", "paper"),
        ("0.6", "paper"),
        ("0", "adaptive"),
        ("0.6", "adaptive"),
    ]
    assert f"{study.records['adaptive', 0.6]['accuracy']:.4f}" in rows[3]
    assert lines[-2].split(maxsplit=3)[:3] == ["pool1", "dropout,", "feature"]
    assert scripts.folder / lines[-1] == study.paths["adaptive", 0.6]
    for name in ("levels", "tradeoff"):
        (picture,) = (scripts.folder / "results" / "defenses").glob(f"{name}-*.png")
        with Image.open(picture) as image:
            assert image.format == "PNG"
        assert any(str(picture.name) in line for line in lines)


@pytest.mark.slow
def test_a_finished_study_of_defences_is_read(scripts, study):
    before = finished(scripts.folder, "defenses")
    again = scripts.here("defenses", *study.flags)
    assert again.returncode == 0, again.stderr
    assert again.stdout == study.done.stdout
    assert finished(scripts.folder, "defenses") == before


@pytest.mark.slow
def test_other_attackers_of_a_composition_see_several_releases(scripts, few):
    flags = ("--split=fc3", "--defense=dropout+gaussian", "--site=input+feature", *few)
    flags = (*flags, "--level=.2+.3", "--releases=2", "--threat_model=blackbox,queryfree")
    flags = (*flags, "--attacker=adaptive", "--fit_steps=5", "--shadow_steps=3")
    done = scripts.here("defenses", *flags)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    paths = [*scripts.folder.glob("results/defenses/*-fc3-*/record.json")]
    found = [json.loads(path.read_text("utf-8")) for path in paths]
    threats = ("blackbox", "queryfree")
    assert {(r["threat_model"], r["releases"]) for r in found} == {
        *itertools.product(threats, (1, 2))
    }
    written = {r["threat_model"]: r for r in found if r["releases"] == 2}
    for record in written.values():
        assert record["defense"] == {
            "kind": "dropout+gaussian",
            "site": "input+feature",
            "level": [0.2, 0.3],
            "grid": [None, 2**-8],
        }
        assert record["releases"] == 2
        assert record["accuracy"] < record["accuracy_undefended"]
        assert "level" in record["attacker_knowledge"]
    assert written["blackbox"]["accuracy"] == written["queryfree"]["accuracy"]
    assert written["blackbox"]["queries"] > 0
    assert len(written["queryfree"]["shadow_accuracy"]) >= 1


# Name -> flags, exit status, and what the line has to say. {} is filled in by the fixture.
MISTAKES = {
    "unknown split": (["--split=rellu2"], 2, ["--split=rellu2", "did you mean relu2"]),
    "empty split": (["--split="], 2, ["--split", "conv1"]),
    "a comma too many": (["--split=conv1,"], 2, ["--split=conv1,", "commas between"]),
    "unknown dataset": (["--dataset=mnits"], 2, ["--dataset=mnits", "mnist"]),
    "unknown method": (["--method=magic"], 2, ["--method=magic", "paper", "hybrid"]),
    "no steps": (["--steps=0"], 2, ["--steps=0", "range"]),
    "no images": (["--num_images=0"], 2, ["--num_images=0", "range"]),
    "too many images": (["--num_images=1001"], 2, ["--num_images=1001", "1000"]),
    "missing data_dir": (
        ["--dataset=mnist", "--data_dir={tmp}/nowhere"],
        2,
        ["--data_dir={tmp}/nowhere"],
    ),
    "data_dir without the data": (
        ["--data_dir={tmp}/empty", "--dataset=mnist"],
        2,
        ["--data_dir={tmp}/empty", "mnist"],
    ),
    "missing checkpoint": (["--checkpoint={tmp}/none"], 1, ["{tmp}/none", "no such checkpoint"]),
    "truncated checkpoint": (["--checkpoint={tmp}/short"], 1, ["{tmp}/short", "truncated"]),
    "another model's checkpoint": (
        ["--checkpoint={tmp}/other"],
        1,
        ["{tmp}/other", "another model"],
    ),
    "workdir below a file": (["--workdir={tmp}/short/here"], 1, ["{tmp}/short/here"]),
    "stray argument": (["relu2"], 2, ["relu2", "--name=value"]),
    "unknown flag": (["--splits=conv1"], 2, ["splits"]),
    "bad tv_weight": (
        ["--method=tv", "--tv_weight=much"],
        2,
        ["--tv_weight=much", "code, printed"],
    ),
    "negative tv_weight": (["--method=tv", "--tv_weight=-1"], 2, ["--tv_weight=-1", "at least 0"]),
    "map chooses tv_weight": (["--tv_weight=0.1"], 2, ["--tv_weight=0.1", "--method=map"]),
    "bad seed": (["--seed=x"], 2, ["--seed=x"]),
    "huge seed": (["--seed=99999999999999999999"], 2, ["--seed", "range"]),
    "huge steps": (["--steps=5000000000"], 2, ["--steps", "range"]),
    "rate not finite": (["--learning_rate=nan"], 2, ["--learning_rate", "finite"]),
    "code is for paper": (
        ["--method=tv", "--tv_weight=code"],
        2,
        ["--tv_weight=code", "--method=paper"],
    ),
    "unknown solver": (["--solver=newton"], 2, ["--solver=newton", "lbfgs"]),
}


@pytest.fixture(scope="module")
def broken(scripts, first):
    """Files and folders that the mistakes name."""
    (scripts.folder / "empty").mkdir()
    content = first.checkpoint.read_bytes()
    (scripts.folder / "short").write_bytes(content[: len(content) // 2])
    seven_classes = lenet5(num_classes=7).init(jax.random.key(0))
    checkpoints.save(scripts.folder / "other", seven_classes, metadata={"dataset": "mnist_5k"})


def assert_one_line(said, script, words):
    (line,) = said.splitlines()
    assert line.startswith(f"{script}.py: error: ")
    for word in words:
        assert word in line


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_gets_one_clear_line(scripts, broken, name):
    flags, expected, words = (
        [str(each).replace("{tmp}", str(scripts.folder)) for each in part]
        if isinstance(part, list)
        else part
        for part in MISTAKES[name]
    )
    status, said = scripts.answer("whitebox", *FLAGS, *flags)
    assert status == expected, said
    assert_one_line(said, "whitebox", words)


BLACK_BOX_MISTAKES = {
    "few queries": (["--num_queries=5"], ["--num_queries=5", "at least 20"]),
    "no number of queries": (["--num_queries=x"], ["--num_queries=x", "positive numbers"]),
    "one of them is no number": (["--num_queries=100,-3"], ["--num_queries=100,-3", "positive"]),
    "empty queries": (["--num_queries="], ["--num_queries=: expected"]),
    "unknown method": (["--method=map"], ["--method=map", "strong"]),
    "no steps": (["--fit_steps=0"], ["--fit_steps=0", "range"]),
    "unknown surrogate": (["--surrogate=mine"], ["--surrogate=mine", "attacker"]),
}


@pytest.mark.parametrize("name", BLACK_BOX_MISTAKES)
def test_a_mistake_in_a_black_box_run_gets_one_clear_line(scripts, first, name):
    flags, words = BLACK_BOX_MISTAKES[name]
    status, said = scripts.answer("blackbox", *FLAGS, *flags)
    assert status == 2, said
    assert_one_line(said, "blackbox", words)


DEFENCE_MISTAKES = {
    "unknown defence": (["--defense=blur"], ["--defense=blur", "dropout", "clip"]),
    "unknown site": (["--site=wire"], ["--site=wire", "input, feature"]),
    "level out of range": (["--level=0,1"], ["--level=1", "dropout", "below 1"]),
    "level in words": (["--level=much"], ["--level=much", "a number"]),
    "empty level": (["--level="], ["--level"]),
    "several without levels": (["--defense=dropout+gaussian"], ["--level=: missing"]),
    "unknown attacker": (["--attacker=strong"], ["--attacker=strong", "paper, adaptive"]),
    "unknown threat model": (["--threat_model=grey"], ["--threat_model=grey", "blackbox"]),
    "nopeek at the input": (["--defense=nopeek", "--site=input"], ["--site=input", "nopeek"]),
    "no releases": (["--releases=0"], ["--releases=0", "range"]),
    "no draws": (["--draws=0"], ["--draws=0", "range"]),
    "unknown part": (["--retrain=edge"], ["--retrain=edge", "cloud"]),
    "unknown split": (["--split=rellu2"], ["--split=rellu2", "did you mean relu2"]),
}


@pytest.mark.parametrize("name", DEFENCE_MISTAKES)
def test_a_mistake_in_a_study_of_defences_gets_one_clear_line(scripts, few, name):
    flags, words = DEFENCE_MISTAKES[name]
    status, said = scripts.answer("defenses", *few, *flags)
    assert status == 2, said
    assert_one_line(said, "defenses", words)


@pytest.mark.parametrize("script", ["whitebox", "defenses"])
def test_a_process_of_its_own_says_the_same_of_a_mistake(scripts, first, script):
    flags = (*FLAGS, "--split=rellu2")
    done = scripts.run(script, *flags)
    assert (done.returncode, done.stderr) == scripts.answer(script, *flags)
    assert done.returncode == 2 and done.stdout == ""


def finished(folder, experiment="whitebox"):
    return {
        path: path.stat().st_mtime_ns
        for path in (folder / "results" / experiment).glob("*/record.json")
    }


@pytest.mark.slow
def test_a_killed_sweep_goes_on_from_what_is_finished(scripts, first, tmp_path):
    flags = ("--split=conv1,relu1,relu2", *FAST, f"--checkpoint={first.checkpoint}")
    scripts.kill_when(lambda: finished(tmp_path), "whitebox", *flags, cwd=tmp_path)
    before = finished(tmp_path)
    assert 1 <= len(before) < 3
    last = scripts.record_of("whitebox", *flags, cwd=tmp_path)
    after = finished(tmp_path)
    assert len(after) == 3
    assert last in after
    assert json.loads(last.read_text("utf-8"))["split"] == "relu2"
    assert {path: after[path] for path in before} == before
    (joint,) = (tmp_path / "results" / "whitebox").glob("*.png")
    with Image.open(joint) as grid, Image.open(last.with_name("grid.png")) as one:
        assert grid.height > one.height


@pytest.mark.slow
def test_a_killed_training_ends_with_the_same_target(scripts, tmp_path):
    flags = ("--dataset=mnist_5k", "--epochs=3")
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    undisturbed.mkdir()
    disturbed.mkdir()
    whole = scripts.record_of("train_target", *flags, cwd=undisturbed, own_process=True)
    expected = json.loads(whole.read_text("utf-8"))

    def early():
        return list(disturbed.glob("results/train_target/*/checkpoint.safetensors"))

    scripts.kill_when(early, "train_target", *flags, cwd=disturbed)
    (checkpoint,) = early()
    _, metadata = checkpoints.read(checkpoint)
    assert 1 <= len(json.loads(metadata["history"])) < 3
    assert not finished(disturbed, "train_target")
    path = scripts.record_of("train_target", *flags, cwd=disturbed, own_process=True)
    resumed = json.loads(path.read_text("utf-8"))
    assert len(resumed["history"]) == 3
    assert resumed["fingerprint"] == expected["fingerprint"]
    assert not checkpoint.exists()
    assert path.with_name("target.safetensors").is_file()
    assert path.with_name("learning_curve.png").is_file()
