"""The tutorial: its cells run from top to bottom, in a small size and without a notebook."""

import json
import sys
import types

import pytest
from scripts import ROOT, keys_used_again

from jaxinv.inputs import data
from jaxinv.studies import cli

PATH = ROOT / "experiments" / "tutorial.ipynb"
SMALL = {"EPOCHS": 1, "NUM_IMAGES": 2, "FIT_STEPS": 20, "GALLERY": 100, "WORKDIR": "work"}
STUDY = {"num_images": 4, "fit_steps": 20}


@pytest.fixture(scope="module")
def notebook():
    return json.loads(PATH.read_text("utf-8"))


def test_the_cells_run_from_top_to_bottom(notebook, tmp_path, monkeypatch, capsys):
    module = types.ModuleType("__main__")  # the cells name a function of theirs
    monkeypatch.setitem(sys.modules, "__main__", module)
    monkeypatch.setattr(cli, "use_compilation_cache", lambda: None)
    monkeypatch.chdir(tmp_path)
    first, *rest = ["".join(cell["source"]) for cell in notebook["cells"] if is_code(cell)]
    named = vars(module)
    exec(first, named)
    assert {"STUDY", *SMALL} <= named.keys()
    named |= SMALL | {"STUDY": named["STUDY"] | STUDY}
    with keys_used_again():
        for number, cell in enumerate(rest, 2):
            exec(compile(cell, f"<cell {number}>", "exec"), named)
    said = capsys.readouterr().out
    assert "of the test images are classified" in said and "found among 100" in said
    assert (tmp_path / "work" / "tutorial" / "defended.png").is_file()
    assert said.splitlines()[-1].endswith("record.json")


def is_code(cell):
    return cell["cell_type"] == "code"


def test_it_has_no_commands_of_a_notebook_alone_and_is_small(notebook):
    assert PATH.stat().st_size < 300_000
    for cell in filter(is_code, notebook["cells"]):
        assert not any(line.startswith(("%", "!")) for line in cell["source"])


def test_it_needs_no_dataset(notebook):
    text = "".join("".join(cell["source"]) for cell in notebook["cells"])
    assert text.count(f'"{data.EMBEDDED}"') == 1 and f"--dataset={data.EMBEDDED}" in text
