"""Tests that are marked slow: left out, unless they are asked for."""

from pathlib import Path
from types import SimpleNamespace

import pytest


def item(name, *, slow):
    return SimpleNamespace(
        name=name,
        nodeid=f"tests/test_{name}.py::test_one[1]",
        path=SimpleNamespace(stem=f"test_{name}"),
        get_closest_marker=lambda marker: slow if marker == "slow" else None,
    )


@pytest.mark.parametrize(
    ("options", "args", "expected"),
    [
        ({}, ["tests"], (["quick"], ["slow"])),
        ({}, [], (["quick"], ["slow"])),
        ({}, ["tests", "tests/test_a.py::test_b"], (["quick"], ["slow"])),
        ({}, ["tests", "tests/test_slow.py::test_one"], (["slow", "quick"], [])),
        ({"all": True}, ["tests"], (["slow", "quick"], [])),
        ({"keyword": "one"}, ["tests"], (["slow", "quick"], [])),
        ({"lf": True}, ["tests"], (["slow", "quick"], [])),
    ],
)
def test_slow_tests_run_where_all_or_they_are_asked_for(options, args, expected, pytestconfig):
    (conftest,) = (
        plugin
        for plugin in pytestconfig.pluginmanager.get_plugins()
        if getattr(plugin, "__file__", None) == str(Path(__file__).with_name("conftest.py"))
    )
    items, left = [item("slow", slow=True), item("quick", slow=False)], []
    given = {"all": False, "keyword": "", "lf": False, **options}
    config = SimpleNamespace(
        option=SimpleNamespace(**given),
        getoption=lambda name, default: given.get(name, default),
        args=args,
        hook=SimpleNamespace(pytest_deselected=lambda items: left.extend(items)),
    )
    conftest.pytest_collection_modifyitems(config, items)
    assert tuple([each.name for each in found] for found in (items, left)) == expected
