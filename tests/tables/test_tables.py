"""Tables from the command line: runs, figures that are kept, pages that are written."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import fake_runs
import pytest

from jaxinv.errors import UsageError
from jaxinv.tables import blocks, experiment, markdown, plan

TOML = """
pages = ["page.md"]

[[table]]
name = "floor"
about = "What guessing finds."
commands = ["python experiments/whitebox.py --dataset=mnist --split=conv1,relu2 --method=mean \
--num_images=4"]

[[table]]
name = "no-place"
about = "On no page."
commands = ["./launch.sh whitebox --dataset=mnist --split=conv1 --method=mean --num_images=4"]
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "tables.toml").write_text(TOML)
    (tmp_path / "page.md").write_text("\n".join(["above", *blocks.marks("floor"), "below\n"]))
    return tmp_path


def flags(folder, few, *more):
    (data_dir,) = (flag for flag in few if flag.startswith("--data_dir"))
    return f"--tables={folder / 'tables.toml'}", data_dir, f"--workdir={folder / 'work'}", *more


@pytest.mark.slow
def test_a_table_is_run_kept_and_published(scripts, few, folder):
    given = flags(folder, few, "--only=floor", "--publish")
    done = scripts.run("tables", *given)
    assert done.returncode == 0, done.stderr
    page = (folder / "page.md").read_text("utf-8")
    block = blocks.find(page, "floor")
    assert (
        page == f"above\n{blocks.marks('floor')[0]}\n{block}\n{blocks.marks('floor')[1]}\nbelow\n"
    )
    assert block in done.stdout and "What guessing finds." in block
    kept = experiment.read_kept(folder / "tables.json")
    (table, _) = plan.read(folder / "tables.toml").table
    assert markdown.text(table, kept["floor"]) == block
    record = json.loads(
        next((folder / "work" / "whitebox").glob("*relu2*/record.json")).read_text()
    )
    assert kept["floor"].rows[1].columns[""]["psnr"].mean == record["psnr_mean"]
    assert re.search(rf"^\| relu2 \| {record['psnr_mean']:.2f} ", block, re.M)
    # The text is last on stdout, as a path; what is finished is not run again.
    path = Path(done.stdout.splitlines()[-1])
    assert block in path.read_text("utf-8")
    again = scripts.run("tables", *given)
    assert again.returncode == 0 and "finished before: 2" in again.stderr
    assert (folder / "page.md").read_text("utf-8") == page


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--only=flor"], "--only=flor: expected some of floor, no-place."),
        (["--publish"], "--publish=true: no page has a place for no-place"),
        (["--tables=none.toml"], "none.toml cannot be read"),
    ],
)
def test_a_mistake_is_told_before_anything_runs(scripts, few, folder, more, said):
    done = scripts.here("tables", *flags(folder, few), *more)
    assert done.returncode != 0 and said in done.stderr
    assert not (folder / "work" / "whitebox").exists()


def test_an_installed_package_asks_for_a_file(scripts, monkeypatch, tmp_path):
    monkeypatch.setattr(experiment, "TABLES", tmp_path / "none.toml")
    done = scripts.here("tables", f"--workdir={tmp_path}")
    assert done.returncode == 2 and "tables: name a TOML file" in done.stderr


def test_other_tables_stay_where_figures_are_kept(tmp_path, folder):
    kept = tmp_path / "kept.json"
    made = experiment.Made([], [4], [0], [0], ["cpu"], ["0.10.2"], "2026-01-02")
    experiment.keep(kept, {"old": made, "both": made})
    experiment.keep(kept, {"both": made, "new": made})
    assert list(experiment.read_kept(kept)) == ["both", "new", "old"]


def test_a_board_is_shown_without_the_attacks_that_it_left(tmp_path):
    fake_runs.attack(tmp_path, images=False, folder="attack")
    fake_runs.leaderboard(tmp_path, [fake_runs.standing("vib", 0.3, 0.9)])
    paths = [tmp_path / name / "record.json" for name in ("whitebox/attack", "leaderboard/board")]

    def shown(script, records):
        table = plan.Table("a-table", "About it.", [f"./launch.sh {script} --split=relu2"])
        run = SimpleNamespace(script=script, flags={})
        return experiment._shown(table, [SimpleNamespace(run=run, records=records)])

    (board,) = shown("leaderboard", paths)
    assert board.standing.defense == "vib"
    (attack,) = shown("whitebox", paths)
    assert attack.record.experiment == "whitebox"
    for script, own in (("leaderboard", paths[:1]), ("whitebox", paths[1:])):
        with pytest.raises(UsageError, match=f"a-table: {script} leaves nothing"):
            shown(script, own)


def test_a_table_that_cannot_be_made_takes_no_other_with_it(tmp_path, monkeypatch, capsys):
    fake_runs.attack(tmp_path, images=False, folder="one", split="conv1")
    fake_runs.attack(tmp_path, images=False, folder="two", split="conv1")
    paths = [tmp_path / "whitebox" / name / "record.json" for name in ("one", "two")]
    file = tmp_path / "tables.toml"
    file.write_text(
        "".join(
            f'[[table]]\nname = "{name}"\nabout = "About it."\n'
            f'commands = ["./launch.sh whitebox --split=conv1 --seed={seed}"]\n'
            for seed, name in enumerate(("twice", "once"))
        )
    )

    def ran(runs, workdir):
        found = (paths if run.flags["seed"] == "0" else paths[:1] for run in runs)
        outcomes = zip(runs, found, strict=True)
        return [SimpleNamespace(run=run, records=own, state="finished") for run, own in outcomes]

    monkeypatch.setattr(experiment.sweeps, "run", ran)
    with pytest.raises(UsageError, match="twice: 2 runs fall into one cell"):
        experiment.run(experiment.TablesConfig(tables=str(file), workdir=str(tmp_path)))
    assert "| conv1 |" in capsys.readouterr().out
    assert list(experiment.read_kept(tmp_path / "tables" / "tables.json")) == ["once"]


def test_importing_the_parts_of_a_table_imports_no_jax():
    code = "import sys; from jaxinv.tables import markdown, plan; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
