"""Experiments as values: their flags, their help, and the command that repeats a run."""

import ast
import dataclasses
from pathlib import Path

import pytest
from scripts import EXPERIMENTS

from jaxinv import __main__ as command
from jaxinv.errors import UsageError
from jaxinv.studies import cli, experiment
from jaxinv.studies.config import AttackConfig
from jaxinv.studies.experiment import Experiment, setting

NAMES = list(experiment.MODULES)


@dataclasses.dataclass(frozen=True)
class SampleConfig(AttackConfig):
    split: tuple[str, ...] = ("relu2",)
    method: str = setting("fast", "How.", choices=("fast", "slow"))
    level: tuple[str, ...] | None = setting(None, "Levels.")
    sizes: tuple[int, ...] = setting((1, 10), "Sizes.")
    rate: float | None = setting(None, "A rate.", least=0.5)
    box: bool | None = setting(None, "A switch.")


SAMPLE = Experiment("sample", SampleConfig, lambda config: [], "Sample: of all kinds.")


def parsed(*arguments):
    return cli._parsed(SAMPLE, arguments, "sample")


def test_flags_are_the_fields_of_the_configuration():
    assert parsed() == SampleConfig()
    config = parsed("--split=a, b", "--method=slow", "--sizes=3,3,2", "--rate=.5", "--nobox")
    assert (config.split, config.method, config.sizes) == (("a", "b"), "slow", (3, 2))
    assert (config.rate, config.box, config.level) == (0.5, False, None)
    assert parsed("--seed=4294967295", "--split=").split == ()


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--method=none", "fast.*slow"),
        ("--level=1,", "names, one or several"),
        ("--level=", "names, one or several"),
        ("--sizes=3,x", "positive numbers below 2"),
        ("--sizes=0", "positive numbers below 2"),
        ("--sizes=,", "positive numbers, one or several"),
        ("--rate=nan", "finite"),
        ("--rate=.4", "0.5"),
        ("--num_images=0", r"\[1, 2147483647\]"),
        ("--seed=-1", r"\[0, 4294967295\]"),
    ],
)
def test_a_value_that_is_not_allowed_is_told_with_its_flag(flag, said):
    with pytest.raises((UsageError, cli.flags.Error), match=said) as error:
        parsed(flag)
    assert flag in str(error.value)


def test_a_setting_with_another_default_keeps_its_text():
    settings, shared = SAMPLE.settings, experiment.settings_of(AttackConfig)
    assert settings["split"].text == shared["split"].text
    assert settings["split"].default == ("relu2",) != shared["split"].default
    assert [name for name in settings if not settings[name].shared] == [
        *("method", "level", "sizes", "rate", "box")
    ]


def test_what_is_spelled_makes_the_same_configuration_again():
    for config in (
        SampleConfig(),
        SampleConfig(split=("a", "b"), method="slow", level=("0", ".5"), rate=0.7 + 0.1, box=False),
        SampleConfig(sizes=(7,), box=True, seed=3, checkpoint="a b"),
    ):
        flags = experiment.spelled(config)
        assert parsed(*(f"--{name}={value}" for name, value in flags.items())) == config
    assert experiment.spelled(SampleConfig(workdir="x", data_dir="y", rerun=True)) == {}
    assert experiment.spelled(SampleConfig(box=True), split=("relu2",), level=None) == {
        "split": "relu2",
        "box": "true",
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_help_of_each_experiment_has_all_settings(name, capsys):
    cli.main(name, ["--help"], f"jaxinv {name}")
    said = capsys.readouterr()
    found = experiment.find(name)
    assert said.err == "" and said.out.startswith(experiment.summary(name))
    assert max(map(len, said.out.splitlines())) <= 100
    for each in found.settings.values():
        assert f"\n  --{'[no]' * (each.kind is bool)}{each.name}" in said.out
        assert each.text and each.text[-1] in ".)"
    assert said.out.splitlines()[-1] == f"Run as: jaxinv {name} [--flag=value ...]"
    assert said.out.count("\nFlags of ") == (1 if name == "cuts" else 2)


def test_no_two_configurations_have_one_name():
    kinds = {experiment.find(name).Config for name in NAMES}
    assert len({kind.__name__ for kind in kinds}) == len(kinds) == len(NAMES)


def test_the_scripts_are_the_experiments():
    scripts = {path.stem: path for path in EXPERIMENTS.glob("[!_]*.py")}
    assert sorted(scripts) == sorted(NAMES)
    for name, path in scripts.items():
        text = path.read_text("utf-8")
        assert ast.get_docstring(ast.parse(text)) == experiment.summary(name)
        assert f'cli.main("{name}")' in text


def test_the_command_lists_experiments_and_knows_no_others(capsys):
    for arguments in ([], ["--help"], ["-h"]):
        assert command.main(arguments) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[0] for line in lines[-len(NAMES) :]] == NAMES
    assert command.main(["whitebocks"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("jaxinv: error: whitebocks: ") and said.count("\n") == 1
    for name in (*NAMES, "sweep"):
        assert name in said


def test_the_command_runs_sweeps_and_experiments(capsys):
    assert command.main(["sweep", "whitebox", "--seed=x"]) == 2
    assert "sweep: error: " in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        command.main(["whitebox", "--seed=x"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("jaxinv whitebox: error: flag --seed=x")


def test_a_folder_below_home_is_found(monkeypatch):
    monkeypatch.setenv("HOME", "/home/of/me")
    assert parsed("--workdir=~/x").workdir == "/home/of/me/x"
    assert Path(SampleConfig().workdir) == Path("results")
