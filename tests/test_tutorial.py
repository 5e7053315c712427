"""The tutorial: its cells run from top to bottom, in a small size and without a notebook.

The study at the end takes minutes in any size: here its command is checked as far as its plan.
"""

import json
import shutil
import sys
import types
from pathlib import Path

import pytest
from scripts import ROOT, keys_used_again

from jaxinv import __main__ as command
from jaxinv.inputs import data
from jaxinv.studies import cli, experiment

PATH = ROOT / "experiments" / "tutorial.ipynb"
SMALL = {"EPOCHS": 1, "NUM_IMAGES": 2, "STEPS": 20, "FIT_STEPS": 20}
SMALL |= {"GALLERY": 100, "STUDY_IMAGES": 4, "WORKDIR": "work"}


@pytest.fixture(scope="module")
def notebook():
    return json.loads(PATH.read_text("utf-8"))


@pytest.mark.slow
def test_the_cells_run_from_top_to_bottom(notebook, tmp_path, monkeypatch, capsys):
    module = types.ModuleType("__main__")  # the cells name a function of theirs
    monkeypatch.setitem(sys.modules, "__main__", module)
    monkeypatch.setattr(command, "main", planned)
    monkeypatch.chdir(tmp_path)
    first, *rest = ["".join(cell["source"]) for cell in notebook["cells"] if is_code(cell)]
    named = vars(module)
    exec(first, named)
    assert SMALL.keys() <= named.keys()
    named |= SMALL
    with keys_used_again():
        for number, cell in enumerate(rest, 2):
            exec(compile(cell, f"<cell {number}>", "exec"), named)
    said = capsys.readouterr().out
    assert "of the test images are classified" in said and "found among 100" in said
    assert (tmp_path / "work" / "tutorial" / "defended.png").is_file()
    assert said.splitlines()[-1] == "planned: relu_2 relu_3"


def planned(arguments):
    """Checks the command of the study, and leaves a picture where it does."""
    name, *flags = arguments
    found = experiment.find(name)
    plan, *_ = found.check(cli._parsed(found, flags, name), None)
    print("planned:", *plan.cuts)
    folder = Path(SMALL["WORKDIR"])
    (folder / name / "run").mkdir(parents=True)
    shutil.copy(folder / "tutorial" / "defended.png", folder / name / "run" / "choices.png")
    return 0


def is_code(cell):
    return cell["cell_type"] == "code"


def test_it_has_no_commands_of_a_notebook_alone_and_is_small(notebook):
    assert PATH.stat().st_size < 300_000
    for cell in filter(is_code, notebook["cells"]):
        assert not any(line.startswith(("%", "!")) for line in cell["source"])


def test_it_needs_no_dataset(notebook):
    text = "".join("".join(cell["source"]) for cell in notebook["cells"])
    assert text.count(f'"{data.EMBEDDED}"') == 1 and f"--dataset={data.EMBEDDED}" in text
