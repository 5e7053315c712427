"""README and guides: their Python runs as it stands, and what they name exists."""

import importlib
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import foreign
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from jaxinv.errors import UsageError
from jaxinv.networks import zoo
from jaxinv.studies import experiment
from jaxinv.studies.scenes import resolve_splits
from jaxinv.sweeps import grid
from jaxinv.tables import blocks, markdown, plan
from jaxinv.tables import experiment as tables

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "experiments").glob("*.md"))]
IDS = [page.relative_to(ROOT).as_posix() for page in PAGES]


def printed_by_example(page):
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text("utf-8"), re.S)
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_the_example_of_a_network_of_ones_own():
    cuts, quality = printed_by_example("README.md")
    assert cuts == "stem relu add relu_2 max_pool head"
    psnr, ssim = re.fullmatch(r"([\d.]+) dB, SSIM ([\d.]+)", quality).groups()
    assert float(psnr) > 25 and float(ssim) > 0.9


def test_the_example_of_an_attack_of_ones_own():
    (quality,) = printed_by_example("experiments/extending.md")
    (psnr,) = re.fullmatch(r"([\d.]+) dB", quality).groups()
    assert float(psnr) > 10


def test_the_readme_can_be_read_in_minutes():
    assert len(PAGES[0].read_text("utf-8").splitlines()) <= 250


def test_the_citation_is_of_this_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    cited = (ROOT / "CITATION.cff").read_text("utf-8").splitlines()
    assert {f"version: {project['version']}", f"license: {project['license']}"} <= set(cited)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_script_that_is_named_exists(page):
    scripts = set(re.findall(r"experiments/\w+\.py", page.read_text("utf-8")))
    assert all((ROOT / script).is_file() for script in scripts)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_link_leads_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), link
        if anchor:
            heads = re.findall(r"^#+ (.*)$", there.read_text("utf-8"), re.M)
            named = {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}
            assert anchor in named, link


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_module_and_test_that_is_named_exists(page):
    named = re.findall(r"`((?:jaxinv|tests)/[\w/.]+)`", page.read_text("utf-8"))
    missing = [path for path in named if not (ROOT / path).exists()]
    assert not missing


TABLES = ROOT / "experiments" / "tables.toml"


def test_tables_in_pages_are_what_was_measured():
    kept = tables.read_kept(TABLES.with_suffix(".json"))
    known = plan.read(TABLES)
    pages = [(TABLES.parent / page).read_text("utf-8") for page in known.pages]
    assert {table.name for table in known.table} == set(kept)
    for table in known.table:
        found = [blocks.find(page, table.name) for page in pages]
        assert {block for block in found if block is not None} == {
            markdown.text(table, kept[table.name])
        }


def kept_rows(name):
    """Figures of a table by the keys of its rows: name of a column -> measure -> figure."""
    made = tables.read_kept(TABLES.with_suffix(".json"))[name]
    return {tuple(row.keys): {**row.columns, "shared": row.shared} for row in made.rows}


def test_figures_of_the_readme_are_those_of_tables():
    text = (ROOT / "README.md").read_text("utf-8")
    (found,) = re.findall(r"\| noise \| relu4 .*\n\|[-|]+\|\n((?:\|.*\|\n)+)", text)
    kept = kept_rows("mnist-linkage")
    for line in found.splitlines():
        noise, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        told = []
        for split in ("relu4", "fc3"):
            row = kept[split, noise]
            shares = (row[who]["reid"].mean for who in ("white-box", "black-box"))
            told.append(" / ".join(f"{share:.1%}" for share in shares))
            told.append(f"{row['shared']['accuracy'].mean:.4f}")
        assert cells == told
    code = kept_rows("mnist-codebook")[("6",)][""]
    right, linked = code["accuracy"].mean, code["reid_likelihood"].mean
    words = " ".join(text.split())
    assert f"right in {right:.2%}, and the best attacker finds {linked:.1%} of 1,000" in words


def commands(page):
    """Command lines in blocks of code, without their comments."""
    text = joined(page.read_text("utf-8"))
    return [
        line.partition("#")[0].strip()
        for block in re.findall(r"```\w*\n(.*?)```", text, re.S)
        for line in block.splitlines()
        if re.match(r"\s*(python experiments/|\./launch\.sh |jaxinv )", line)
    ]


def joined(text):
    """Text whose long commands stand on a line each."""
    return re.sub(r"\\\n\s*", " ", text)


def check(command):
    """Raises where a command has an unknown flag, or a cut that its network does not have."""
    if re.match(r"(\./launch\.sh|jaxinv) (test|setup|help|completion)", command):
        return
    script, given = plan.parsed(command)
    if script not in experiment.MODULES:
        assert given in (["--help"], ["..."]) or script == "EXPERIMENT", command
        return
    known = experiment.find(script)
    if known.leaves_runs:
        grid.parse(script, given)
    else:
        known.define_flags()([script, *given])
    flags = dict(flag.removeprefix("--").partition("=")[::2] for flag in given)
    usual = "cifar_cnn" if flags.get("dataset") == "cifar10" else "lenet5"
    for network in flags.get("network", usual).split(","):
        own_shape = flags.get("dataset", "mnist") not in ("mnist", "mnist_5k", "cifar10")
        if network in zoo.ENTRIES and "split" in flags and not own_shape:
            resolve_splits(flags["split"].split(","), zoo.build(network))


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_commands_in_pages_have_flags_and_cuts_that_exist(page):
    """Commands of experiments and of sweeps, in blocks of code."""
    for command in commands(page):
        check(command)


HELPS = {**experiment.MODULES, "sweep": "jaxinv.sweeps.__main__"}


@pytest.mark.parametrize("name", HELPS)
def test_commands_in_helps_have_flags_and_cuts_that_exist(name):
    text = joined(importlib.import_module(HELPS[name]).__doc__)
    found = re.findall(r"^  (?:[A-Z]+=\S+ )*((?:jaxinv|\./launch\.sh) .*)$", text, re.M)
    assert found
    for command in found:
        check(command)


def test_a_cut_that_does_not_exist_is_found():
    with pytest.raises(UsageError, match="split=stage1"):
        check("jaxinv leaderboard --network=resnet20 --dataset=cifar10 --split=stage1")


@pytest.fixture(scope="module")
def of_ones_own(tmp_path_factory):
    """A folder with the files that the pages name: `model.py`, `model.onnx`."""
    folder = tmp_path_factory.mktemp("own")
    foreign.write(folder, "model.py")
    nodes = [("Conv", ["x", "w"], "maps"), ("GlobalAveragePool", ["maps"], "pooled")]
    nodes = [helper.make_node(op, inputs, [out], op) for op, inputs, out in nodes]
    nodes.append(helper.make_node("Flatten", ["pooled"], ["y"], "Flatten"))
    kernel = numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "w")
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", (1, 3, 16, 16)), ("y", (1, 4)))
    ]
    graph = helper.make_graph(nodes, "graph", values[:1], values[1:], [kernel])
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset]), folder / "model.onnx")
    return folder


# What takes longer than seconds is run by hand.
SHORT = sorted({line for page in PAGES for line in commands(page) if "/cuts.py " in line})


def test_there_are_short_commands():
    assert len(SHORT) >= 2


@pytest.mark.parametrize("command", SHORT)
def test_short_commands_run(command, of_ones_own):
    """With this Python, they do what the pages say."""
    script, *flags = shlex.split(command)[1:]
    done = subprocess.run(
        [sys.executable, ROOT / script, *flags], capture_output=True, text=True, cwd=of_ones_own
    )
    assert done.returncode == 0, done.stderr
    first = {"model.py": "conv", "model.onnx": "Conv"}
    (wanted,) = (name for file, name in first.items() if file in command)
    assert re.search(rf"^{wanted} ", done.stdout, re.M), done.stdout
