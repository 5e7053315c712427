"""Styles on terminals: printed where they are shown, and nowhere else."""

import os
import subprocess
import sys

import pytest

from jaxinv.machine import terminal
from jaxinv.machine.terminal import BOLD, GREEN, styled


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


def test_a_terminal_shows_styles_line_by_line(shown_on):
    shown_on(TERM="xterm")
    assert styled("a", BOLD, GREEN) == "\x1b[1;32ma\x1b[0m"
    assert styled("a\n\nb", BOLD) == "\x1b[1ma\x1b[0m\n\n\x1b[1mb\x1b[0m"
    assert styled("a") == "a"


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
    assert (styled("a", BOLD) != "a") is has_styles


def test_a_command_stands_out_on_a_terminal_alone():
    pty = pytest.importorskip("pty")
    main, other = pty.openpty()
    environment = {**os.environ, "TERM": "xterm"}
    del environment["NO_COLOR"]
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
