"""Whatever an experiment refuses it refuses before it trains, compiles or writes anything."""

import pytest
from scripts import outcome

from jaxinv.errors import UserError
from jaxinv.studies import experiment
from jaxinv.sweeps import grid
from jaxinv.training import targets

ATTACKS = ("whitebox", "blackbox", "queryfree", "defenses", "partition", "convergence")
OF_ALL = [
    ("--split=nowhere", 2, "--split=nowhere: no such layer"),
    ("--split=conv1,", 2, "--split=conv1,: expected names"),
    ("--num_images=0", 2, "--num_images=0"),
    ("--num_images=-1", 2, "--num_images=-1"),
    ("--num_images=1001", 2, "--num_images=1001: the "),
    ("--method=nonsense", 2, "method"),
    ("--checkpoint=missing", 1, "missing: no such checkpoint"),
    ("--data_dir=missing --dataset=mnist", 2, "--data_dir=missing: no such directory"),
    ("--workdir=file/results", 1, "--workdir=file/results cannot be written: Not a directory"),
    ("--workdir=dangling", 1, "--workdir=dangling cannot be written: Not a directory"),
]
CASES = [
    *((name, *case) for name in ATTACKS for case in OF_ALL),
    ("whitebox", "--num_images=1001", 2, "the test split has 1000 images."),
    ("partition", "--num_images=501", 2, "the first half of the test split has 500 images."),
    ("whitebox", "--method=map --tv_weight=1", 2, "--tv_weight=1: --method=map has none"),
    ("whitebox", "--method=tv --tv_weight=printed", 2, "--tv_weight=printed: is for"),
    ("whitebox", "--surrogate=mine", 2, "--surrogate=mine"),
    ("blackbox", "--num_queries=5", 2, "--num_queries=5: expected at least 20"),
    ("defenses", "--defense=nothing", 2, "--defense=nothing: expected"),
    ("defenses", "--defense=dropout --level=1.5", 2, "level=1.5"),
    ("defenses", "--level=1_0", 2, "--level=1_0: expected a number"),
    ("defenses", "--attacker=strong", 2, "--attacker=strong: expected"),
    ("defenses", "--threat_model=greybox", 2, "--threat_model=greybox: expected"),
    ("partition", "--num_images=501", 2, "first half of the test split has 500 images"),
    ("partition", "--profile=missing.toml", 2, "--profile=missing.toml: cannot be read"),
    ("partition", "--profile=toaster", 2, "--profile=toaster: no such profile"),
    ("partition", "--profile=missing.csv", 2, "--profile=missing.csv: cannot be read"),
    ("partition", "--defense=dropout", 2, "--defense=dropout: a level is missing"),
    ("convergence", "--method=slow", 2, "--method=slow: expected some of"),
    ("benchmark", "--split=nowhere", 2, "--split=nowhere: no such layer"),
    ("benchmark", "--batch=2000", 2, "--batch=2000"),
    ("benchmark", "--devices=64", 2, "--devices=64: there are"),
    ("benchmark", "--method=slow", 2, "--method=slow: expected some of"),
    ("train_target", "--epochs=0", 2, "--epochs=0"),
    ("train_target", "--workdir=file/results", 1, "--workdir=file/results cannot be written"),
    ("report", "--formats=gif", 2, "--formats=gif: expected some of"),
    ("report", "--workdir=missing", 1, "--workdir=missing holds no finished run"),
    ("paper", "--dataset=mnits", 2, "--dataset=mnits: expected some of"),
]


@pytest.fixture
def alone(monkeypatch, tmp_path):
    """A folder in which nothing may be trained and nothing may appear."""

    def train(*args, **options):
        raise AssertionError("trained")

    monkeypatch.setattr(targets, "train_run", train)
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _given(name, flags):
    takes = {"dataset", "rerun"} <= experiment.find(name).settings.keys()
    embedded = ["--dataset=mnist_5k"] if takes and "--dataset" not in flags else []
    return [*embedded, *flags.split()]


@pytest.mark.parametrize(("name", "flags", "status", "told"), CASES)
def test_a_run_is_refused_before_work_begins(alone, monkeypatch, name, flags, status, told):
    monkeypatch.setattr("jaxinv.studies.cli.use_compilation_cache", lambda: None)
    found, said = outcome(name, _given(name, flags))
    (line,) = said.splitlines()
    assert (found, told in line) == (status, True), line
    assert sorted(path.name for path in alone.iterdir()) == ["dangling", "file"]


@pytest.mark.parametrize(
    ("name", "flags", "told"),
    [
        (name, flags, told)
        for name, flags, _, told in CASES
        if name not in ("report", "paper") and not flags.startswith(("--workdir", "--devices"))
    ],
)
def test_a_sweep_refuses_what_a_run_refuses(alone, name, flags, told):
    with pytest.raises(UserError) as caught:
        grid.expand(name, grid.parse(name, _given(name, flags)))
    said = told.removeprefix("--").partition(":")[0]
    assert said.partition("=")[0] in str(caught.value)
    assert sorted(path.name for path in alone.iterdir()) == ["dangling", "file"]
