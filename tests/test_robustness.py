"""Runs survive: kills, a full disk, their like at the same time, damaged files, large and small."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from scripts import EXPERIMENTS, hear_signals

from jaxinv.store import records

# Learns a decoder, which is kept, and attacks at two cuts.
SMALL = (
    *("--method=paper", "--split=conv1,pool1", "--num_images=2"),
    *("--num_queries=40", "--fit_steps=4"),
)


def leftovers(folder):
    """Temporary files, and what was set aside."""
    return [
        path
        for path in folder.rglob("*")
        if ".corrupt-" in path.name
        or (path.parent.name == "data" and path.name.startswith("."))
        or path.name.endswith(".tmp")
    ]


def numbers(workdir):
    """Numbers of every run of a work folder that do not depend on time."""
    found = records.find(workdir)
    keys = ("split", "psnr", "ssim", "psnr_mean", "reid_top1", "config_hash")
    return [[record.fields[key] for key in keys] for record in found]


# --- Signals --------------------------------------------------------------------------------------


def test_what_the_tests_start_can_be_interrupted_where_the_tests_cannot():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        hear_signals()
        code = "import signal; signal.raise_signal(signal.SIGINT)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert "KeyboardInterrupt" in done.stderr


# --- Kills ----------------------------------------------------------------------------------------

# Starts a script so many times and kills it. It is forked from a process that has imported JAX (and
# not started it), because a kill during seconds of imports tells nothing.
KILLER = """
import os, random, runpy, signal, sys, time
import jax, absl.flags
import jaxinv.studies.runs, jaxinv.attacks.blackbox

kills, script, *flags = sys.argv[1:]
chance, killed = random.Random(0), 0
rerun = []
while killed < int(kills):
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.argv = [script, *flags, *rerun]
        runpy.run_path(script, run_name="__main__")
    deadline = time.monotonic() + chance.uniform(0, 1.2)
    done = 0
    while not done and time.monotonic() < deadline:
        time.sleep(0.002)
        done, status = os.waitpid(child, os.WNOHANG)
    if not done:
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        killed += 1
    else:
        assert os.WEXITSTATUS(status) == 0, status
        rerun = ["--rerun"]  # of what is finished by now
    print(status, flush=True)
"""


@pytest.mark.slow
def test_killed_20_times_a_run_ends_as_an_undisturbed_one_does(scripts, few, tmp_path):
    workdir, cache = tmp_path / "killed", tmp_path / "cache"
    flags = [*few, *SMALL]
    script = EXPERIMENTS / "blackbox.py"
    done = subprocess.run(
        [sys.executable, "-c", KILLER, "20", script, *flags, f"--workdir={workdir}"],
        env=scripts.env | {"JAXINV_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0
    statuses = [int(line) for line in done.stdout.split()]
    assert statuses.count(signal.SIGKILL) == 20
    last = scripts.run(
        "blackbox", *flags, f"--workdir={workdir}", env=scripts.env | {"JAXINV_CACHE": str(cache)}
    )
    assert last.returncode == 0, last.stderr
    assert leftovers(workdir) == leftovers(cache) == []
    flags.append(f"--workdir={tmp_path / 'undisturbed'}")
    scripts.record_of("blackbox", *flags, own_process=True)
    assert len(numbers(workdir)) == 2
    assert numbers(workdir) == numbers(tmp_path / "undisturbed")


# --- Others at the same time ----------------------------------------------------------------------


@pytest.mark.slow
def test_of_two_that_do_the_same_at_once_one_waits_for_the_other(scripts, few, tmp_path):
    flags = ["blackbox", *few, *SMALL, f"--workdir={tmp_path}"]
    both = [scripts.start(*flags) for _ in range(2)]
    told = [process.communicate(timeout=600) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert "Waiting for another process" in told[0][1] + told[1][1]
    assert told[0][0].splitlines()[-1] == told[1][0].splitlines()[-1]
    rows = [[line for line in out.splitlines() if line.startswith("conv1")] for out, _ in told]
    assert rows[0] == rows[1]  # with its seconds: they were measured once
    assert len(records.find(tmp_path)) == 2
    assert leftovers(tmp_path) == []


# --- Disks ----------------------------------------------------------------------------------------


LIMITED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.slow
def test_a_disk_that_is_full_ends_a_run_in_one_line_and_leaves_no_half(scripts, few, tmp_path):
    """A limit on the size of files stands in for the disk; Python ignores the signal of it."""

    env = scripts.env | {"JAXINV_CACHE": str(tmp_path / "cache")}
    flags = ["blackbox", *few, *SMALL, "--split=conv1", f"--workdir={tmp_path / 'results'}"]
    script, *rest = flags
    full = subprocess.run(
        [sys.executable, "-c", LIMITED, EXPERIMENTS / f"{script}.py", *rest],
        cwd=scripts.folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert full.returncode == 1, full.stderr
    (line,) = full.stderr.splitlines()
    assert line.startswith("blackbox.py: error: Cannot write ") and "File too large" in line
    left = [path for path in (tmp_path / "results").rglob("*") if path.is_file()]
    assert {path.parent.name for path in left} == {"locks", "learned"}  # that one is small
    assert leftovers(tmp_path) == []
    mended = scripts.run(*flags)
    assert mended.returncode == 0, mended.stderr
    assert len(records.find(tmp_path / "results")) == 1


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_below_stdout_is_one_line(scripts, few):
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = scripts.run("blackbox", *few, *SMALL, stdout=full)
    assert done.returncode == 1
    assert done.stderr == "blackbox.py: error: No space left on device.\n"


# --- Sizes ----------------------------------------------------------------------------------------

SIZED = """
import json, resource, sys
import numpy as np
from jaxinv.inputs import data
from jaxinv.studies import whitebox

rng = np.random.RandomState(0)
pixels = rng.randint(0, 256, (10_000, 7, 7, 1), np.uint8).repeat(4, axis=1).repeat(4, axis=2)
samples = data.Samples(pixels, rng.randint(0, 10, 10_000).astype(np.int32))
few = samples[:64]
dataset = data.Dataset("mnist", "made up", "0" * 12, 10, few, few, samples)
data.load = lambda *args, **options: dataset
for count in (1, 10_000):
    config = whitebox.WhiteboxConfig(
        method="paper", steps=5, num_images=count, workdir=sys.argv[1]
    )
    (record,) = whitebox.run(config)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    told = len(record["psnr"]), len(record["ssim"]), record["num_images"], record["diverged"]
    print(json.dumps([*told, peak * (1 if sys.platform == "darwin" else 1024)]))
"""


@pytest.mark.slow
def test_one_image_and_ten_thousand(scripts, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SIZED, tmp_path],
        env=scripts.env,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    one, many = (json.loads(line) for line in done.stdout.splitlines() if line[0] == "[")
    assert one[:-1] == [1, 1, 1, 0]
    assert many[:-1] == [10_000, 10_000, 10_000, 0]
    # The images themselves are 31 MB, and so are the reconstructions.
    assert many[-1] - one[-1] < 600e6
