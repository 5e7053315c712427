"""Sweeps, mostly of a stand-in for an experiment that starts fast and can be told to fail.

The stand-in lies in a folder of its own, beside our package. It keeps a journal of its runs, so
that a run that was done twice, or at once, is seen.
"""

import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import fake_runs
import jax
import pytest
import slurm

from jaxinv import sweeps
from jaxinv.errors import UsageError, UserError
from jaxinv.inputs import data
from jaxinv.networks import cifar_cnn, lenet5
from jaxinv.store import locks, records
from jaxinv.studies import cli, experiment
from jaxinv.studies.scenes import default_cuts
from jaxinv.sweeps import grid, settings, summary
from jaxinv.sweeps import slurm as tasks
from jaxinv.sweeps.__main__ import main as sweep_main
from jaxinv.sweeps.settings import Settings
from jaxinv.sweeps.store import Run, Sweep, SweepOutcome

ROOT = Path(__file__).resolve().parent.parent.parent

STAND_IN = '''"""Stands in for an experiment: sleeps, and writes a record."""

import dataclasses
import fcntl
import os
import sys
import time
from pathlib import Path

from jaxinv.store import records
from jaxinv.studies import cli
from jaxinv.studies.config import AttackConfig
from jaxinv.studies.experiment import Experiment, setting

cli.use_compilation_cache = lambda: None  # it starts faster without JAX


@dataclasses.dataclass(frozen=True)
class FakeConfig(AttackConfig):
    num_images: int = 4
    method: str = setting("good", "How it ends.", choices=["good", "bad", "silent", "torn"])
    level: tuple[str, ...] = setting(("1",), "One record each.")
    box: bool | None = setting(None, "A switch.")
    sleep: float = setting(0.1, "Seconds.", least=0)


def run(config):
    work, split, path = Path(config.workdir), config.split[0], None

    def journal(event):
        with open(work / "journal", "a") as file:
            file.write(f"{event} {split}/{config.seed} {os.getpid()} {time.monotonic()}\\n")

    print("the stand-in starts")
    for level in config.level:
        identity = {"split": list(config.split), "seed": config.seed, "level": level}
        identity |= {"method": config.method, "box": config.box}
        folder = records.run_dir(work, "fake", identity, label=f"{split}-s{config.seed}")
        path = folder / "record.json"
        if config.rerun or not records.read(folder):
            work.mkdir(exist_ok=True)
            with open(work / f"{folder.name}.busy", "w") as busy:
                fcntl.flock(busy, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails if it runs twice at once
                journal("begin")
                time.sleep(config.sleep)
                if config.method == "bad":
                    print("fake.py: error: it was told to fail.", file=sys.stderr)
                    sys.exit(3)
                record = {
                    "kind": "fake", "experiment": "fake", "dataset": "none", "data_source": "none",
                    "seed": config.seed, "device": os.environ.get("CUDA_VISIBLE_DEVICES"),
                    "versions": {}, "config": identity,
                    "config_hash": records.config_hash(identity),
                    "psnr_mean": config.seed + 10.0, "ssim_mean": 0.5, "split_name": split,
                    "cores": sorted(getattr(os, "sched_getaffinity", lambda pid: ())(0)),
                }
                records.write(folder, record, images=None)
                journal("end")
        records.note(path)
    if config.method == "torn":
        path.write_text("{")
    print("a warning that comes late", file=sys.stderr)
    return [{"path": path if config.method != "silent" else "nothing"}]


EXPERIMENT = Experiment("fake", FakeConfig, run, __doc__)
'''

# Python imports it at its start.
REGISTER = 'from jaxinv.studies import experiment\nexperiment.MODULES["fake"] = "fake_experiment"\n'

# A sweep without the seconds that it takes to ask a script for its flags.
DRIVER = """
import json, sys
from jaxinv import sweeps
from jaxinv.errors import UserError
runs = [sweeps.Run("fake", flags, {"code": "1"}) for flags in json.loads(sys.argv[1])]
try:
    outcomes = sweeps.run(runs, sys.argv[2])
except sweeps.StoppedError as stopped:
    print(stopped, file=sys.stderr)
    sys.exit(128 + stopped.signal)
except UserError as error:
    print(error, file=sys.stderr)
    sys.exit(9)
print(json.dumps([[outcome.state, outcome.reason] for outcome in outcomes]))
sys.exit(any(outcome.state == "failed" for outcome in outcomes))
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A folder on the path of Python, with which the stand-in is an experiment."""
    folder = tmp_path_factory.mktemp("checkout")
    (folder / "jaxinv").symlink_to(ROOT / "jaxinv")
    (folder / "fake_experiment.py").write_text(STAND_IN)
    (folder / "sitecustomize.py").write_text(REGISTER)
    return folder


@pytest.fixture
def stand_in(checkout, monkeypatch):
    """The stand-in is an experiment of this process, too."""
    monkeypatch.syspath_prepend(checkout)
    monkeypatch.setitem(experiment.MODULES, "fake", "fake_experiment")
    # Importing it replaces this; that is undone at the end.
    monkeypatch.setattr(cli, "use_compilation_cache", cli.use_compilation_cache)
    monkeypatch.setenv("PYTHONPATH", str(checkout))
    for name in ("JOBS", "EXECUTOR"):
        monkeypatch.delenv(name, raising=False)


class Bench:
    """Starts sweeps of the stand-in in processes of their own, in one work folder."""

    def __init__(self, checkout, folder):
        self.folder, self.work = folder, folder / "results"
        kept = {k: v for k, v in os.environ.items() if k not in ("TFDS_DATA_DIR", "EXECUTOR")}
        self.env = {**kept, "PYTHONPATH": str(checkout), "JAX_PLATFORMS": "cpu", "JOBS": "4"}

    def start(self, *arguments, **env):
        """The command line."""
        return self._start(["-P", "-m", "jaxinv.sweeps", *arguments], env)

    def drive(self, points, workdir="results", **env):
        """The same sweep of given flags, but faster to start."""
        return self._start(["-c", DRIVER, json.dumps(points), workdir], env)

    def _start(self, arguments, env):
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.folder,
            env={**self.env, **env},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def journal(self):
        """Its lines as (event, name, process, time)."""
        path = self.work / "journal"
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        whole = [line.split() for line in lines if len(line.split()) == 4]
        return [(event, name, int(pid), float(when)) for event, name, pid, when in whole]

    def done(self):
        """Number of times that each run was done to its end."""
        return Counter(name for event, name, *_ in self.journal() if event == "end")

    def records(self):
        """Config hash -> what was found there."""
        found = records.find(self.work, "fake")
        return {
            each.config_hash: (each.fields["psnr_mean"], each.fields["split_name"])
            for each in found
        }


@pytest.fixture
def bench(checkout, tmp_path):
    return Bench(checkout, tmp_path)


def finish(process, timeout=600):
    """Status and output of a process."""
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def wait_for(condition, timeout=600):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def points(splits=("conv1", "relu2"), seeds=3, **more):
    return [
        {"split": split, "seed": str(seed), **more} for split in splits for seed in range(seeds)
    ]


# --- From flags to runs ---------------------------------------------------------------------------


def flags_of(runs):
    return [dict(run.flags) for run in runs]


def test_a_grid_has_every_combination_in_the_order_of_the_flags(stand_in):
    given = {"dataset": "mnist_5k", "split": "relu2,Conv1", "method": "good,bad", "seed": "2,0"}
    runs = sweeps.expand("fake", given)
    assert [tuple(run.flags.values()) for run in runs] == [
        (split, method, seed, "mnist_5k")
        for split in ("relu2", "conv1")
        for method in ("good", "bad")
        for seed in ("2", "0")
    ]
    assert sweeps.expand("fake", given) == runs
    assert len({run.name for run in runs}) == 8


def test_all_splits_are_the_networks_and_nothing_is_trained(stand_in, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = sweeps.expand("fake", {"dataset": "mnist_5k", "split": "all", "seed": "0,1,2"})
    assert len(runs) == 3 * len(lenet5().cuts)
    assert list(dict.fromkeys(run.flags["split"] for run in runs)) == list(lenet5().cuts)
    assert not list(tmp_path.iterdir())


def test_splits_are_those_of_each_datasets_network(stand_in, monkeypatch):
    class Colour:
        name, fingerprint, image_shape, num_classes, test = "colour", "f", (32, 32, 3), 10, "12345"

    load = data.load
    monkeypatch.setattr(
        data, "load", lambda name, **_: Colour() if name == "colour" else load(name)
    )
    runs = sweeps.expand("fake", {"split": "all", "dataset": "colour,mnist_5k"})
    names = {"colour": default_cuts(cifar_cnn()), "mnist_5k": lenet5().cuts}
    assert len(names["colour"]) == 12 and set(names["colour"]) < set(cifar_cnn().cuts)
    assert [(run.flags["dataset"], run.flags["split"]) for run in runs] == [
        (dataset, cut) for dataset, cuts in names.items() for cut in cuts
    ]
    assert {run.inputs["data"] for run in runs if run.flags["dataset"] == "colour"} == {"f"}


def test_spellings_and_repeats_are_one_run(stand_in):
    given = {
        "dataset": "mnist_5k",
        "sleep": "0.5, .5,5e-1",
        "seed": "1,01",
        "box": "true,1,false",
    }
    assert flags_of(sweeps.expand("fake", given)) == [
        {"sleep": "0.5", "seed": "1", "box": box, "dataset": "mnist_5k"}
        for box in ("true", "false")
    ]


def test_lists_of_the_script_stay_whole(stand_in):
    (run,) = sweeps.expand("fake", {"dataset": "mnist_5k", "level": "0,.2,.4"})
    assert run.flags["level"] == "0,.2,.4"


def test_what_decides_the_numbers_is_known_of_a_run(stand_in, tmp_path):
    from jaxinv.store import checkpoints

    path = tmp_path / "mine"
    found = []
    for seed in (0, 1):
        checkpoints.save(path, lenet5().init(jax.random.key(seed)))
        (run,) = sweeps.expand("fake", {"dataset": "mnist_5k", "checkpoint": str(path)})
        found.append(run)
    (plain,) = sweeps.expand("fake", {"dataset": "mnist_5k"})
    assert found[0].name == found[1].name != plain.name
    assert len({run.inputs["target"] for run in (*found, plain)}) == 3
    assert plain.inputs["target"] is None  # of mnist_5k none ships
    assert {"code", "data", "jaxinv"} <= plain.inputs.keys()


def test_what_the_file_of_a_device_says_is_an_input(tmp_path):
    times = tmp_path / "times.csv"

    def expanded(seconds):
        lines = [f"{cut},{seconds}" for cut in lenet5().cuts]
        times.write_text("\n".join(["cut,seconds", *lines]))
        given = {"dataset": "mnist_5k", "split": "fc1", "profile": f"{times},phone-lte"}
        return [run.inputs["profile"] for run in sweeps.expand("partition", given)]

    first, again, other = expanded(1.0), expanded(1.0), expanded(2.0)
    assert first == again and len(set(first)) == 2
    assert first[0] != other[0] and first[1] == other[1]


def test_a_mode_that_no_run_can_do_with_is_refused_before_data_are_read(monkeypatch):
    monkeypatch.setattr(sweeps, "expand", lambda *args: pytest.fail("began"))
    with (
        jax.numpy_dtype_promotion("strict"),
        pytest.raises(UsageError, match="^JAX_NUMPY_DTYPE_PROMOTION=strict"),
    ):
        sweep_main(["whitebox", "--split=conv1"])


def test_experiments_tell_their_flags():
    scripts = ("whitebox", "blackbox", "queryfree", "defenses", "partition", "convergence")
    for script in (*scripts, "benchmark"):
        assert {"split", "seed", "workdir", "dataset"} <= set(grid.flags_of(script))
    assert "epochs" in grid.flags_of("train_target") and "split" not in grid.flags_of(
        "train_target"
    )
    assert grid.values("whitebox", "steps", "5,10") == ["5", "10"]
    assert grid.values("defenses", "level", "0,.2") == ["0,.2"]
    assert grid.values("convergence", "method", "paper,tv") == ["paper,tv"]
    assert grid.values("partition", "split", "relu2,fc1") == ["relu2,fc1"]  # weighed together
    assert grid.values("blackbox", "split", "relu2,fc1") == ["relu2", "fc1"]


@pytest.mark.slow
def test_no_device_is_taken_from_the_runs(scripts):
    code = "from jaxinv import sweeps; print(len(sweeps.expand('whitebox', {'split': 'all'})))"
    env = {**scripts.env, "JAX_PLATFORMS": "none such"}  # any use of a device fails
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=env, cwd=scripts.folder, capture_output=True, text=True)
    assert done.stdout.split() == ["11"], done.stderr


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        (["--seed=1,2", "--nobox"], {"seed": "1,2", "box": "false"}),
        (["--seed", "1,2", "--box"], {"seed": "1,2", "box": "true"}),
        (["-seed=1", "--seed=2"], {"seed": "2"}),
        (["--split="], {"split": ""}),
    ],
)
def test_command_lines_are_read_as_scripts_read_them(stand_in, arguments, given):
    assert grid.parse("fake", arguments) == given


MISTAKES = {
    "no such experiment": ("fakes", {}, "fake"),
    "unknown flag": ("fake", {"sed": "1"}, "sed"),
    "not a number": ("fake", {"seed": "0,x"}, "seed=x"),
    "empty among several": ("fake", {"seed": "0,,1"}, "seed"),
    "out of range": ("fake", {"num_images": "5,0"}, "num_images=0"),
    "no such choice": ("fake", {"method": "good,better"}, "method=better"),
    "not finite": ("fake", {"sleep": "1,nan"}, "sleep"),
    "no such split": ("fake", {"split": "conv1,rellu2"}, "did you mean relu2"),
    "no split": ("fake", {"split": ""}, "split=: no such layer"),
    "a comma too many": ("fake", {"split": "conv1,"}, "split=conv1,: expected names"),
    "too many images": ("fake", {"num_images": "4,1001"}, "1000 images"),
    "no such dataset": ("fake", {"dataset": "mnist_5k,mnits"}, "mnits"),
    "of the sweep": ("fake", {"workdir": "here"}, "^workdir=here"),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_mistakes_are_found_before_anything_starts(stand_in, what):
    script, given, said = MISTAKES[what]
    with pytest.raises(UsageError, match=said) as error:
        sweeps.expand(script, {"dataset": "mnist_5k", **given})
    assert "\n" not in str(error.value)


def test_a_checkpoint_that_is_not_there(stand_in):
    with pytest.raises(UserError, match="nowhere: no such checkpoint"):
        sweeps.expand("fake", {"dataset": "mnist_5k", "checkpoint": "nowhere"})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["relu2"], "relu2: unexpected"),
        (["--sed=1"], "sed"),
        (["--seed"], "--seed: the value is missing"),
        (["-"], "no such flag"),
        (["--undefok=seed"], "no such flag"),
    ],
)
def test_mistakes_of_the_command_line(stand_in, arguments, said):
    with pytest.raises(UsageError, match=said):
        grid.parse("fake", arguments)


def test_a_report_is_no_experiment_to_sweep():
    with pytest.raises(UsageError, match="report makes no records"):
        grid.flags_of("report")


# --- Settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"JOBS": "0"}, "JOBS=0"),
        ({"JOBS": "two"}, "JOBS=two"),
        ({"EXECUTOR": "cloud"}, "EXECUTOR=cloud: expected local or slurm"),
        ({"EXECUTOR": "slurm", "TIME": "soon"}, "TIME=soon"),
        ({"EXECUTOR": "slurm", "GPUS": "-1"}, "GPUS=-1"),
        ({"EXECUTOR": "slurm", "PARTITION": "a b"}, "PARTITION=a b"),
        ({"EXECUTOR": "slurm", "SBATCH_OPTIONS": "--comment='a"}, "SBATCH_OPTIONS"),
    ],
)
def test_settings_that_are_not_allowed(monkeypatch, env, said):
    monkeypatch.setattr(settings.shutil, "which", lambda name: name)
    with pytest.raises(UsageError, match=said):
        Settings.from_environment(env)


def test_settings_from_the_environment(monkeypatch):
    assert Settings.from_environment({"JOBS": "", "TIME": "soon"}) == Settings()
    monkeypatch.setattr(settings.shutil, "which", lambda name: None)
    with pytest.raises(UsageError, match="no sbatch"):
        Settings.from_environment({"EXECUTOR": "slurm"})
    monkeypatch.setattr(settings.shutil, "which", lambda name: name)
    env = {"EXECUTOR": "slurm", "JOBS": "3", "PARTITION": "gpu", "TIME": "1-12:00", "GPUS": "2"}
    env["SBATCH_OPTIONS"] = "--mem=8G --comment='a b'"
    assert Settings.from_environment(env) == Settings(
        "slurm", 3, "gpu", "1-12:00", 2, ("--mem=8G", "--comment=a b")
    )


@pytest.mark.parametrize(
    ("cores", "mebibytes", "gibibytes", "jobs"),
    [
        (16, "81559", 128, 8),
        (16, "24564", 128, 6),
        (2, "81559", 128, 2),
        (64, "81559", 15.4, 4),
        (64, "81559", 4, 1),
        (16, "[N/A]", 128, 2),
    ],
)
def test_a_gpu_takes_as_many_runs_as_cores_and_memory_allow(
    monkeypatch, tmp_path, cores, mebibytes, gibibytes, jobs
):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(
        f"""#!/bin/sh
case $1 in
  -L) echo 'GPU 0: A (UUID: GPU-x)'; echo '  MIG'; echo 'GPU 1: A (UUID: GPU-y)';;
  *) echo '0, GPU-x, {mebibytes}'; echo '1, GPU-y, 90000'; echo '2, GPU-z, 2048';;
esac
"""
    )
    tool.chmod(0o755)
    monkeypatch.setattr(settings, "usable_cores", lambda: cores)
    monkeypatch.setattr(settings, "_memory", lambda: gibibytes * 2**30)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert settings.visible_gpus({}) == ["0", "1"]
    assert settings.visible_gpus({"CUDA_VISIBLE_DEVICES": "3, 5"}) == ["3", "5"]
    assert settings.visible_gpus({"CUDA_VISIBLE_DEVICES": "-1"}) == []
    assert settings.visible_gpus({"JAX_PLATFORMS": "cpu"}) == []
    assert settings.default_jobs(["0", "1"], {}) == jobs
    assert settings.default_jobs(["GPU-y", "GPU-x"], {}) == jobs
    assert settings.default_jobs(["0", "MIG-x"], {}) == min(2, jobs)  # a part's size is not known
    assert settings.default_jobs([], {"JAX_PLATFORMS": "tpu"}) == 1
    assert settings.default_jobs([], {"TPU_NAME": "local"}) == 1


@pytest.mark.parametrize(("gibibytes", "jobs"), [(64, 6), (15.4, 4), (1, 1)])
def test_each_core_takes_a_run_as_far_as_there_is_memory(monkeypatch, gibibytes, jobs):
    assert 2**28 < settings._memory() < 2**50
    monkeypatch.setattr(settings, "usable_cores", lambda: 6)
    monkeypatch.setattr(settings, "_memory", lambda: gibibytes * 2**30)
    assert settings.default_jobs([], {"JAX_PLATFORMS": "cpu"}) == jobs
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)  # as on macOS
    assert settings.default_jobs([], {"JAX_PLATFORMS": "cpu"}) == min(3, jobs)


def test_memory_is_what_control_groups_leave(monkeypatch, tmp_path):
    assert settings._control_group().is_relative_to(settings._CGROUPS)
    group = tmp_path / "job" / "step"
    group.mkdir(parents=True)
    monkeypatch.setattr(settings, "_CGROUPS", tmp_path)
    monkeypatch.setattr(settings, "_control_group", lambda: group)
    machine = settings._memory()
    (group / "memory.max").write_text("max\n")
    assert settings._memory() == machine
    (group.parent / "memory.max").write_text("2000\n")
    assert settings._memory() == 2000
    (group / "memory.max").write_text("1000\n")
    assert settings._memory() == 1000


@pytest.mark.slow
def test_a_run_alone_has_all_gpus(bench):
    done = finish(bench.drive(points(seeds=1), CUDA_VISIBLE_DEVICES="4,7", JOBS="1"))
    assert done.returncode == 0, done.stderr
    assert {record.device for record in records.find(bench.work, "fake")} == {"4,7"}


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="cores are shared here")
@pytest.mark.parametrize(("jobs", "count"), [(1, 3), (2, 3), (1000, 3), (2, 1)])
def test_runs_have_cores_of_their_own(bench, jobs, count):
    usable = os.sched_getaffinity(0)
    runs = points(("conv1",), seeds=count)
    done = finish(bench.drive(runs, JOBS=str(jobs), JAX_PLATFORMS="cpu"))
    assert done.returncode == 0, done.stderr
    found = [set(record.fields["cores"]) for record in records.find(bench.work, "fake")]
    jobs = min(jobs, len(runs))
    if 1 < jobs <= len(usable):
        shares = [set(sorted(usable)[slot::jobs]) for slot in range(jobs)]
        assert all(own in shares for own in found)
        assert all(share in found for share in shares)
    else:
        assert all(own == usable for own in found)


@pytest.mark.slow
def test_runs_are_dealt_to_gpus_in_turn(bench):
    done = finish(bench.drive(points(), CUDA_VISIBLE_DEVICES="4,7", JAX_PLATFORMS="", JOBS="2"))
    assert done.returncode == 0, done.stderr
    devices = Counter(record.device for record in records.find(bench.work, "fake"))
    assert set(devices) == {"4", "7"}


@pytest.mark.slow
def test_what_is_left_of_a_sweep_has_one_gpu_too(bench):
    given = {"CUDA_VISIBLE_DEVICES": "4,7", "JAX_PLATFORMS": "", "JOBS": "2"}
    assert finish(bench.drive(points(), **given)).returncode == 0
    kept, *others = [path for path in bench.work.rglob("record.json") if "sweeps" not in path.parts]
    assert others
    kept.unlink()
    assert finish(bench.drive(points(), **given)).returncode == 0
    devices = [record.device for record in records.find(bench.work, "fake")]
    assert len(devices) == len(others) + 1 and set(devices) <= {"4", "7"}


def test_no_run_takes_all_memory_of_a_gpu(monkeypatch):
    monkeypatch.delenv("XLA_PYTHON_CLIENT_PREALLOCATE", raising=False)
    kept = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    assert sweeps.local._share(3, ["4", "7"], pinned=True) == {**kept, "CUDA_VISIBLE_DEVICES": "7"}
    assert sweeps.local._share(0, ["4", "7"], pinned=False) == kept
    assert sweeps.local._share(0, ["4"], pinned=True) == kept
    assert sweeps.local._share(0, [], pinned=True) == {}
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "true")
    assert sweeps.local._share(0, ["4"], pinned=False) == {}


# --- Runs on this machine -------------------------------------------------------------------------


@pytest.mark.slow
def test_a_sweep_from_the_command_line_and_once_more(bench):
    arguments = ("fake", "--dataset=mnist_5k", "--split=conv1,relu2", "--seed=0,1")
    done = finish(bench.start(*arguments))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["split", "seed", "outcome", "seconds", "PSNR", "dB", "SSIM"]
    assert [line.split()[:3] for line in lines[1:5]] == [
        [split, seed, "finished"] for split in ("conv1", "relu2") for seed in "01"
    ]
    assert lines[2].split()[4:] == ["11.00", "0.500"]
    assert lines[5] == "4 finished, 0 skipped, 0 failed"
    told = json.loads((bench.folder / lines[-1]).read_text("utf-8"))
    assert told["finished"] == 4
    for row in told["runs"]:
        (path,) = row["records"]
        record = json.loads((bench.folder / path).read_text("utf-8"))
        assert record["split_name"] == row["flags"]["split"]
        assert record["psnr_mean"] == row["psnr_mean"]
        log = (bench.folder / row["log"]).read_text("utf-8")
        assert "the stand-in starts" in log and "a warning that comes late" in log
    assert len([line for line in done.stderr.splitlines() if line.startswith("[")]) == 4
    assert bench.records().keys() == {
        json.loads((bench.folder / row["records"][0]).read_text("utf-8"))["config_hash"]
        for row in told["runs"]
    }

    before = bench.journal()
    again = finish(bench.start(*arguments[:2], "--seed=1,0", "--split=Relu2,conv1"))
    assert again.returncode == 0, again.stderr
    assert "0 finished, 4 skipped, 0 failed" in again.stdout
    assert again.stdout.splitlines()[-1] == lines[-1]  # the same sweep
    assert bench.journal() == before
    assert "the stand-in starts" in log  # its log is still there

    rerun = finish(bench.start(*arguments, "--rerun"))
    assert "4 finished, 0 skipped, 0 failed" in rerun.stdout
    assert set(bench.done().values()) == {2}


@pytest.mark.slow
def test_mistakes_are_one_line_and_exit_status_2(bench):
    for arguments in (
        ["fake", "--seed=x"],
        ["fakes"],
        [],
        ["fake", "--dataset=mnist_5k", "--split=con"],
    ):
        done = finish(bench.start(*arguments))
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert line.startswith("sweep: error: ")
    assert not bench.work.exists()


def test_help(bench):
    for arguments in (["--help"], ["fake", "-h"]):
        done = finish(bench.start(*arguments))
        assert done.returncode == 0
        for name in ("JOBS", "EXECUTOR", "PARTITION", "TIME", "GPUS", "SBATCH_OPTIONS"):
            assert f"\n  {name} " in done.stdout
        last = done.stdout.splitlines()[-1]
        assert last.startswith("Experiments: whitebox, ") and last.endswith(", fake")


@pytest.mark.slow
def test_a_work_folder_that_cannot_be_written(bench):
    bench.work.touch()
    done = finish(bench.start("fake", "--dataset=mnist_5k"))
    assert done.returncode == 1
    assert "--workdir=results cannot be written" in done.stderr.splitlines()[-1]


def run_here(runs, workdir, **options):
    return sweeps.run(runs, str(workdir), settings=Settings(jobs=4), **options)


def fakes(flags, inputs=None):
    return [Run("fake", each, inputs or {"code": "1"}) for each in flags]


ODD = os.fsdecode(b"-new\nline, no text \xff 'q\" [a]* %j {x} $HOME \xc3\xa9")


def test_a_work_folder_may_have_any_name(stand_in, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = fakes([{}])
    (outcome,) = run_here(runs, ODD)
    assert outcome.state == "finished", outcome.reason
    assert outcome.records[0].is_file() and outcome.records[0].is_relative_to(ODD)
    assert [each.state for each in run_here(runs, ODD)] == ["skipped"]
    path = summary.write(Sweep(tuple(runs), Path(ODD)), [outcome])
    (row,) = json.loads(path.read_text("utf-8"))["runs"]
    assert Path(row["records"][0]).is_file()


def test_a_work_folder_may_have_any_name_where_text_is_ascii(bench):
    ascii_alone = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = finish(bench.drive(points(("conv1",), seeds=1), ODD, **ascii_alone))
    assert done.returncode == 0, done.stderr
    assert len(records.find(bench.folder / ODD, "fake")) == 1


def test_a_device_that_is_not_here_is_told_before_any_run(stand_in, tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "none such")
    with pytest.raises(UsageError, match="^JAX_PLATFORMS=none such: there is no such device here"):
        run_here(fakes([{}]), tmp_path / "results")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_failure_is_named_with_its_log_and_the_others_go_on(stand_in, tmp_path, capsys):
    methods = ("good", "bad", "silent", "torn")
    runs = fakes([{"method": method} for method in methods])
    outcomes = run_here(runs, tmp_path)
    assert [outcome.state for outcome in outcomes] == ["finished", "failed", "failed", "failed"]
    assert outcomes[1].reason == "exit status 3"
    assert outcomes[2].reason == outcomes[3].reason == "it left no whole record"
    err = capsys.readouterr().err
    assert f"bad: failed, exit status 3; log: {outcomes[1].log}" in err
    text = summary.table(outcomes)
    assert "1 finished, 0 skipped, 3 failed" in text
    assert "  fake.py: error: it was told to fail.\n" in text
    assert str(outcomes[1].log) in text
    # What failed is tried again.
    again = run_here(runs, tmp_path)
    assert [outcome.state for outcome in again] == ["skipped", "failed", "failed", "failed"]


@pytest.mark.slow
def test_a_sweep_with_a_failure_has_exit_status_1(bench):
    done = finish(bench.start("fake", "--dataset=mnist_5k", "--method=good,bad"))
    assert done.returncode == 1
    assert "1 of 2 runs failed" in done.stderr.splitlines()[-1]
    assert ".log" in done.stderr.splitlines()[-1]
    assert (
        json.loads((bench.folder / done.stdout.splitlines()[-1]).read_text("utf-8"))["failed"] == 1
    )


def test_runs_of_several_kinds_tell_all_their_records(stand_in, tmp_path):
    runs = fakes([{"level": "1,2,3"}, {"seed": "5"}, {"level": "1,2,3"}])
    outcomes = run_here(runs, tmp_path)
    assert [len(outcome.records) for outcome in outcomes] == [3, 1]
    levels = [records.read(path.parent).config["level"] for path in outcomes[0].records]
    assert levels == ["1", "2", "3"]
    again = run_here(runs, tmp_path)
    assert [(outcome.state, outcome.records) for outcome in again] == [
        ("skipped", outcome.records) for outcome in outcomes
    ]


@pytest.mark.slow
def test_a_marker_counts_as_long_as_its_record_and_inputs_are_there(stand_in, tmp_path):
    runs = fakes([{"seed": "0"}, {"seed": "1"}])
    first = run_here(runs, tmp_path)

    def states(runs):
        return [outcome.state for outcome in run_here(runs, tmp_path)]

    assert states(runs) == ["skipped", "skipped"]
    first[1].records[0].unlink()
    assert states(runs) == ["skipped", "finished"]
    first[1].records[0].write_text('{"torn": ')
    assert states(runs) == ["skipped", "finished"]
    assert states(fakes([{"seed": "0"}, {"seed": "1"}], {"code": "2"})) == ["finished"] * 2
    for marker in (tmp_path / "sweeps" / "done").iterdir():
        marker.write_text("{")
    assert states(fakes([{"seed": "0"}, {"seed": "1"}], {"code": "2"})) == ["finished"] * 2


def test_a_larger_sweep_skips_what_a_smaller_one_has_finished(stand_in, tmp_path):
    runs = fakes([{"seed": seed} for seed in "012"])
    run_here(runs[:2], tmp_path)
    states = [outcome.state for outcome in run_here(runs, tmp_path)]
    assert states == ["skipped", "skipped", "finished"]


def test_a_work_folder_may_be_moved(stand_in, tmp_path):
    runs = fakes([{"seed": "0"}])
    run_here(runs, tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    (outcome,) = run_here(runs, tmp_path / "new")
    assert outcome.state == "skipped"
    assert outcome.records[0].is_relative_to(tmp_path / "new")


def test_another_target_in_the_work_folder_makes_runs_be_asked_again(tmp_path):
    run = Run("fake", {}, {"code": "1", "target": None})
    sweep = Sweep((run,), tmp_path)
    fake_runs.attack(tmp_path, "fake", images=False, folder="x")
    record = tmp_path / "fake" / "x" / "record.json"
    sweep.mark(SweepOutcome(run, "finished", (record,), 1.0))
    assert sweep.finished(run)
    for seed, counts in ((1, False), (0, True)):  # the run's target is of seed 0
        weights = tmp_path / "train_target" / f"mnist-s{seed}-new" / "target.safetensors"
        weights.parent.mkdir(parents=True)
        weights.touch()
        assert (sweep.finished(run) is None) == counts


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 3])
def test_as_many_run_at_once_as_are_wanted(bench, jobs):
    done = finish(bench.drive(points(seeds=2, sleep="0.8"), JOBS=str(jobs)))
    assert done.returncode == 0, done.stderr
    events = sorted(bench.journal(), key=lambda line: line[-1])
    running, most = 0, 0
    for event, *_ in events:
        running += 1 if event == "begin" else -1
        most = max(most, running)
    assert most == jobs


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_sweep_stops_what_it_began(bench, number):
    process = bench.drive(points(sleep="30"))
    wait_for(lambda: len(bench.journal()) == 4)
    process.send_signal(number)
    done = finish(process, timeout=20)
    assert done.returncode == 128 + number
    assert "the same command goes on" in done.stderr.splitlines()[-1]
    wait_for(lambda: not any(is_alive(pid) for _, _, pid, _ in bench.journal()))


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text(encoding="utf-8")


@pytest.mark.slow
def test_runs_whose_sweep_was_killed_are_waited_for(bench):
    given = points(sleep="1.5")
    process = bench.drive(given)
    wait_for(lambda: len(bench.journal()) == 4)
    process.kill()
    finish(process)
    done = finish(bench.drive(given))
    assert done.returncode == 0, done.stderr
    assert [state for state, _ in json.loads(done.stdout)] == ["finished"] * 6
    assert bench.done() == {
        f"{split}/{seed}": 1 for split in ("conv1", "relu2") for seed in range(3)
    }
    assert len(bench.journal()) == 12


@pytest.mark.slow
def test_what_a_killed_sweep_left_running_counts_among_those_at_once(bench):
    last = points(("relu2",), seeds=2, sleep="2")
    process = bench.drive(last, JOBS="2")
    wait_for(lambda: len(bench.journal()) == 2)
    process.kill()
    finish(process)
    done = finish(bench.drive([*points(("conv1",), seeds=2, sleep="2"), *last], JOBS="2"))
    assert done.returncode == 0, done.stderr
    assert "Waiting for runs" in done.stderr
    events = [event for event, *_ in bench.journal()]
    assert sorted(events) == ["begin"] * 4 + ["end"] * 4
    assert max(itertools.accumulate({"begin": 1, "end": -1}[event] for event in events)) <= 2


@pytest.mark.slow
def test_two_sweeps_at_once_share_their_runs(bench):
    given = points(seeds=6)
    both = [bench.drive(given, JOBS="2"), bench.drive(given[::-1], JOBS="2")]
    done = [finish(process) for process in both]
    assert [each.returncode for each in done] == [0, 0], done[0].stderr + done[1].stderr
    assert set(bench.done().values()) == {1} and len(bench.done()) == 12
    states = [[state for state, _ in json.loads(each.stdout)] for each in done]
    states[1].reverse()
    assert all(set(pair) == {"finished", "skipped"} for pair in zip(*states, strict=True))


def test_a_lock_is_free_when_its_holder_is_killed(tmp_path):
    code = f"from jaxinv.store import locks; f = locks.acquire({str(tmp_path / 'a')!r}, wait=True)"
    code += "; print(1, flush=True); import time; time.sleep(60)"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"1\n"
        assert locks.acquire(tmp_path / "a", wait=False) is None
        holder.kill()
    with locks.held(tmp_path / "a"):
        pass
    with pytest.raises(UserError, match="Cannot write"):
        locks.acquire(tmp_path / "a" / "b", wait=False)


@pytest.mark.slow
def test_killed_at_any_moment_the_same_command_completes_it(bench, checkout, tmp_path):
    """Twenty times the sweep, or a run of it, is killed; then all is there, once."""
    splits = ("conv1", "relu1", "pool1", "conv2")
    given = points(splits, seeds=6, sleep="0.15")
    rng = random.Random(0)
    for kill in range(20):
        process = bench.drive(given)
        time.sleep(rng.uniform(0.1, 0.8))
        if kill % 4 == 3:  # a run instead, if one is under way
            alive = [pid for event, _, pid, _ in bench.journal()[-4:] if event == "begin"]
            for pid in alive[-1:]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.2)
        process.kill()
        finish(process)
    done = finish(bench.drive(given))
    assert done.returncode == 0, done.stderr
    undisturbed = Bench(checkout, tmp_path / "other")
    undisturbed.folder.mkdir()
    assert finish(undisturbed.drive(given)).returncode == 0
    assert len(bench.records()) == 24
    assert bench.records() == undisturbed.records()
    assert set(bench.done().values()) == {1} and len(bench.done()) == 24
    assert not list(bench.work.rglob("*.corrupt-*"))
    again = finish(bench.drive(given))
    assert {state for state, _ in json.loads(again.stdout)} == {"skipped"}


# --- The real thing -------------------------------------------------------------------------------

EXACT = ("psnr", "ssim", "objective", "solver_steps", "config_hash", "target", "accuracy")


@pytest.mark.slow
def test_real_runs_that_were_killed_find_what_undisturbed_ones_find(scripts, few):
    flags = (*few, "--split=conv1,relu1,fc3", "--method=paper", "--steps=5")
    env = {**scripts.env, "JOBS": "2"}

    def sweep(workdir):
        command = [sys.executable, "-P", "-m", "jaxinv.sweeps", "whitebox", *flags]
        return subprocess.Popen(
            [*command, f"--workdir={workdir}"],
            cwd=scripts.folder,
            env=env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    done = finish(sweep("quiet"))
    assert done.returncode == 0, done.stderr
    rng = random.Random(1)
    for _ in range(3):
        process = sweep("killed")
        time.sleep(rng.uniform(2, 5))
        process.kill()
        finish(process)
    done = finish(sweep("killed"))
    assert done.returncode == 0, done.stderr
    assert "0 failed" in done.stdout
    found = [records.find(scripts.folder / name, "whitebox") for name in ("quiet", "killed")]
    assert len(found[0]) == len(found[1]) == 3
    for quiet, killed in zip(*found, strict=True):
        assert {key: quiet.fields[key] for key in EXACT} == {
            key: killed.fields[key] for key in EXACT
        }


# --- SLURM ----------------------------------------------------------------------------------------


def test_arrays_are_written_as_ranges():
    assert sweeps.slurm._ranges([0, 1, 2, 5, 7, 8]) == "0-2,5,7-8"
    assert sweeps.slurm._ranges([3]) == "3"


def test_why_nothing_runs_is_said_once_in_a_while(tmp_path, capsys):
    run = Run("fake", {}, {"code": "1"})
    array = sweeps.slurm._Array("7", {run.name: 0})
    watch = sweeps.slurm._Watch(
        Sweep((run,), tmp_path), array, [run], summary.SweepProgress([run], done=0)
    )
    tasks = {0: sweeps.slurm._Task("PENDING", "PartitionDown")}
    now = time.monotonic()
    for seconds in (0, 60, 130, 150):
        watch._show(tasks, now + seconds)
    assert capsys.readouterr().err == "SLURM job array 7 is waiting: PartitionDown\n"


@pytest.fixture(scope="module")
def cluster():
    if reason := slurm.why_not():
        pytest.skip(reason)
    folder = tempfile.mkdtemp(prefix="jaxinv-slurm-")  # a short path, as sockets need
    try:
        with slurm.Cluster(Path(folder) / "slurm") as started:
            yield started
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def queue(bench, cluster):
    """A bench whose sweeps go to the cluster."""
    bench.env |= {**cluster.env, "EXECUTOR": "slurm", "JOBS": ""}
    return bench


@pytest.mark.slow
def test_a_sweep_on_slurm(queue, cluster):
    arguments = ("fake", "--dataset=mnist_5k", "--seed=0,1,2", "--method=good,bad", "--sleep=0")
    options = {"PARTITION": "other", "TIME": "5", "SBATCH_OPTIONS": "--comment='a b'"}
    done = finish(queue.start(*arguments, **options))
    assert done.returncode == 1, done.stderr
    assert "3 finished, 0 skipped, 3 failed" in done.stdout
    assert "6 runs submitted" in done.stderr
    told = json.loads((queue.folder / done.stdout.splitlines()[-1]).read_text("utf-8"))
    for row in told["runs"]:
        assert row["state"] == ("finished" if row["flags"]["method"] == "good" else "failed")
        assert row["seconds"] > 0
        log = (queue.folder / row["log"]).read_text("utf-8")
        assert ("told to fail" in log) == (row["state"] == "failed")
    shown = cluster.ask("squeue", "--noheader", "--states=all", "--format=%j|%P|%l|%k")
    assert "|other|5:00|a b" in shown

    again = finish(queue.start(*arguments, **options))  # submits the failed ones alone
    assert "3 runs submitted" in again.stderr
    assert "0 finished, 3 skipped, 3 failed" in again.stdout
    assert set(queue.done().values()) == {1}


@pytest.mark.slow
def test_a_killed_sweep_attaches_to_its_array(queue, cluster):
    given, before = points(seeds=2, sleep="2"), count_tasks(cluster)
    process = queue.drive(given)
    wait_for(lambda: len(queue.journal()) >= 1)
    process.kill()
    finish(process)
    second, third = queue.drive(given), queue.drive(given[::-1])  # numbers its runs otherwise
    for done in (finish(second), finish(third)):
        assert done.returncode == 0, done.stderr
        assert "is there: waiting" in done.stderr
        assert {state for state, _ in json.loads(done.stdout)} <= {"finished", "skipped"}
    assert count_tasks(cluster) == before + 4
    assert set(queue.done().values()) == {1} and len(queue.done()) == 4
    assert len([line for line in queue.journal() if line[0] == "begin"]) == 4


def count_tasks(cluster):
    """Tasks that the cluster has ever had."""
    return len(cluster.ask("squeue", "--noheader", "--array", "--states=all").splitlines())


@pytest.mark.slow
def test_what_an_array_does_not_have_follows_it(queue):
    given = points(("conv1",), seeds=2, sleep="2")
    assert finish(queue.drive(given[:1], EXECUTOR="local")).returncode == 0
    process = queue.drive(given)  # submits the second alone
    wait_for(lambda: len(queue.journal()) == 3)
    process.kill()
    finish(process)
    for record in queue.work.glob("fake/*-s0-*/record.json"):
        record.unlink()
    done = finish(queue.drive(given))
    assert done.returncode == 0, done.stderr
    assert queue.done() == {"conv1/0": 2, "conv1/1": 1}


@pytest.mark.slow
def test_an_interrupted_sweep_leaves_its_array(queue, cluster):
    given = points(("conv1",), seeds=2, sleep="3")
    process = queue.drive(given)
    wait_for(lambda: len(queue.journal()) >= 1)
    process.send_signal(signal.SIGINT)
    done = finish(process)
    assert done.returncode == 130
    assert "goes on" in done.stderr and "scancel" in done.stderr
    assert finish(queue.drive(given)).returncode == 0
    assert set(queue.done().values()) == {1} and len(queue.done()) == 2


@pytest.mark.slow
def test_tasks_that_are_cancelled_are_told_and_done_next_time(queue, cluster):
    given = points(("conv1",), seeds=3, sleep="2")
    process = queue.drive(given, JOBS="2")
    wait_for(lambda: len(queue.journal()) == 2)
    cluster.ask("scancel", f"--user={os.getuid()}")  # two that run, one that waits
    done = finish(process)
    assert done.returncode == 1
    outcomes = json.loads(done.stdout)
    assert [state for state, _ in outcomes] == ["failed"] * 3
    assert {reason for _, reason in outcomes} == {"stopped by SLURM: cancelled"}
    assert finish(queue.drive(given)).returncode == 0
    assert set(queue.done().values()) == {1} and len(queue.done()) == 3


def test_what_sbatch_refuses_is_told(queue):
    done = finish(queue.drive(points(), PARTITION="elsewhere"))
    assert done.returncode == 9
    assert "Invalid partition" in done.stderr.splitlines()[-1]


@pytest.mark.slow
def test_a_grid_on_slurm_and_here_at_once_shares_its_runs(queue):
    given = points(seeds=3, sleep="0.5")
    both = [queue.drive(given), queue.drive(given, EXECUTOR="local", JOBS="1")]
    for process in both:
        done = finish(process)
        assert done.returncode == 0, done.stderr
    assert set(queue.done().values()) == {1} and len(queue.done()) == 6


@pytest.mark.parametrize(
    "content",
    [
        {"runs": [{"script": 1, "flags": {}, "inputs": {}}]},
        {"runs": [{"script": "whitebox", "flags": {"seed": 1}, "inputs": {}}]},
        {"runs": [{"script": "whitebox", "flags": [], "inputs": {}}]},
        {"runs": [{"script": "whitebox"}]},
        {"runs": 3},
        {},
    ],
)
def test_a_damaged_list_of_runs_is_refused_in_a_line(tmp_path, content):
    path = tmp_path / "sweep.json"
    path.write_text(json.dumps({"workdir": "w", "rerun": False, **content}))
    with pytest.raises(UserError) as caught:
        Sweep.read(tmp_path)
    assert str(caught.value) == f"{path} is gone, or damaged."


@pytest.mark.parametrize("paths", [["a\0b/record.json"], [3], 3, [], ["nowhere/record.json"]])
def test_a_damaged_marker_counts_for_nothing(tmp_path, paths):
    sweep = Sweep((Run("whitebox", {"seed": "0"}, {}),), tmp_path)
    sweep.mark(SweepOutcome(sweep.runs[0], "finished", (), 1.0))
    (marker,) = (tmp_path / "sweeps" / "done").iterdir()
    marker.write_text(json.dumps({**json.loads(marker.read_text("utf-8")), "records": paths}))
    assert sweep.known() == {}


@pytest.mark.parametrize("seconds", ["long", None, [1], 2.5])
def test_a_damaged_word_of_a_failure_is_told_all_the_same(tmp_path, seconds):
    sweep = Sweep((Run("whitebox", {"seed": "0"}, {}),), tmp_path)
    sweep.write_failure(SweepOutcome(sweep.runs[0], "failed", (), seconds, None, "killed"))
    outcome = sweep.failure(sweep.runs[0])
    assert "killed" in summary.table([outcome])
    assert outcome.seconds == (2.5 if seconds == 2.5 else None)


@pytest.mark.parametrize("number", ["", "1", "x", "-1"])
def test_a_task_without_a_run_is_refused_in_a_line(tmp_path, monkeypatch, number):
    sweep = Sweep((Run("whitebox", {"seed": "0"}, {}),), tmp_path)
    sweep.write()
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", number)
    with pytest.raises(UserError, match=f"^SLURM_ARRAY_TASK_ID={number}: .* one of the 1 runs of "):
        tasks.task(sweep.folder)
