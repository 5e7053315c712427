"""Files of tables: what they may ask for, and a line for what they may not."""

import pytest

from jaxinv.errors import UsageError, UserError
from jaxinv.tables import plan
from jaxinv.tables.plan import Command

WHOLE = """
pages = ["../README.md"]

[[table]]
name = "two-cuts"
about = "Two cuts."
commands = ["./launch.sh sweep whitebox --split=conv1,relu2 --method=paper,map"]
columns = "method"
"""


def written(tmp_path, text):
    path = tmp_path / "tables.toml"
    path.write_text(text)
    return path


def test_a_table_has_defaults(tmp_path):
    found = plan.read(written(tmp_path, WHOLE))
    (table,) = found.table
    assert found.pages == ["../README.md"]
    assert (table.name, table.rows, table.columns) == ("two-cuts", ["split"], "method")
    assert (table.measures, table.intervals, table.printed) == (("psnr", "ssim"), ["psnr"], False)


@pytest.mark.parametrize(
    "line",
    [
        "./launch.sh sweep whitebox --split=conv1,relu2 --num_images=4",
        "./launch.sh whitebox --split=conv1,relu2 --num_images=4",
        "jaxinv sweep whitebox --split=conv1,relu2 --num_images=4",
        "python experiments/whitebox.py --split=conv1,relu2 \\\n  --num_images=4",
    ],
)
def test_commands_are_as_they_are_typed(line):
    assert plan.parsed(line) == Command("whitebox", ["--split=conv1,relu2", "--num_images=4"])


@pytest.mark.parametrize("line", ["", "ls", "./launch.sh", "python whitebox.py", "jaxinv 'open"])
def test_other_commands_are_refused(line):
    with pytest.raises(UsageError, match="expected|quotation"):
        plan.parsed(line)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('columns = "method"', 'columns = "mood"', "two-cuts: columns has mood; expected some of"),
        ('columns = "method"', 'rows = ["split", "who"]', "rows has who"),
        ('columns = "method"', 'cells = ["psnr", "beauty"]', "cells has beauty"),
        ('columns = "method"', 'intervals = ["reid"]', "intervals has reid; .* psnr, ssim"),
        ('columns = "method"', "cells = []", "length >= 1"),
        ('columns = "method"', 'shared = ["accuracy"]', "two-cuts: shared needs columns"),
        ('"method"', '"method"\nshared = ["beauty"]', "shared has beauty; expected some of psnr"),
        ('columns = "method"', "colour = 1", "unknown field `colour`"),
        ('"two-cuts"', '"Two Cuts"', "regex"),
        ("[[table]]", "[[tables]]", "unknown field|missing required"),
        ("./launch.sh sweep", "rm", "expected ./launch.sh"),
        ("[[table]]", "[[table", "Expected|expected"),
        ("sweep whitebox", "sweep leaderboard", "columns has method; expected some of dataset"),
        ("commands = [", 'commands = ["jaxinv leaderboard", ', "make no table together"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, old, new, said):
    with pytest.raises(UsageError, match=said) as error:
        plan.read(written(tmp_path, WHOLE.replace(old, new)))
    assert "\n" not in str(error.value)


def test_names_are_unique(tmp_path):
    twice = WHOLE + WHOLE.partition("\n\n")[2]
    with pytest.raises(UsageError, match="two tables are called two-cuts"):
        plan.read(written(tmp_path, twice))


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        plan.read(tmp_path / "none.toml")
