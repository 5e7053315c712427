"""Tables on terminals: aligned columns, and styles where they are shown and nowhere else."""

import os
import subprocess
import sys

import pytest

from jaxinv.constants import kinds
from jaxinv.look import terminal
from jaxinv.look.terminal import aligned, coloured, heading, recommended


class Stdout:
    def __init__(self, is_terminal):
        self.isatty = lambda: is_terminal


@pytest.fixture
def shown_on(monkeypatch):
    """Puts a terminal, or none, in stdout's place, in an environment of some variables."""

    def put(is_terminal=True, **variables):
        for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(terminal.sys, "stdout", Stdout(is_terminal))

    return put


def test_columns_are_as_wide_as_what_they_hold():
    rows = [("cut", "dB", "by"), ("stage1.block3", "9.5", "map"), ("a", "100.0", "")]
    assert aligned(rows, numbers=[1]) == [
        "cut               dB  by",
        "stage1.block3    9.5  map",
        "a              100.0",
    ]
    assert aligned([("cut",)]) == ["cut"] and aligned([]) == []


def test_a_terminal_shows_styles(shown_on):
    shown_on(TERM="xterm")
    assert heading("a") == "\x1b[1ma\x1b[0m" and recommended("a") == "\x1b[1;32ma\x1b[0m"
    verdicts = ("holds", "fails", "undecided")
    assert [coloured("a", each)[2:4] for each in verdicts] == ["32", "31", "33"]


@pytest.mark.parametrize(
    ("is_terminal", "variables", "has_styles"),
    [
        (False, {"TERM": "xterm"}, False),
        (True, {"TERM": "dumb"}, False),
        (True, {}, False),
        (True, {"TERM": "xterm", "NO_COLOR": "1"}, False),
        (True, {"TERM": "xterm", "NO_COLOR": ""}, True),
        (False, {"FORCE_COLOR": "1"}, True),
        (False, {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        (False, {"FORCE_COLOR": "", "TERM": "xterm"}, False),
    ],
)
def test_styles_are_left_out_where_nobody_sees_them(shown_on, is_terminal, variables, has_styles):
    shown_on(is_terminal, **variables)
    assert (heading("a") != "a") is has_styles


def test_words_about_rows_are_found_in_what_has_a_style(shown_on):
    shown_on(FORCE_COLOR="1")
    told = kinds.in_words(coloured("relu2  max_ssim, SSIM 0.2", "fails"), kinds.TABLE)
    assert told == "\x1b[31mrelu2  max_correlation, correlation 0.2\x1b[0m"


@pytest.mark.slow
def test_a_command_stands_out_on_a_terminal_alone():
    pty = pytest.importorskip("pty")
    main, other = pty.openpty()
    environment = {**os.environ, "TERM": "xterm"}
    for name in ("NO_COLOR", "FORCE_COLOR"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "jaxinv", "cuts", "--network=lenet5"]
    with os.fdopen(other, "wb") as terminal_end, os.fdopen(main, "rb") as shown:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=terminal_end,
            stderr=subprocess.PIPE,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        printed = shown.read1(1 << 16).decode()
    assert "\x1b[1mcut " in printed and printed.count("\x1b[0m") == 1
    piped = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert "\x1b" not in piped.stdout and "\ncut " in piped.stdout
