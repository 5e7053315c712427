"""Runs experiment scripts as a user does, in processes of their own, or quickly in this one."""

import contextlib
import io
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import jax

from jaxinv.studies import cli

ROOT = Path(__file__).resolve().parent.parent
EXPERIMENTS = ROOT / "experiments"


def hear_signals():
    """Gives processes that are started from here the usual reaction to signals back.

    A shell's background job ignores interrupts, and `nohup` hangups; children inherit that, but not
    a handler. This process itself goes on ignoring them.
    """
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


class Accepted(Exception):  # noqa: N818
    """An experiment has checked its flags and would begin."""


def outcome(name, arguments):
    """The exit status of a command line, None if it is accepted, and what is said on stderr."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main(name, [*map(str, arguments)], f"{name}.py")
        except SystemExit as ended:
            return ended.code, err.getvalue()
        except Accepted:
            return None, ""
    return 0, err.getvalue()


@contextlib.contextmanager
def keys_used_again():
    """Allows it in all threads."""
    jax.config.update("jax_debug_key_reuse", False)
    try:
        yield
    finally:
        jax.config.update("jax_debug_key_reuse", True)


class Scripts:
    """Runs experiment scripts with one cache and one empty home.

    Compiled programs are shared with all others.
    """

    def __init__(self, folder):
        self.folder = folder
        (folder / "cache").mkdir()
        (folder / "cache" / "programs").symlink_to(os.environ["JAXINV_TEST_PROGRAMS"])
        kept = {k: v for k, v in os.environ.items() if k not in ("TFDS_DATA_DIR", "XDG_CACHE_HOME")}
        self.env = {
            **kept,
            "HOME": str(folder),
            "JAXINV_CACHE": str(folder / "cache"),
            "JAX_PLATFORMS": "cpu",
            "PYTHONPATH": str(ROOT),
        }

    def start(self, script, *flags, cwd=None, **options):
        command = [sys.executable, str(ROOT / "experiments" / f"{script}.py"), *map(str, flags)]
        return subprocess.Popen(
            command,
            cwd=cwd or self.folder,
            text=True,
            **{"env": self.env, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
        )

    def run(self, script, *flags, cwd=None, timeout=600, **options):
        with self.start(script, *flags, cwd=cwd, **options) as process:
            try:
                stdout, stderr = process.communicate(timeout=timeout)
            finally:
                process.kill()
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def here(self, script, *flags, cwd=None):
        """Runs a script in this process: nothing is imported anew, and programs stay compiled.

        JAX is as strict as in a process of its own: keys may be used again.
        """
        out, err = io.StringIO(), io.StringIO()
        command = [f"{script}.py", *map(str, flags)]
        status = 0
        with (
            mock.patch.dict(os.environ, self.env),
            mock.patch.object(sys, "argv", command),
            mock.patch.object(cli, "use_compilation_cache"),
            contextlib.chdir(cwd or self.folder),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            keys_used_again(),
        ):
            try:
                runpy.run_path(str(EXPERIMENTS / f"{script}.py"), run_name="__main__")
            except SystemExit as ended:
                status = ended.code or 0
        return subprocess.CompletedProcess(command, status, out.getvalue(), err.getvalue())

    def answer(self, script, *flags):
        """Returns the exit status of a command line, and what it says on stderr."""
        done = self.here(script, *flags)
        return done.returncode, done.stderr

    def record_of(self, script, *flags, cwd=None, own_process=False):
        """Runs a script that has to succeed; returns the path that it prints last."""
        run = self.run if own_process else self.here
        done = run(script, *flags, cwd=cwd)
        assert done.returncode == 0, done.stderr
        return Path(cwd or self.folder) / done.stdout.splitlines()[-1]

    def kill_when(self, condition, script, *flags, cwd):
        """Starts a script and kills it as soon as `condition()` holds."""
        process = self.start(script, *flags, cwd=cwd)
        try:
            deadline = time.monotonic() + 600
            while not condition():
                assert process.poll() is None, process.communicate()[1]
                assert time.monotonic() < deadline
                time.sleep(0.005)
        finally:
            process.kill()
            process.communicate()
        assert process.returncode == -signal.SIGKILL
