"""Several processes on one machine, as they would be on several hosts."""

import json
import math
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from scripts import ROOT

from jaxinv.errors import UserError
from jaxinv.machine import hosts

PREAMBLE = """
import sys, time
from jaxinv.machine import hosts
from jaxinv.errors import UsageError, UserError
hosts._LOST_AFTER = 4.0
hosts.initialize()
"""


def _variables(number, count, port):
    return {
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
        "JAX_NUM_PROCESSES": str(count),
        "JAX_PROCESS_ID": str(number),
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
    }


def _free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Group:
    """Processes that run one program."""

    def __init__(self, program, count=2):
        port = _free_port()
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-c", PREAMBLE + program],
                env={**os.environ, **_variables(number, count, port)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for number in range(count)
        ]

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for process in self.processes:
            process.kill()
            process.communicate()

    def results(self, timeout=600):
        """Status, stdout and stderr of each."""
        outputs = [process.communicate(timeout=timeout) for process in self.processes]
        return [
            (process.returncode, *output)
            for process, output in zip(self.processes, outputs, strict=True)
        ]


def test_alone_nothing_is_passed_on():
    assert (hosts.count(), hosts.index(), hosts.is_first()) == (1, 0, True)
    assert hosts.first(lambda: "x") == "x"
    assert hosts.gather(3) == [3]
    hosts.fail("nobody hears")
    hosts.end()


def test_what_is_passed_on_arrives():
    value = {
        "text": 'ä"\n',
        "numbers": [1, 2.5, -math.inf, None, True],
        "array": np.arange(6, dtype=np.int16).reshape(2, 3),
        "empty": np.zeros((0, 4), np.float32),
        "scalar": np.float64(0.1),
        "nested": {"": [[], {}]},
    }
    found = hosts._decode(hosts._encode(value))
    arrays = ("array", "empty", "scalar")
    for name in arrays:
        np.testing.assert_array_equal(found[name], value[name])
        assert found[name].dtype == value[name].dtype
    assert {key: found[key] for key in found if key not in arrays} == {
        key: value[key] for key in value if key not in arrays
    }


def test_what_is_passed_on_is_no_code():
    with pytest.raises(ValueError, match="allow_pickle"):
        hosts._decode(hosts._encode(np.array([set()])))


@pytest.mark.slow
def test_hosts_hear_what_the_first_did_and_what_each_has():
    program = """
calls = []
big = hosts.first(lambda: calls.append(1) or {"x": bytes(3_000_000).decode()})
def inner():
    return hosts.first(lambda: "inner") + str(hosts.index())
nested = hosts.first(inner)
try:
    hosts.first(lambda: (_ for _ in ()).throw(UsageError("--x=1: no")))
except UsageError as error:
    caught = str(error)
every = hosts.gather([hosts.index(), "own"])
print("only the first is heard")
print(hosts.index(), len(calls), len(big["x"]), nested, caught, every, file=sys.stderr)
hosts.end()
"""
    with Group(program, count=3) as group:
        results = group.results()
    assert [status for status, _, _ in results] == [0, 0, 0], results
    assert [out for _, out, _ in results] == ["only the first is heard\n", "", ""]
    every = [[number, "own"] for number in range(3)]
    for number, (_, _, err) in enumerate(results):
        calls = 1 if number == 0 else 0
        expected = f"{number} {calls} 3000000 inner0 --x=1: no {every}"
        assert expected in err.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_host_that_fails_ends_the_others(victim):
    program = f"""
if hosts.index() == {victim}:
    hosts.fail("no space left")
    sys.exit(1)
hosts.gather(1)  # would wait for ever
"""
    with Group(program) as group:
        began = time.monotonic()
        results = group.results()
    assert time.monotonic() - began < 60
    assert all(status != 0 for status, _, _ in results)
    other = 1 - victim
    message = f"process {other} of 2 stops: process {victim} on {socket.gethostname()} failed: "
    assert message + "no space left" in results[other][2]


@pytest.mark.slow
def test_a_host_that_is_killed_ends_the_others():
    program = """
print("ready", flush=True)
if hosts.index() == 1:
    time.sleep(600)
hosts.gather(1)
"""
    with Group(program) as group:
        assert group.processes[0].stdout.readline() == "ready\n"
        time.sleep(2)
        group.processes[1].send_signal(signal.SIGKILL)
        status, _, err = group.results()[0]
    assert status == 1
    assert "process 0 of 2 stops: process 1 is silent" in err


def test_a_group_that_cannot_be_found_is_one_line(scripts):
    done = scripts.run("whitebox", "--multihost", "--split=conv1")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "--multihost" in line and "JAX_COORDINATOR_ADDRESS" in line


def test_a_wrong_variable_is_one_line(monkeypatch):
    monkeypatch.setenv("JAX_NUM_PROCESSES", "two")
    with pytest.raises(UserError, match="JAX_NUM_PROCESSES=two: expected a number"):
        hosts.initialize()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "flags"),
    [
        ("whitebox", ("--split=relu2", "--method=paper", "--steps=40")),
        # One that is trained, by the first alone.
        ("blackbox", ("--split=relu2", "--fit_steps=20")),
    ],
)
def test_two_hosts_reconstruct_what_one_does(scripts, few, tmp_path, script, flags):
    alone = scripts.record_of(script, *few, *flags, f"--workdir={tmp_path / 'alone'}")
    port, env = _free_port(), scripts.env
    processes = []
    for number in (0, 1):
        scripts.env = {**env, **_variables(number, 2, port)}
        workdir = f"--workdir={tmp_path / f'host{number}'}"
        processes.append(scripts.start(script, *few, *flags, "--multihost", workdir))
    scripts.env = env
    outputs = [process.communicate(timeout=600) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    (out_first, _), (out_second, _) = outputs
    assert out_second == ""
    written = tmp_path / out_first.splitlines()[-1]
    assert written.parts[-2:] == alone.parts[-2:]
    assert not list((tmp_path / "host1").rglob("*"))
    for name in ("psnr", "ssim"):
        found, expected = (json.loads(path.read_text("utf-8"))[name] for path in (written, alone))
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    images = [np.load(path.with_name("images.npz"))["reconstructions"] for path in (written, alone)]
    np.testing.assert_allclose(*images, atol=1e-5)
