"""The command line of an experiment: flags, output, errors and exit status."""

import dataclasses
import errno
import io
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from scripts import ROOT

from jaxinv.errors import UserError
from jaxinv.studies import cli
from jaxinv.studies.config import PlacesConfig
from jaxinv.studies.experiment import Experiment, setting


@dataclasses.dataclass(frozen=True)
class FakeConfig(PlacesConfig):
    a: str | None = setting(None, "Something.")


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs an experiment of a function; returns the exit status and what is said on stderr."""
    monkeypatch.setattr(cli, "use_compilation_cache", lambda: None)

    def run(main, *arguments):
        fake = Experiment("fake", FakeConfig, lambda config: [{"path": main()}], "Fake.")
        try:
            cli.run(fake, arguments, "some.py")
        except SystemExit as ended:
            return ended.code, capsys.readouterr().err
        return 0, capsys.readouterr().err

    return run


def failing(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize("place", ["file", "file/cache", "n" * 300])
def test_a_cache_of_programs_that_cannot_be_written_is_named_as_what_it_is(
    monkeypatch, tmp_path, capsys, place
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("JAXINV_CACHE", str(tmp_path / place))
    cli.use_compilation_cache()
    said = capsys.readouterr().err
    assert said.startswith(f"The cache of compiled programs {tmp_path / place}/programs/")
    assert "cannot be written (" in said and said.count("\n") == 1 and "workdir" not in said


def test_what_the_system_refuses_is_one_line(run):
    for error, said in (
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device."),
        (PermissionError(errno.EACCES, "Permission denied", "/a"), "Permission denied: /a."),
        (OSError("something"), "something."),
    ):
        assert run(failing(error)) == (1, f"some.py: error: {said}\n")


def test_arguments_are_told_as_flags(run):
    error = UserError("a=b/seed=3: no (seed=1, workdir=x, other=2).")
    said = "some.py: error: --a=b/seed=3: no (--seed=1, --workdir=x, other=2).\n"
    assert run(failing(error)) == (1, said)


def test_a_message_of_several_lines_is_one(run):
    assert run(failing(UserError("--a=1\n2: no.\x85"))) == (1, "some.py: error: --a=1 2: no.\n")


def test_all_records_are_a_line_of_json_where_that_is_asked_for(monkeypatch, capsys):
    monkeypatch.setattr(cli, "use_compilation_cache", lambda: None)
    made = [
        {"path": "/w/1", "psnr_mean": 20.5, "psnr_ci": [20.0, math.nan], "psnr": [20.5] * 17},
        {"path": os.fsdecode(b"/w/\xff"), "told": {"scores": [1.0] * 17}, "cut": None},
    ]
    fake = Experiment("fake", FakeConfig, lambda config: made, "Fake.")
    cli.run(fake, ["--json"], "some.py")
    *_, last = capsys.readouterr().out.splitlines()
    first = {"path": "/w/1", "psnr_mean": 20.5, "psnr_ci": [20.0, None]}
    assert json.loads(last) == {"records": [first, {"path": "/w/\\udcff", "cut": None}]}


@pytest.mark.parametrize("path", ["/wé/\u2028", os.fsdecode(b"/w/\xff")])
def test_a_finished_run_succeeds_where_its_path_cannot_be_spelled(run, monkeypatch, path):
    ascii_alone = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")
    monkeypatch.setattr(sys, "stdout", ascii_alone)
    assert run(lambda: path) == (0, "")
    spelled = ascii_alone.buffer.getvalue()
    assert spelled in (b"/w\\xe9/\\u2028\n", b"/w/\xff\n")


def test_a_finished_run_succeeds_where_nobody_listens(run, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert run(lambda: "x")[0] == 0
    for stream in (sys.stdout, sys.stderr):
        stream.close()


def test_a_file_of_flags_that_is_no_text_is_one_line(run, tmp_path):
    (tmp_path / "flags").write_bytes(b"\xd0\x00")
    status, said = run(failing(None), f"--flagfile={tmp_path / 'flags'}")
    assert status == 2
    assert said.startswith("some.py: error: --flagfile: no text") and said.count("\n") == 1


@pytest.mark.parametrize(
    ("tool", "given", "expected"),
    [
        (True, "", "--xla_gpu_deterministic_ops=true"),
        (True, "--a=1", "--a=1 --xla_gpu_deterministic_ops=true"),
        (True, "--xla_gpu_deterministic_ops=false", "--xla_gpu_deterministic_ops=false"),
        (True, "/a/file", "/a/file"),
        (False, "--a=1", "--a=1"),
    ],
)
def test_runs_on_gpus_are_repeatable_unless_told_otherwise(
    run, monkeypatch, tmp_path, tool, given, expected
):
    if tool:
        (tmp_path / "nvidia-smi").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XLA_FLAGS", given)
    seen = []
    assert run(lambda: seen.append(os.environ["XLA_FLAGS"]) or Path("x"))[0] == 0
    assert seen == [expected]


DAMAGED_PROGRAM = """
import jax, pathlib, sys
from jaxinv.studies import cli

cli.use_compilation_cache()
jax.jit(lambda x: x * 2 + 1)(3.0)
jax.clear_caches()
halves = {}
for path in pathlib.Path(sys.argv[1]).glob("programs/*/*-cache"):
    halves[path] = path.read_bytes()[:-9]
    path.write_bytes(halves[path])
jax.jit(lambda x: x * 2 + 1)(3.0)
assert halves and all(len(path.read_bytes()) > len(half) for path, half in halves.items())
"""


def test_a_program_that_was_written_by_half_is_compiled_and_kept_again(tmp_path):
    subprocess.run(
        [sys.executable, "-c", DAMAGED_PROGRAM, tmp_path],
        env=os.environ | {"JAXINV_CACHE": str(tmp_path), "PYTHONPATH": str(ROOT)},
        check=True,
        timeout=600,
    )


@pytest.mark.parametrize("command", [["whitebox"], ["sweep", "whitebox"]], ids=" ".join)
def test_a_setting_of_jax_that_it_refuses_is_one_line(command):
    done = subprocess.run(
        [sys.executable, "-P", "-m", "jaxinv", *command, "--split=conv1"],
        capture_output=True,
        text=True,
        env={**os.environ, "JAX_ENABLE_X64": "maybe", "PYTHONPATH": str(ROOT)},
    )
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and "JAX refuses its environment: invalid truth value" in line
