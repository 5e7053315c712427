"""A value is read by one rule: in runs, in sweeps, alone and among others."""

import pytest
from absl import flags

from jaxinv.errors import UsageError
from jaxinv.studies import experiment
from jaxinv.studies.config import PlacesConfig
from jaxinv.sweeps import grid


def in_a_run(name, flag, text):
    """The value that a run reads, None if it is refused."""
    values = experiment.find(name).define_flags()
    try:
        values(["run", f"--{flag}={text}"])
    except flags.Error:
        return None
    return values[flag].value


def in_a_sweep(name, flag, text):
    """The values that a sweep reads, None if it is refused."""
    try:
        return grid.values(name, flag, text)
    except UsageError:
        return None


@pytest.mark.parametrize(
    "text", ["conv1,", ",conv1", "conv1,,relu1", " , ", ",", "conv1,,", 'conv1,"', "conv1\n,"]
)
@pytest.mark.parametrize(
    ("name", "flag"),
    [("whitebox", "split"), ("partition", "split"), ("defenses", "defense"), ("defenses", "level")],
)
def test_a_list_with_a_gap_is_refused(name, flag, text):
    assert in_a_run(name, flag, text) is None
    assert in_a_sweep(name, flag, text) is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("conv1", ["conv1"]),
        (" conv1 , relu1", ["conv1", "relu1"]),
        ("conv1,conv1", ["conv1", "conv1"]),
        ("all,conv1", ["all", "conv1"]),
        ("conv1 relu1", ["conv1 relu1"]),
        ("", []),
    ],
)
def test_a_list_is_the_same_in_runs_and_sweeps(text, found):
    assert in_a_run("whitebox", "split", text) == found
    assert in_a_sweep("whitebox", "split", text) == (list(dict.fromkeys(found)) or [""])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (".5", [0.5]),
        ("0.485, 456e-3 ,.406", [0.485, 0.456, 0.406]),
        ("-1,-1", [-1.0, -1.0]),
        *((text, None) for text in (".5,", "", "inf", "a", "1_0")),
    ],
)
def test_a_list_of_numbers_keeps_signs_and_repeats(text, found):
    assert in_a_run("whitebox", "mean", text) == found
    assert in_a_sweep("whitebox", "mean", text) == (None if found is None else [text.strip()])


@pytest.mark.parametrize(
    ("flag", "text", "found"),
    [
        ("seed", "5", 5),
        ("seed", " 5", 5),
        ("seed", "05", 5),
        ("seed", "1_000", None),
        ("seed", "0x10", None),
        ("seed", "1e3", None),
        ("seed", "\u0663", None),
        ("seed", "-1", None),
        ("seed", "", None),
        ("seed", "9" * 5000, None),
        ("beta", "1.5", 1.5),
        ("beta", " .5", 0.5),
        ("beta", "1e0", 1.0),
        ("beta", "1_0", None),
        ("beta", "\u0663", None),
        ("beta", "inf", None),
        ("beta", "nan", None),
        ("beta", "1e999", None),
        ("beta", "0.01", None),
        ("method", " paper", "paper"),
        ("method", "Paper", None),
        ("dataset", " mnist ", "mnist"),
    ],
)
def test_a_value_is_the_same_in_runs_and_sweeps(flag, text, found):
    assert in_a_run("whitebox", flag, text) == found
    assert in_a_sweep("whitebox", flag, text) == (None if found is None else [str(found)])


def test_a_path_keeps_its_spaces_and_commas():
    assert in_a_run("whitebox", "data_dir", " a, b ") == " a, b "
    assert in_a_sweep("whitebox", "data_dir", " a, b ") == [" a, b "]


@pytest.mark.parametrize("name", ["workdir", "data_dir"])
def test_a_home_is_found_or_refused(monkeypatch, tmp_path, name):
    monkeypatch.setenv("HOME", str(tmp_path))
    for text, path in (("~/x", f"{tmp_path}/x"), ("~", str(tmp_path)), ("$HOME/x", "$HOME/x")):
        assert getattr(PlacesConfig(**{name: text}), name) == path
        assert in_a_sweep("whitebox", name, text) == [path]
    for text, told in (
        ("~no one/x", "no such home folder"),
        ("a\0b", "null character"),
        (
            "\ud800",
            "the encoding of names here",
        ),
    ):
        with pytest.raises(UsageError, match=f"^{name}=.*{told}"):
            PlacesConfig(**{name: text})
        with pytest.raises(UsageError, match=f"^{name}=.*{told}"):
            grid.values("whitebox", name, text)
