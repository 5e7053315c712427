"""Digests of source: what changes them, and what does not."""

import ast
import itertools
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest

import jaxinv
from jaxinv.machine import source
from jaxinv.studies import runs

read = source._text
CODE = '''"""A module."""

from jaxinv.networks import Network


def solve(x):
    """Solves it."""
    text = "# no comment"  # a comment
    return 2 * x, text
'''


def code(text):
    return source._read(text).code


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Solves it.", "Returns the solution.\n\n    Args:\n      x: any.\n    "),
        ("  # a comment", ""),
        ("return", "# more to say\n\n    return"),
        ('"""A module."""\n', '"""Another\n\nmodule."""\n'),
    ],
)
def test_comments_docstrings_and_blank_lines_do_not_count(old, new):
    assert CODE.count(old) == 1
    assert code(CODE.replace(old, new)) == code(CODE)


@pytest.mark.parametrize(
    ("old", "new"),
    [("2 * x", "3 * x"), ("# no comment", "# another"), ("import Network", "import Params")],
)
def test_code_and_text_count(old, new):
    assert CODE.count(old) == 1
    assert code(CODE.replace(old, new)) != code(CODE)


def test_a_body_on_the_line_of_its_head_is_kept():
    assert "def f(self): ..." in code("class P:\n    def f(self): ...\n")


def test_imports_are_found_wherever_they_stand():
    text = (
        "from typing import TYPE_CHECKING\n"
        "import numpy as np\n"
        "from jaxinv.attacks.inversion import loop, nothing\n"
        "if TYPE_CHECKING:\n    from jaxinv.networks import Network\n"
        "def f():\n    try:\n        import jaxinv.training.fit\n    finally:\n        pass\n"
    )
    assert source._read(text).imports == (
        "jaxinv.attacks.inversion",
        "jaxinv.attacks.inversion.loop",
        "jaxinv.training.fit",
    )


@pytest.fixture
def edited(monkeypatch):
    """Edits a module's text for the time of a test, and takes digests of others."""

    def digest(*modules, edit=None, text=lambda old: old + "\nx = 1\n"):
        source.digest.cache_clear(), source._module.cache_clear()
        changed = lambda name: text(read(name)) if name == edit else read(name)  # noqa: E731
        monkeypatch.setattr(source, "_text", changed)
        return source.digest(*modules)

    yield digest
    monkeypatch.undo()
    source.digest.cache_clear(), source._module.cache_clear()


def test_a_changed_solver_changes_what_reaches_it(edited):
    solver, attack = "jaxinv.attacks.inversion.solvers", "jaxinv.attacks.whitebox.rmle"
    assert edited(attack) == edited(attack)
    assert edited(attack, edit=solver) != edited(attack)
    assert edited(attack, edit=solver, text=lambda old: f"# said\n{old}") == edited(attack)
    assert edited("jaxinv.training.judge", edit=solver) == edited("jaxinv.training.judge")
    # How results are stored and shown decides none.
    assert edited(attack, edit="jaxinv.store.records") == edited(attack)


def test_how_releases_are_compared_decides_every_attack():
    reached = source._reached(runs._MEASURES)
    assert {f"jaxinv.attacks.linkage.{name}" for name in ("link", "exact", "grid")} <= reached


def test_a_package_stands_for_all_of_its_modules(edited):
    before = edited("jaxinv.attacks")
    for inside in ("inversion.priors", "queryfree.shadow", "whitebox.adaptive"):
        assert edited("jaxinv.attacks", edit=f"jaxinv.attacks.{inside}") != before
    assert edited("jaxinv.attacks.whitebox", edit="jaxinv.attacks.queryfree.shadow") == edited(
        "jaxinv.attacks.whitebox"
    )


def test_one_more_attack_in_the_list_changes_no_result_of_others(edited):
    attacks = "jaxinv.attacks"
    for module in ("jaxinv.studies.defended", "jaxinv.studies.partition"):
        assert edited(module, edit=f"{attacks}.registry") == edited(module)
    assert edited(attacks, edit=f"{attacks}.registry") != edited(attacks)  # named, it counts


def test_a_result_is_of_the_code_that_hands_over_attacks_and_measures(edited):
    modules = ("jaxinv.studies.whitebox", "jaxinv.attacks.whitebox.rmle", *runs._MEASURES)
    before = edited(*modules)
    for name in ("studies.whitebox", "studies.evaluation", "studies.attacked", "measures.linkage"):
        assert edited(*modules, edit=f"jaxinv.{name}") != before
    for name in ("look.grids", "store.records", "training.targets", "report.cards"):
        assert edited(*modules, edit=f"jaxinv.{name}") == before


def test_unknown_modules_are_refused():
    for name in ("jaxinv.attacks.magic", "numpy", "jaxinv"):
        with pytest.raises(ValueError, match=f"got '{name}'"):
            source.digest(name)


def test_it_is_the_same_in_another_place(tmp_path):
    """Read from an archive elsewhere, with other times and without compiled files."""
    package = Path(jaxinv.__path__[0])
    archive = tmp_path / "elsewhere.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in package.rglob("*.py"):
            file.writestr(str(path.relative_to(package.parent)), path.read_text("utf-8"))
    names = ["jaxinv.attacks.whitebox", "jaxinv.measures.quality"]
    lines = [
        f"import sys; sys.path.insert(0, {str(archive)!r})",
        "from jaxinv.machine import source",
        f"assert '.zip' in source.__file__; print(source.digest(*{names}))",
    ]
    run = [sys.executable, "-c", "\n".join(lines)]
    said = subprocess.run(run, check=True, capture_output=True, text=True, cwd=tmp_path).stdout
    assert said.strip() == source.digest(*names)


def test_the_order_of_modules_does_not_count():
    names = ["jaxinv.attacks.whitebox.rmle", "jaxinv.training.fit", "jaxinv.measures.quality"]
    assert len({source.digest(*order) for order in itertools.permutations(names)}) == 1


def test_threads_parse_one_after_another(monkeypatch):
    parse, inside, most = ast.parse, [], []

    def slow(text):
        inside.append(text)
        time.sleep(0.02)
        most.append(len(inside))
        tree = parse(text)
        inside.remove(text)
        return tree

    monkeypatch.setattr(source.ast, "parse", slow)
    threads = [threading.Thread(target=source._read, args=(f"x = {n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]
