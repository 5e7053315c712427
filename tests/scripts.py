"""Runs experiment scripts as a user does, in processes of their own, or quickly in this one."""

import contextlib
import importlib.util
import io
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

from absl import flags

from jaxinv.studies import cli

ROOT = Path(__file__).resolve().parent.parent
EXPERIMENTS = ROOT / "experiments"
LOADED = "script"  # the module that a script is in a process of tests


def hear_signals():
    """Gives processes that are started from here the usual reaction to signals back.

    A shell's background job ignores interrupts, and `nohup` hangups; children inherit that, but not
    a handler. This process itself goes on ignoring them.
    """
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def load_script(name):
    """A script as a module; its flags are taken back, for other scripts define the same."""
    before, common, numbers = set(flags.FLAGS), [*cli._COMMON], [*cli._NUMBERS]
    spec = importlib.util.spec_from_file_location(name, ROOT / "experiments" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where its dataclasses look for it
    spec.loader.exec_module(module)
    for flag in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, flag)
    cli._COMMON[:], cli._NUMBERS[:] = common, numbers
    return module


@contextlib.contextmanager
def own_flags():
    """absl keeps one set of flags for a process; here scripts have defined none yet.

    Those of libraries stay, for these look for them later.
    """
    shared = flags.FLAGS
    hidden = [(shared[name], owner, name) for name, owner in flags_of_scripts()]
    for *_, name in hidden:
        delattr(shared, name)
    try:
        yield
    finally:
        for name, _ in flags_of_scripts():
            delattr(shared, name)
        for flag, owner, name in hidden:
            if name == flag.name:  # its short name comes along
                flags.DEFINE_flag(flag, shared, owner)


def flags_of_scripts():
    """Names of flags that scripts have defined, with the modules that did."""
    ours = {
        LOADED,
        "__main__",
        "jaxinv.studies.cli",
        *(path.stem for path in EXPERIMENTS.glob("*.py")),
    }
    found = [(name, flags.FLAGS.find_module_defining_flag(name)) for name in flags.FLAGS]
    return [(name, owner) for name, owner in found if owner in ours]


def forget_values():
    """Flags are as they were defined, and those are gone that `cli.run` defines."""
    for name in {"help", "h"} & {*flags.FLAGS}:
        delattr(flags.FLAGS, name)
    for name, _ in flags_of_scripts():
        flags.FLAGS[name].unparse()


class Accepted(Exception):  # noqa: N818
    """A script has checked its flags and would begin."""


@contextlib.contextmanager
def script_of(name):
    """A script in this process, which has its flags alone meanwhile."""
    with own_flags():
        yield runpy.run_path(str(EXPERIMENTS / f"{name}.py"), run_name=LOADED)


def outcome(name, script, arguments):
    """The exit status of a command line, None if it is accepted, and what is said on stderr."""
    out, err = io.StringIO(), io.StringIO()
    sys.argv = [f"{name}.py", *map(str, arguments)]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.run(script["main"])
        except SystemExit as ended:
            return ended.code, err.getvalue()
        except Accepted:
            return None, ""
        finally:
            forget_values()
    raise AssertionError("a script that neither begins nor ends")


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

    def run(self, script, *flags, cwd=None, timeout=120, **options):
        with self.start(script, *flags, cwd=cwd, **options) as process:
            try:
                stdout, stderr = process.communicate(timeout=timeout)
            finally:
                process.kill()
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def answer(self, script, *flags):
        """What a command line that ends soon is answered: exit status, and what stderr has.

        It is run in this process: most of what it takes otherwise are imports.
        """
        with (
            mock.patch.dict(os.environ, self.env),
            mock.patch.object(sys, "argv", sys.argv),
            mock.patch.object(cli, "use_compilation_cache"),
            contextlib.chdir(self.folder),
            script_of(script) as loaded,
        ):
            return outcome(script, loaded, flags)

    def record_of(self, script, *flags, cwd=None):
        """Runs a script that has to succeed; the path that it prints last."""
        done = self.run(script, *flags, cwd=cwd)
        assert done.returncode == 0, done.stderr
        return Path(cwd or self.folder) / done.stdout.splitlines()[-1]

    def kill_when(self, condition, script, *flags, cwd):
        """Starts a script and kills it as soon as `condition()` holds."""
        process = self.start(script, *flags, cwd=cwd)
        try:
            deadline = time.monotonic() + 90
            while not condition():
                assert process.poll() is None, process.communicate()[1]
                assert time.monotonic() < deadline
                time.sleep(0.005)
        finally:
            process.kill()
            process.communicate()
        assert process.returncode == -signal.SIGKILL
