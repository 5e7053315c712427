"""Runs survive: kills, a full disk, their like at the same time, damaged files, large and small."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from scripts import ROOT

from jaxinv import records

# Learns a decoder, which is kept, and attacks at two cuts.
SMALL = ("--method=paper", "--split=conv1,pool1", "--num_queries=40", "--fit_steps=4")


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
    """Of every run of a work folder, what does not depend on time."""
    found = records.find(workdir)
    keys = ("split", "psnr", "ssim", "psnr_mean", "reid_top1", "config_hash")
    return [[record[key] for key in keys] for record in found]


# --- Kills ----------------------------------------------------------------------------------------

# Starts a script so many times and kills it. It is forked from a process that has imported JAX (and
# not started it), because a kill during seconds of imports tells nothing.
KILLER = """
import os, random, runpy, signal, sys, time
import jax, absl.flags
import jaxinv.runs, jaxinv.attacks.blackbox, jaxinv.figures, jaxinv.data

kills, script, *flags = sys.argv[1:]
chance, killed = random.Random(0), 0
rerun = []
while killed < int(kills):
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.argv = [script, *flags, *rerun]
        runpy.run_path(script, run_name="__main__")
    deadline = time.monotonic() + chance.uniform(0, 2)
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


def test_killed_20_times_a_run_ends_as_an_undisturbed_one_does(scripts, few, tmp_path):
    workdir, cache = tmp_path / "killed", tmp_path / "cache"
    flags = [*few[:2], *SMALL, "--num_images=2"]
    script = ROOT / "experiments" / "blackbox.py"
    done = subprocess.run(
        [sys.executable, "-c", KILLER, "20", script, *flags, f"--workdir={workdir}"],
        env=scripts.env | {"JAXINV_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0
    statuses = [int(line) for line in done.stdout.split()]
    assert statuses.count(signal.SIGKILL) == 20
    last = scripts.run(
        "blackbox", *flags, f"--workdir={workdir}", env=scripts.env | {"JAXINV_CACHE": str(cache)}
    )
    assert last.returncode == 0, last.stderr
    assert leftovers(workdir) == leftovers(cache) == []
    scripts.record_of("blackbox", *flags, f"--workdir={tmp_path / 'undisturbed'}")
    assert len(numbers(workdir)) == 2
    assert numbers(workdir) == numbers(tmp_path / "undisturbed")
