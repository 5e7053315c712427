"""Tests of launch.sh on a small checkout, with stand-ins for Python, uv and nvidia-smi.

The PATH holds nothing but the stand-ins and the few tools that the script may use, so nothing is
installed and no network is asked.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

BASH = shutil.which("bash")
if BASH is None:
    pytest.skip("launch.sh needs bash", allow_module_level=True)

SOURCE = Path(__file__).parent.parent / "launch.sh"
TOOLS = "awk bash cat cksum dirname env ln ls mkdir mktemp mv paste readlink rm sed sleep sort tail"
TOOLS += " tr chmod"  # chmod is for the stand-ins

PYPROJECT = """[project]
name = "jaxinv"
[project.optional-dependencies]
cuda = ["a"]
tpu = ["b"]
prepare = ["c"]
test = ["d"]
[tool.other]
secret = ["e"]
"""

HELLO = '''"""Says hello.

At length.
"""

import os
import sys

print([os.getpid(), os.getcwd(), *sys.argv[1:]])
sys.exit(7)
'''

# What makes an environment, with a python in it that notes its pip and pytest calls.
MAKE_ENVIRONMENT = f"""
make_environment() {{
  mkdir -p "$1/bin"
  cat >"$1/bin/python" <<'SCRIPT'
#!{BASH}
[[ $1 == -m || $2 == -m ]] || exec '{sys.executable}' "$@"
echo "$*" >>"$CALLS"
[[ $2 == pip ]] || exit 0
sleep "${{PIP_SECONDS:-0}}"
echo 'the reason'
exit "${{PIP_STATUS:-0}}"
SCRIPT
  chmod +x "$1/bin/python"
}}
"""

PYTHON = """
if [[ $1 == -c ]]; then
  [[ $2 == *ensurepip* ]] && exit "${VENV_STATUS:-0}"
  exit 0
fi
echo "${0##*/} $2" >>"$CALLS"
make_environment "$3"
exit "${VENV_STATUS:-0}"
"""

UV = """
echo "uv $*" >>"$CALLS"
if [[ $1 == venv ]]; then make_environment "${@: -1}"; fi
"""


class Checkout:
    """A small checkout in a folder with a space, and a PATH of stand-ins."""

    def __init__(self, home: Path) -> None:
        self.root = home / "check out"
        self.user = home / "user"
        self.tools = home / "tools"
        self.venv = self.root / ".venv"
        self.calls_file = home / "calls"
        self.temporary = home / "tmp"
        for folder in (self.root / "experiments", self.root / "jaxinv", self.user, self.tools):
            folder.mkdir(parents=True)
        self.temporary.mkdir()
        shutil.copy(SOURCE, self.root)
        (self.root / "pyproject.toml").write_text(PYPROJECT)
        (self.root / "jaxinv/__init__.py").touch()
        (self.root / "experiments/hello.py").write_text(HELLO)
        (self.root / "experiments/_flags.py").write_text('"""Shared flags."""\n')
        for name in TOOLS.split():
            tool = shutil.which(name)
            assert tool, f"launch.sh needs {name}"
            (self.tools / name).symlink_to(tool)
        self.add("python3", PYTHON)

    def add(self, name: str, body: str) -> None:
        """Puts a bash script on the PATH."""
        path = self.tools / name
        path.write_text(f"#!{BASH}\n{MAKE_ENVIRONMENT}{body}")
        path.chmod(0o755)

    def replace(self, name: str, body: str) -> None:
        """Puts a bash script in the place of a tool."""
        (self.tools / name).unlink()
        self.add(name, body)

    def start(self, *args: str, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(self.root / "launch.sh"), *args],
            cwd=self.user,
            env={
                "PATH": str(self.tools),
                "CALLS": str(self.calls_file),
                "TMPDIR": str(self.temporary),
                **env,
            },
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*args, **env)
        out, err = process.communicate(timeout=30)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def peek(self) -> list[str]:
        return self.calls_file.read_text("utf-8").splitlines() if self.calls_file.exists() else []

    def calls(self) -> list[str]:
        """Commands called since the last time this was asked."""
        calls = self.peek()
        self.calls_file.unlink(missing_ok=True)
        return calls

    def pip_call(self, extras: str = "") -> str:
        return f"-m pip install -e {self.root}{extras}"


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path.resolve())


def only_line(err: str) -> str:
    (line,) = err.splitlines()
    assert line.startswith("jaxinv: ")
    return line


def wait_for(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_first_start_sets_up_and_runs_the_experiment_where_the_user_is(checkout):
    process = checkout.start("hello", "--a=b c", "", "*")
    out, err = process.communicate(timeout=30)

    assert process.returncode == 7
    # The same process id: the experiment replaced the script, so signals reach it.
    assert out == f"{[process.pid, str(checkout.user), '--a=b c', '', '*']}\n"
    assert [line[: len("jaxinv: set")] for line in err.splitlines()] == ["jaxinv: set"] * 2
    assert checkout.calls() == ["python3 venv", checkout.pip_call()]
    assert not list(checkout.temporary.iterdir())
    assert not os.path.lexists(f"{checkout.venv}.lock")


def test_later_starts_install_only_what_changed(checkout):
    checkout.run("hello")
    checkout.calls()

    again = checkout.run("hello")
    assert (again.returncode, again.stderr, checkout.calls()) == (7, "", [])

    (checkout.root / "pyproject.toml").write_text(PYPROJECT + "# changed\n")
    checkout.run("hello")
    assert checkout.calls() == [checkout.pip_call()]


def test_a_moved_checkout_is_installed_anew(checkout):
    checkout.run("hello")
    checkout.calls()
    checkout.root = checkout.root.rename(checkout.root.parent / "moved")

    assert checkout.run("hello").returncode == 7
    assert checkout.calls() == [checkout.pip_call()]


@pytest.mark.parametrize(
    ("nvidia_status", "env", "extras"),
    [
        (0, {}, "[cuda]"),
        (9, {}, ""),
        (9, {"TPU_NAME": "local"}, "[tpu]"),
        (0, {"JAXINV_EXTRAS": ""}, ""),
        (0, {"JAXINV_EXTRAS": "prepare, cuda"}, "[cuda,prepare]"),
    ],
)
def test_extras_follow_the_devices_unless_given(checkout, nvidia_status, env, extras):
    if Path("/dev/accel0").exists():
        pytest.skip("this machine has a TPU")
    checkout.add("nvidia-smi", f"exit {nvidia_status}")
    assert checkout.run("hello", **env).returncode == 7
    assert checkout.calls() == ["python3 venv", checkout.pip_call(extras)]


def test_a_machine_known_for_its_gpu_is_not_asked_again(checkout):
    checkout.add("nvidia-smi", 'echo asked >>"$CALLS"')
    checkout.run("hello")
    assert checkout.calls() == ["asked", "python3 venv", checkout.pip_call("[cuda]")]
    checkout.run("hello")
    assert checkout.calls() == []


def test_relative_environment_is_in_the_users_folder(checkout):
    assert checkout.run("test", JAXINV_VENV="new/venv/").returncode == 0
    assert (checkout.user / "new/venv/bin/python").exists()
    assert not checkout.venv.exists()


def test_the_test_verb_adds_its_extra_and_none_is_forgotten(checkout):
    checkout.run("hello", JAXINV_EXTRAS="prepare")
    checkout.calls()

    assert checkout.run("test", "-k", "a b", JAXINV_EXTRAS="").returncode == 0
    pip, tests = checkout.calls()
    assert pip == checkout.pip_call("[prepare,test]")
    assert re.fullmatch("-m pytest -n .*--dist=loadfile --no-loadscope-reorder -k a b", tests)
    assert checkout.run("hello", JAXINV_EXTRAS="prepare").returncode == 7
    assert checkout.calls() == []


@pytest.mark.parametrize("name", ["cuda12", "secret"])
def test_unknown_extra_is_a_usage_error(checkout, name):
    result = checkout.run("hello", JAXINV_EXTRAS=f"cuda,{name}")
    assert result.returncode == 2
    assert f"'{name}'; allowed are cuda tpu prepare test" in only_line(result.stderr)
    assert not checkout.venv.exists()


def test_the_first_fitting_python_is_taken(checkout):
    checkout.add("python3", "exit 1")
    checkout.add("python3.12", PYTHON)
    checkout.add("python3.11", PYTHON)
    checkout.run("setup", JAXINV_VENV="one")
    assert checkout.calls()[0] == "python3.12 venv"

    checkout.add("python3", PYTHON)
    checkout.add("special", PYTHON)
    checkout.run("setup", JAXINV_VENV="two", PYTHON="special")
    assert checkout.calls()[0] == "special venv"


def test_no_fitting_python_is_said_and_leaves_nothing(checkout):
    checkout.add("python3", "exit 1")
    result = checkout.run("hello")
    assert result.returncode == 1
    for part in ("3.11", "apt install python3", "brew install python", "PYTHON="):
        assert part in result.stderr.splitlines()[-1]
    assert not checkout.venv.exists()


def test_python_without_venv_is_said_and_leaves_nothing(checkout):
    result = checkout.run("hello", VENV_STATUS="1")
    assert result.returncode == 1
    assert "apt install python3-venv" in result.stderr.splitlines()[-1]
    assert not checkout.venv.exists()
    assert not list(checkout.temporary.iterdir())


@pytest.mark.parametrize("folder", ["/nonexistent", "missing here", "a file", "$HOME"])
def test_a_temporary_folder_that_cannot_be_used_is_none(checkout, folder):
    (checkout.user / "a file").touch()
    result = checkout.run("hello", TMPDIR=folder)
    assert (result.returncode, len(result.stderr.splitlines())) == (7, 2), result.stderr


def test_no_temporary_folder_at_all_is_one_line(checkout):
    checkout.replace("mktemp", "exit 1")
    result = checkout.run("hello", TMPDIR="/nonexistent")
    assert result.returncode == 1
    assert "TMPDIR=/nonexistent, nor in /tmp" in only_line(result.stderr)
    assert not checkout.venv.exists() and not os.path.lexists(f"{checkout.venv}.lock")


def test_uv_is_preferred(checkout):
    checkout.add("uv", UV)
    assert checkout.run("hello").returncode == 7
    assert checkout.calls() == [
        f"uv venv --allow-existing --python >=3.11 {checkout.venv}",
        f"uv pip install --python {checkout.venv}/bin/python -e {checkout.root}",
    ]


def test_failed_installation_shows_why_and_is_not_taken_for_complete(checkout):
    failed = checkout.run("hello", PIP_STATUS="1")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "the reason" in failed.stderr
    (log,) = checkout.temporary.iterdir()
    assert str(log) in failed.stderr.splitlines()[-1]
    checkout.calls()

    assert checkout.run("hello").returncode == 7
    assert checkout.calls() == ["python3 venv", checkout.pip_call()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_interrupted_set_up_is_made_anew(checkout, number):
    process = checkout.start("hello", PIP_SECONDS="3")
    wait_for(lambda: len(checkout.peek()) == 2)
    process.send_signal(number)
    assert process.wait(timeout=2) == (-9 if number == signal.SIGKILL else 128 + number)
    process.communicate()
    assert os.path.lexists(f"{checkout.venv}.lock") == (number == signal.SIGKILL)
    checkout.calls()

    assert checkout.run("hello").returncode == 7
    assert checkout.calls() == ["python3 venv", checkout.pip_call()]


def test_interrupted_update_is_made_anew(checkout):
    checkout.run("hello")
    checkout.run("hello", JAXINV_EXTRAS="prepare", PIP_STATUS="1")
    checkout.calls()
    assert checkout.run("hello").returncode == 7
    assert checkout.calls() == ["python3 venv", checkout.pip_call()]


def test_concurrent_first_starts_set_up_once(checkout):
    Path(f"{checkout.venv}.lock").symlink_to(f"{os.uname().nodename}:4194305")  # nobody's
    processes = [checkout.start("hello", PIP_SECONDS="0.5") for _ in range(4)]
    for process in processes:
        process.communicate(timeout=30)
    assert [process.returncode for process in processes] == [7] * 4
    assert checkout.calls() == ["python3 venv", checkout.pip_call()]


def test_lock_of_another_machine_is_waited_for(checkout):
    lock = Path(f"{checkout.venv}.lock")
    lock.symlink_to("elsewhere:1")
    process = checkout.start("hello")
    assert process.stderr is not None
    assert "elsewhere:1" in process.stderr.readline()
    assert checkout.calls() == []
    lock.unlink()
    process.communicate(timeout=30)
    assert process.returncode == 7


def test_a_folder_that_is_no_environment_is_left_alone(checkout):
    (checkout.user / "thesis.txt").touch()
    result = checkout.run("hello", JAXINV_VENV=".")
    assert result.returncode == 1
    assert "no Python environment" in result.stderr.splitlines()[-1]
    assert (checkout.user / "thesis.txt").exists()
    assert checkout.calls() == []


def test_an_environment_of_the_users_is_kept(checkout):
    checkout.run("hello", JAXINV_VENV="mine")
    for mark in ("jaxinv-stamp", "jaxinv-made"):
        (checkout.user / "mine" / mark).unlink()
    checkout.calls()

    for status in ("1", "0"):
        checkout.run("hello", JAXINV_VENV="mine", PIP_STATUS=status)
        assert checkout.calls() == [checkout.pip_call()]


def test_a_home_folder_in_the_environments_path(checkout):
    home = str(checkout.user / "home")
    checkout.run("setup", JAXINV_VENV="~/mine", HOME=home)
    assert (checkout.user / "home" / "mine" / "jaxinv-made").exists()
    assert not list(checkout.user.glob("~*"))
    for path, given in (("~somebody/mine", home), ("~/mine", "")):
        result = checkout.run("setup", JAXINV_VENV=path, HOME=given)
        assert result.returncode == 2
        assert f"JAXINV_VENV={path}: " in only_line(result.stderr)


def test_unwritable_place_is_said(checkout):
    (checkout.user / "file").touch()
    result = checkout.run("hello", JAXINV_VENV="file/venv")
    assert result.returncode == 1
    assert "JAXINV_VENV" in only_line(result.stderr)


@pytest.mark.parametrize("is_this_checkout", [True, False])
def test_an_active_environment_with_this_checkout_is_used(checkout, is_this_checkout):
    folder = checkout.root if is_this_checkout else checkout.user
    for name in ("jaxinv", "jax", "flax"):
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "__init__.py").touch()
    checkout.add("python", f"PYTHONPATH='{folder}' exec '{sys.executable}' \"$@\"")

    assert checkout.run("hello").returncode == 7
    assert checkout.venv.exists() != is_this_checkout


def test_unknown_experiment_lists_those_there_are(checkout):
    for name in ("helo", "_flags", "../experiments/hello"):
        result = checkout.run(name)
        assert result.returncode == 2
        assert only_line(result.stderr).endswith(f"'{name}'; there are: hello")
    assert not checkout.venv.exists()


def test_the_sweep_verb_hands_its_arguments_on(checkout):
    assert checkout.run("sweep", "hello", "--seed=0,1", "a b").returncode == 0
    sweep = "-P -m jaxinv.sweeps hello --seed=0,1 a b"
    assert checkout.calls() == ["python3 venv", checkout.pip_call(), sweep]
    assert checkout.run("sweep", "--help").returncode == 0
    assert checkout.calls() == ["-P -m jaxinv.sweeps --help"]


def test_a_sweep_of_an_unknown_experiment_makes_no_environment(checkout):
    result = checkout.run("sweep", "helo", "--seed=0,1")
    assert result.returncode == 2
    assert only_line(result.stderr).endswith("'helo'; there are: hello")
    assert not checkout.venv.exists()


@pytest.mark.parametrize("args", [(), ("help",), ("--help",)])
def test_help_lists_experiments_with_their_first_line(checkout, args):
    result = checkout.run(*args)
    assert (result.returncode, result.stderr) == (0, "")
    assert "  hello          Says hello.\n" in result.stdout
    assert "_flags" not in result.stdout
    for name in ("JAXINV_VENV", "JAXINV_EXTRAS", "PYTHON", "JAXINV_CACHE", "JOBS", "EXECUTOR"):
        assert f"\n  {name} " in result.stdout
    assert not checkout.venv.exists()
