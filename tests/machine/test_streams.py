"""Standard streams take whatever is printed, and need nobody who listens."""

import io
import os
import subprocess
import sys

import pytest
from scripts import ROOT

from jaxinv.machine import streams

PATH = "/w\u00e9/\udcff"
CLOSED = """
import os, sys
for descriptor in map(int, sys.argv[1].split()):
    os.close(descriptor)
os.execv(sys.executable, [sys.executable, "-c", sys.argv[2]])
"""
PRINTS = """
import os, sys
from jaxinv.machine import streams
streams.open_all()
print("out", flush=True)
print("err", file=sys.stderr, flush=True)
assert os.open(os.devnull, os.O_RDONLY) > 2
streams.abandon_stdout()
"""


@pytest.mark.parametrize(
    ("encoding", "written"),
    [("utf-8", b"/w\xc3\xa9/\xff\n"), ("ascii", b"/w\\xe9/\xff\n"), ("latin-1", b"/w\xe9/\xff\n")],
)
def test_a_path_is_written_in_every_encoding(monkeypatch, encoding, written):
    for name in ("stdout", "stderr"):
        stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
        monkeypatch.setattr(sys, name, stream)
    streams.open_all()
    print(PATH, flush=True)
    print(PATH, file=sys.stderr, flush=True)
    assert sys.stdout.buffer.getvalue() == sys.stderr.buffer.getvalue() == written


@pytest.mark.parametrize("closed", ["1", "2", "0 1 2"])
def test_a_closed_stream_is_the_null_device(closed):
    done = subprocess.run(
        [sys.executable, "-c", CLOSED, closed, PRINTS],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == (b"" if "1" in closed else b"out\n")
    assert done.stderr == (b"" if "2" in closed else b"err\n")
