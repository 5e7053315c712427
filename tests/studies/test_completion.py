"""Completion of experiments, flags and values, by the shells themselves."""

import os
import shutil
import subprocess
import sys

import pytest

from jaxinv import __main__ as command
from jaxinv.studies import experiment

NAMES = list(experiment.MODULES)
BASH = """
source "$1"
COMP_WORDS=("${@:2}")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_jaxinv
printf '%s\\n' "${COMPREPLY[@]}"
"""
ZSH = """
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell 'PS1= PS2= TERM=dumb; autoload -U compinit; compinit -D'
zpty -w shell "source '$1'; print -l r''eady"
zpty -r shell output '*ready*'
zpty -w -n shell "$2"$'\\t'
zpty -r shell output "*$3*"
print -r -- "$output"
"""


@pytest.fixture(scope="module")
def scripts_of(tmp_path_factory):
    """Files of the scripts that the command prints, by shell."""
    folder = tmp_path_factory.mktemp("completion")
    found = {}
    for shell in ("bash", "zsh"):
        found[shell] = folder / shell
        with pytest.MonkeyPatch.context() as patch, found[shell].open("w") as file:
            patch.setattr(sys, "stdout", file)
            assert command.main(["completion", shell]) == 0
    return found


@pytest.fixture(scope="module")
def completed(scripts_of):
    """Completes words of a line in bash, as it divides them."""

    def completed(*words):
        given = ["bash", "-c", BASH, "bash", scripts_of["bash"], "jaxinv", *words]
        done = subprocess.run(given, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        return [line for line in done.stdout.splitlines() if line]

    return completed


def test_experiments_are_completed(completed):
    assert completed("") == [f"{name} " for name in (*NAMES, "sweep", "completion")]
    assert completed("white") == ["whitebox "]
    assert completed("sweep", "pa") == ["partition "]  # the paper is swept by itself
    assert completed("completion", "") == ["bash ", "zsh "]
    assert completed("nothing", "--x") == []


@pytest.mark.parametrize("name", NAMES)
def test_all_flags_of_an_experiment_are_completed(completed, name):
    flags = {"--help "}
    for each in experiment.find(name).settings.values():
        is_switch = each.kind is bool
        flags |= {f"--{each.name} ", f"--no{each.name} "} if is_switch else {f"--{each.name}="}
    assert set(completed(name, "--")) == flags
    if experiment.find(name).leaves_runs:
        assert set(completed("sweep", name, "--dataset", "=", "mnist", "--")) == flags


def test_values_are_completed_however_the_shell_divides_words(completed):
    methods = experiment.find("whitebox").settings["method"].choices
    assert completed("whitebox", "--method", "=") == [f"{name} " for name in methods]
    assert completed("whitebox", "--seed", "=", "1", "--method", "=", "hy") == ["hybrid "]
    assert completed("whitebox", "--method=hy") == ["--method=hybrid "]
    assert completed("sweep", "whitebox", "--method", "=", "t") == ["tv "]
    assert completed("whitebox", "--workdir", "=", "") == []  # the shell's own: names of files


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("jaxinv whiteb", "whitebox "),
        ("jaxinv whitebox --meth", "--method="),
        ("jaxinv whitebox --method=hy", "--method=hybrid "),
        ("jaxinv sweep whitebox --method=hy", "--method=hybrid "),
        ("jaxinv sweep part", "partition "),
    ],
)
def test_zsh_completes_a_line(scripts_of, line, expected):
    given = ["zsh", "-f", "-c", ZSH, "zsh", scripts_of["zsh"], line, expected]
    environ = os.environ | {"HOME": str(scripts_of["zsh"].parent)}
    done = subprocess.run(given, capture_output=True, text=True, env=environ, timeout=60)
    assert expected in done.stdout


def test_the_script_of_zsh_has_all_flags(scripts_of):
    text = scripts_of["zsh"].read_text("utf-8")
    for name in NAMES:
        (part,) = (each for each in text.split(" ;;") if f"    {name}) _arguments" in each)
        for each in experiment.find(name).settings.values():
            assert f"'--{each.name}[" in part or f"'--{each.name}=[" in part
            assert each.choices is None or f"({' '.join(each.choices)})'" in part


@pytest.mark.parametrize("given", [[], ["fish"], ["bash", "zsh"]], ids=" ".join)
def test_shells_that_are_not_known_are_refused(capsys, given):
    assert command.main(["completion", *given]) == 2
    said = capsys.readouterr().err
    assert said.startswith("jaxinv: error: completion") and "one of bash, zsh." in said
