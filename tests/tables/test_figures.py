"""Figures of tables: read from records, placed by what differs, and put into words."""

import fake_runs
import pytest

from jaxinv.errors import UsageError
from jaxinv.store import records
from jaxinv.sweeps import targets
from jaxinv.tables import figures, markdown
from jaxinv.tables.figures import Figure, Measured
from jaxinv.tables.plan import Table

COMMAND = "./launch.sh sweep whitebox --split=conv1,relu2 --method=paper,map"
PRINTED = {"psnr": 15.1, "ssim": 0.6}


def attack(tmp_path, name, seed=0, **values):
    fake_runs.attack(tmp_path, images=False, folder=name, **values)
    return Measured(records.read(tmp_path / values.get("experiment", "whitebox") / name), seed)


@pytest.fixture
def attacks(tmp_path):
    """Two methods at two cuts."""
    quality = {
        ("paper", "conv1"): (39.5, 0.999),
        ("map", "conv1"): (100.0, 1.0),
        ("paper", "relu2"): (13.28, 0.65),
        ("map", "relu2"): (28.77, 0.93),
    }
    return [
        attack(
            tmp_path,
            f"{method}-{split}",
            method=method,
            split=split,
            quality=value,
            accuracy_ci=[0.97, 0.99],
            paper=PRINTED if split == "relu2" else None,
        )
        for (method, split), value in quality.items()
    ]


def table(**values):
    return Table("two-cuts", "Two cuts.", [COMMAND], **values)


def lines(shown, attacks):
    text = markdown.text(shown, figures.make(shown, attacks))
    return text.splitlines()


def test_columns_lie_beside_rows(attacks):
    found = figures.make(table(columns="method"), attacks)
    assert [row.keys for row in found.rows] == [["conv1"], ["relu2"]]
    psnr = found.rows[1].columns["map"]["psnr"]
    record = attacks[3].record
    assert psnr == Figure(record.psnr_mean, *record.psnr_ci)
    assert psnr.mean == pytest.approx(28.77) and psnr.low < 28.77 < psnr.high
    assert (found.num_images, found.seeds, found.target_seeds) == ([200], [0], [0])


def test_the_text_tells_figures_origin_and_command(attacks):
    shown = table(columns="method", printed=True, intervals=[])
    about, _, heads, rule, conv1, relu2, _, origin, *rest = lines(shown, attacks)
    assert about == "Two cuts."
    assert heads == "| split | the paper prints | paper | map |"
    assert rule.count("---") == 4
    assert conv1 == "| conv1 |  | 39.50 / 0.999 | 100.00 / 1.000 |"
    assert relu2 == "| relu2 | 15.10 / 0.60 | 13.28 / 0.650 | 28.77 / 0.930 |"
    assert origin.startswith("Cells: PSNR dB / SSIM. 200 images; seed 0; ")
    assert origin.endswith("; jax 0.10.2.")
    assert rest == ["", "```", COMMAND, "```"]


def test_intervals_stand_where_they_are_asked_for(attacks):
    low, high = attacks[3].record.psnr_ci
    shown = f"28.77 [{low:.2f}, {high:.2f}] / 0.930"
    assert shown in lines(table(columns="method"), attacks)[5]
    low, high = attacks[3].record.ssim_ci
    shown = f"28.77 / 0.930 [{low:.3f}, {high:.3f}]"
    assert shown in lines(table(columns="method", intervals=["ssim"]), attacks)[5]


def test_the_highest_ssim_is_that_of_any_way(tmp_path):
    ways = {"rMLE": fake_runs.way(0.4), "retrieval": fake_runs.way(0.6)}
    ways["shadow 1"] = fake_runs.way(0.9)  # a seed, and no way
    made = [
        attack(tmp_path, f"a{number}", split=split, quality=(20.0, 0.5), ways=own)
        for number, (split, own) in enumerate((("conv1", ways), ("relu2", {})))
    ]
    found = figures.make(table(cells=["ssim_any"]), made)
    told = [row.columns[""]["ssim_any"] for row in found.rows]
    assert told == [Figure(pytest.approx(0.6)), Figure(pytest.approx(0.5))]


def test_without_columns_each_measure_is_one(attacks):
    own = [each for each in attacks if each.record.method == "map"]
    shown = table(cells=["ssim", "reid", "accuracy", "rmse"])
    found = lines(shown, own)
    record = own[1].record
    assert found[2] == "| split | SSIM | re-identified | accuracy | RMSE |"
    assert found[5] == f"| relu2 | 0.930 | {record.reid:.1%} | {record.accuracy:.2%} | - |"


def test_what_columns_share_stands_once_a_row(attacks):
    shown = table(columns="method", shared=["accuracy"], intervals=["accuracy"], cells=["psnr"])
    _, _, heads, _, conv1, *_ = lines(shown, attacks)
    told = f"{attacks[0].record.accuracy:.2%} [97.00%, 99.00%]"
    assert heads == "| split | accuracy | paper | map |"
    assert conv1 == f"| conv1 | {told} | 39.50 | 100.00 |"


def test_what_columns_do_not_share_is_refused(attacks):
    shown = table(columns="method", shared=["psnr"])
    with pytest.raises(
        UsageError, match=r"two-cuts: columns do not share one psnr: 39.* and 100.* \(conv1, map\)"
    ):
        figures.make(shown, attacks)


def test_shadows_have_a_spread_and_a_joint_answer(tmp_path):
    joint = {"psnr_mean": 30.2, "ssim_mean": 0.987}
    made = [
        attack(tmp_path, "several", split="conv1", psnr_seed_std=0.54, joint=joint),
        attack(tmp_path, "alone", split="relu2", queries=79),
    ]
    shown = table(cells=["seeds_std", "joint_psnr", "joint_ssim", "queries"])
    assert lines(shown, made)[4:6] == [
        "| conv1 | 0.54 | 30.20 | 0.987 | - |",
        "| relu2 | - | - | - | 79 |",
    ]


def test_rows_tell_queries_and_whose_images_an_attacker_has(tmp_path):
    made = [
        attack(tmp_path, "some", split="relu2", num_queries=3000, surrogate="attacker"),
        attack(tmp_path, "few", split="relu2", queries=79, surrogate="same"),
        attack(tmp_path, "none", split="relu2", surrogate="none"),
    ]
    shown = table(rows=["surrogate", "num_queries"], cells=["exact"])
    _, _, heads, _, *rows = lines(shown, made)[:7]
    assert heads == "| images to learn from | queries | exact |"
    assert [row.split("|")[1:3] for row in rows] == [
        [" the attacker's own ", " 3,000 "],
        [" the target's ", " 79 "],
        [" none ", "  "],
    ]


def test_a_cell_without_a_run_is_empty(attacks):
    *_, conv1, relu2 = lines(table(columns="method", intervals=[]), attacks[:3])[:6]
    assert conv1.endswith("| 100.00 / 1.000 |") and relu2.endswith("| 13.28 / 0.650 |  |")


def test_targets_are_one_figure_with_an_interval_over_them(tmp_path):
    means = (15.0, 16.0, 6.4)
    own = [
        attack(tmp_path, f"{seed}", seed, method="paper", quality=(mean, 0.5), paper=PRINTED)
        for seed, mean in enumerate(means)
    ]
    shown = table(columns="method", printed=True)
    made = figures.make(shown, own)
    (row,) = made.rows
    over = targets.over({each.target_seed: each.record for each in own}, {})
    assert row.columns["paper"]["psnr"] == Figure(over.psnr.mean, *over.psnr.interval)
    assert over.psnr.mean == pytest.approx(sum(means) / 3)
    text = markdown.text(shown, made)
    assert "| relu2 | 15.10 / 0.60: 1 of 3 are above |" in text
    assert (
        "Intervals are 95%, over targets and images. 200 images; 3 targets (seeds 0 to 2)" in text
    )
    spread = table(cells=["psnr", "std", "least", "most", "dead"], intervals=[])
    assert "| relu2 | 12.47 | 5.28 | 6.40 | 16.00 | 0 |" in markdown.text(
        spread, figures.make(spread, own)
    )


def test_runs_that_a_table_does_not_tell_apart_are_refused(attacks):
    with pytest.raises(UsageError, match=r"two-cuts: 2 runs fall into one cell \(conv1\)"):
        figures.make(table(), attacks)


@pytest.mark.parametrize(
    "other", [{"method": "tv"}, {"num_images": "100"}, {"method": "map", "solver": "adam"}]
)
def test_targets_of_other_runs_are_not_one_figure(tmp_path, other):
    flags = {"method": "map", "target_seed": "0"}
    own = [
        attack(tmp_path, "a", 0, flags=flags),
        attack(tmp_path, "b", 1, flags={**other, "target_seed": "1"}),
    ]
    with pytest.raises(UsageError, match="2 runs fall into one cell"):
        figures.make(table(), own)


def test_a_measure_of_one_target_is_not_averaged(tmp_path):
    own = [attack(tmp_path, f"{seed}", seed) for seed in (0, 1)]
    with pytest.raises(UsageError, match="reid is not known over several targets"):
        figures.make(table(cells=["reid"]), own)


def test_what_a_record_says_cannot_break_a_table(tmp_path):
    own = attack(tmp_path, "odd", split="a|b\n<i>")
    assert r"| a\|b \<i\> |" in "\n".join(lines(table(), [own]))


def test_a_defence_is_told_by_name_site_and_level(tmp_path):
    defense = {"kind": "dropout", "site": "input", "level": 0.6}
    own = [
        attack(tmp_path, "none", experiment="defenses", threat_model="blackbox"),
        attack(tmp_path, "some", experiment="defenses", threat_model="blackbox", defense=defense),
    ]
    shown = table(rows=["attacker", "defense", "site", "level"], cells=["ssim"])
    found = [line for line in lines(shown, own) if line.startswith("| black-box")]
    assert found[0].startswith("| black-box | none |  | 0 |")
    assert found[1].startswith("| black-box | dropout | input | 0.6 |")


# --- Leaderboards ---------------------------------------------------------------------------------

BOARD = "python experiments/leaderboard.py --split=relu2 --loss=1,5"


@pytest.fixture
def ranked(tmp_path):
    standings = [
        fake_runs.standing(name, claim, most, loss=loss, attacks_s=90.0)
        for name, claim, most in (("cem", 0.3, 0.7), ("vib", 0.1, 0.9))
        for loss in (1.0, 5.0)
    ]
    fake_runs.leaderboard(tmp_path, standings, seed=3)
    return figures.shown_of(records.read(tmp_path / "leaderboard" / "board"), 0)


def board(**values):
    return Table("board", "A board.", [BOARD], rows=["defense"], **values)


def test_a_leaderboard_makes_a_table_of_its_defences(ranked):
    shown = board(columns="loss", cells=["claimed_ssim", "strongest_ssim", "minutes"])
    told = lines(shown, ranked)
    assert told[2] == "| defence | 1 | 5 |"
    assert told[4] == "| cem | 0.300 / 0.700 / 1.5 | 0.300 / 0.700 / 1.5 |"
    assert "48 images; seed 3, 4;" in told[7]


def test_a_standing_has_its_intervals_and_says_who_is_strongest(ranked):
    shown = Table(
        "board",
        "A board.",
        [BOARD],
        rows=["defense", "loss", "level", "strongest", "verdict"],
        cells=["accuracy", "strongest_ssim", "error_ratio", "reid", "sent", "edge"],
        intervals=["strongest_ssim", "error_ratio"],
    )
    told = lines(shown, ranked)
    assert told[4] == (
        "| cem | 1 | 0.3 | white-box, adaptive | fails | 98.00% | 0.700 [0.650, 0.750] "
        "| 6.30 [5.00, 8.00] | 80.0% | 4,096 | 1.25 |"
    )
    assert "Intervals are 95%, over trainings and images." in told[9]


def test_usual_measures_are_those_of_what_was_run(attacks, ranked):
    assert [*figures.make(table(), attacks[:1]).rows[0].columns[""]] == ["psnr", "ssim"]
    found = figures.make(board(columns="loss"), ranked).rows[1].columns["5"]
    assert [*found] == ["accuracy", "claimed_ssim", "strongest_ssim", "reid"]
    assert found["claimed_ssim"].mean == 0.1
    with pytest.raises(UsageError, match="4 runs fall into one cell|2 runs fall into one cell"):
        figures.make(board(), ranked)
