"""Leaderboards: levels of equal accuracy, standings, tables, and what is refused."""

from pathlib import Path
from types import SimpleNamespace

import fake_runs
import msgspec
import numpy as np
import pytest
from datasets import samples
from fake_runs import attack_fields
from PIL import Image

from jaxinv.constants import kinds
from jaxinv.constants.halves import REPORT
from jaxinv.defenses import CLOAK, DROPOUT, GAUSSIAN, MECHANISMS, QUANTIZE, TRAINED
from jaxinv.errors import UsageError
from jaxinv.store.record import Way, typed
from jaxinv.store.standing import Reconstructed
from jaxinv.studies import leaderboard
from jaxinv.studies.leaderboard import drawing, matching, table
from jaxinv.studies.leaderboard.options import LeaderboardConfig, entries
from jaxinv.studies.leaderboard.standing import judged, standing

# --- Levels ---------------------------------------------------------------------------------------


def curve(mechanism, half):
    """An accuracy that falls with the level, and by a half of what there is at one."""
    asked = []

    def measure(levels):
        asked.append(list(levels))
        if mechanism.coding is not None:
            return [0.1 + 0.89 / (1 + half / level) for level in levels]
        if mechanism.below == 1:
            return [0.1 + 0.89 / (1 + level / (1 - level) / half) for level in levels]
        return [0.1 + 0.89 / (1 + level / half) for level in levels]

    return measure, asked


@pytest.mark.parametrize("half", [0.02, 1.0, 60.0])
@pytest.mark.parametrize("mechanism", [GAUSSIAN, DROPOUT, CLOAK], ids=lambda each: each.name)
def test_a_level_costs_what_was_wanted(mechanism, half):
    measure, asked = curve(mechanism, half)
    (found,) = matching.levels(mechanism, [0.6], measure)
    low, high = min(map(min, asked)), max(map(max, asked))
    if measure([low])[0] > 0.6 > measure([high])[0]:
        assert measure([found])[0] == pytest.approx(0.6, abs=0.06)
    else:
        assert found in (low, high)
        assert len(asked) > 2
    assert all(0 < level < mechanism.below for levels in asked for level in levels)


def test_a_ladder_goes_on_where_it_is_too_short():
    measure, asked = curve(GAUSSIAN, 12.0)
    (strong,) = matching.levels(GAUSSIAN, [0.5], measure)
    assert strong > max(GAUSSIAN.sweep) and measure([strong])[0] == pytest.approx(0.5, abs=0.03)
    assert len(asked) == 3  # the ladder, one extension, and this
    measure, asked = curve(GAUSSIAN, 0.4)
    (weak,) = matching.levels(GAUSSIAN, [0.9], measure)
    assert weak < min(GAUSSIAN.sweep[1:]) and measure([weak])[0] == pytest.approx(0.9, abs=0.03)


def test_several_accuracies_are_found_on_one_ladder():
    measure, asked = curve(GAUSSIAN, 1.0)
    found = matching.levels(GAUSSIAN, [0.7, 0.6, 0.45], measure)
    assert found == sorted(found) and len(asked) == 1
    np.testing.assert_allclose(measure(found), [0.7, 0.6, 0.45], atol=0.03)


def test_levels_of_whole_numbers_stay_whole():
    measure, asked = curve(QUANTIZE, 2.0)
    found = matching.levels(QUANTIZE, [0.9, 0.5, 0.01], measure)
    assert found[2] == 1 and all(level == round(level) >= 1 for level in found)
    assert all(level < QUANTIZE.below for levels in asked for level in levels)


# --- Settings -------------------------------------------------------------------------------------


def test_every_mechanism_may_enter_and_all_that_are_trained_in_do():
    names = [entry.text for entry in entries(LeaderboardConfig())]
    assert set(names) >= {mechanism.name for mechanism in TRAINED}
    every = entries(LeaderboardConfig(defense=tuple(MECHANISMS)))
    assert [entry.mechanism.name for entry in every] == list(MECHANISMS)


def test_others_stand_behind_with_levels_of_their_own():
    (entry,) = entries(LeaderboardConfig(defense=("cem+gaussian:0.5", " cem+gaussian:0.5")))
    choice = entry.at([0.1, 0.3])
    assert choice.kinds == ("cem", "gaussian") and choice.sites == ("feature", "feature")
    assert choice.levels == ((0.1, 0.5), (0.3, 0.5))


def test_what_is_attacked_is_what_no_level_was_found_on():
    config = LeaderboardConfig(num_images=7, fit_steps=3)
    attacks = config.attacks(seed=4)
    assert attacks.test_images == REPORT == config.half
    assert (attacks.seed, attacks.num_images, attacks.fit_steps, attacks.draws) == (4, 7, 3, 1)
    assert attacks.retrain == "both"


MISTAKES = {
    "unknown": (("blur",), "defense=blur: expected gaussian"),
    "none": ((), "defense=: expected at least one"),
    "a level of one": (("gaussian:1",), "defense=gaussian:1: expected no level"),
    "no level of another": (("cem+gaussian",), "expected 1 levels of cem.gaussian behind a colon"),
    "a level in words": (("cem+gaussian:much",), "there is no|defense=cem.gaussian:much"),
    "a level out of range": (("cem+dropout:1",), "level=1.0: dropout takes"),
    "a layer behind noise": (("gaussian+sca:.1",), "sca ends the edge"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_defence_that_cannot_enter_is_refused_in_a_line(name):
    given, words = MISTAKES[name]
    with pytest.raises(UsageError, match=words):
        entries(LeaderboardConfig(defense=given))


# --- Standings ------------------------------------------------------------------------------------


def attack(psnr, *, ssim=0.5, reid=0.3, threat="whitebox", method="adaptive", count=8, **values):
    """An attack on images of one quality each."""
    scores = [psnr + 0.1 * (place % 2) for place in range(count)]
    fields = attack_fields(
        "defenses",
        threat_model=threat,
        method=method,
        num_images=count,
        quality=(psnr, ssim),
        psnr=scores,
        mse=[10 ** (-score / 10) for score in scores],
        reid_top1=reid,
        **values,
    )
    return typed(fields, "made")


def two(*args, **options):
    return [attack(*args, **options, seed=seed) for seed in (0, 1)]


def board():
    return {
        ("blackbox", "paper"): two(12.0, ssim=0.3, threat="blackbox", method="paper"),
        ("blackbox", "adaptive"): two(20.0, ssim=0.6, threat="blackbox", reid=0.8),
        ("whitebox", "adaptive"): two(18.0, ssim=0.7),
    }


def test_the_strongest_is_told_beside_the_claimed():
    found = standing(board(), sure=0.95)
    assert (found["claimed"]["threat_model"], found["claimed"]["method"]) == ("blackbox", "paper")
    assert found["claimed"]["psnr_mean"] == pytest.approx(12.05)
    assert found["strongest"]["threat_model"] == "whitebox"
    assert found["strongest"]["ssim_mean"] == pytest.approx(0.7, abs=0.01)
    assert found["strongest_psnr"]["threat_model"] == "blackbox"
    assert found["strongest_psnr"]["psnr_mean"] == pytest.approx(20.05)
    assert found["reid"] == 0.8
    assert found["usability"]["by_seed"] == [0.99, 0.99] and found["usability"]["std"] == 0


def test_the_strongest_by_ssim_may_be_a_way_that_is_not_answered():
    """It answers by the way of the best PSNR."""

    def with_ways(seed, ssim):
        few = {"images": 8}
        ways = {"inverse map": fake_runs.way(0.5, **few), "retrieval": fake_runs.way(ssim, **few)}
        ways["shadow 0"] = fake_runs.way(0.9, **few)  # a seed, and no way
        own = attack(18.0, seed=seed)
        own.ways = msgspec.convert(ways, dict[str, Way])
        return own

    found = standing({("whitebox", "adaptive"): [with_ways(0, 0.7), with_ways(1, 0.8)]}, sure=0.95)
    best = msgspec.convert(found["strongest"], Reconstructed)
    assert best.attacker == "white-box, adaptive, retrieval" and best.ssim_mean == pytest.approx(
        0.75
    )
    assert best.ssim_ci[0] < 0.75 < best.ssim_ci[1]
    assert found["strongest_psnr"].get("way") is None
    weaker = standing({("whitebox", "adaptive"): [with_ways(0, 0.7), attack(18.0)]}, sure=0.95)
    assert weaker["strongest"].get("way") is None  # one training alone tells little


def test_the_time_is_that_of_all_attacks_on_all_trainings():
    own = {("whitebox", "adaptive"): two(9.0, fit_s=5.0, compile_s=None, attack_s=2.0)}
    assert standing(own, sure=0.95)["attacks_s"] == pytest.approx(14.0)
    own["blackbox", "adaptive"] = two(
        9.0, threat="blackbox", fit_s=1.0, compile_s=1.0, attack_s=1.0
    )
    assert standing(own, sure=0.95)["attacks_s"] == pytest.approx(20.0)


def test_the_error_ratio_is_that_of_squared_errors_with_its_interval():
    found = standing(board(), sure=0.95)
    assert found["error_ratio"] == pytest.approx(10**0.8, rel=1e-3)
    low, high = found["error_ratio_ci"]
    assert low <= found["error_ratio"] <= high
    alone = {("whitebox", "adaptive"): two(18.0)}
    assert standing(alone, sure=0.95)["error_ratio"] is None
    assert standing(alone, sure=0.95)["claimed"] is None


def test_an_image_that_diverged_is_in_no_mean_and_leaves_no_interval():
    lost = attack(18.0, diverged=1)
    lost.psnr[0] = lost.mse[0] = None
    found = standing({("whitebox", "adaptive"): [lost, attack(18.0)]}, sure=0.95)
    assert found["strongest_psnr"]["psnr_mean"] == pytest.approx(18.05, abs=0.01)
    assert found["strongest_psnr"]["psnr_ci"] == [None, None]
    assert found["strongest"]["diverged"] == 1
    assert found["verdict"] != "holds"


def test_each_training_is_judged_by_the_attacks_on_it():
    """An attacker who moved on one target proves nothing of another."""
    weak = {"ssim": 0.01, "reid": 0.0, "reid_ci": [0.0, 0.001], "count": 400}
    moved, stuck = attack(5.0, **weak), attack(5.0, **weak, dead=1)
    held = {("whitebox", "adaptive"): [moved, attack(5.0, **weak, seed=1)]}
    assert judged(held, 0.95) == "holds"
    assert judged({("whitebox", "adaptive"): [moved, stuck]}, 0.95) == "undecided"


def test_a_board_calls_nothing_safe():
    """It has not attacked with everything."""
    weak = {"ssim": 0.01, "reid": 0.0, "reid_ci": [0.0, 0.001], "count": 400}
    held = {("whitebox", "adaptive"): [attack(5.0, **weak)]}
    assert judged(held, 0.95) == "holds"
    assert standing(held, sure=0.95)["verdict"] == "undecided"


def test_what_can_be_recognised_fails():
    assert standing(board(), sure=0.95)["verdict"] == "fails"


# --- Tables ---------------------------------------------------------------------------------------


def record(**values):
    shared = {"sent_bytes": 4096, "edge_flops_ratio": 1.25, "level": "0.3"}
    shared |= {"certified_reid": 0.064}
    weak = {("whitebox", "adaptive"): two(9.0, ssim=0.2)}
    return {
        "dataset": "mnist",
        "split": "relu2",
        "num_images": 8,
        "seeds": 2,
        "accuracy_undefended": 0.9888,
        "losses": [1.0, 5.0],
        "standings": [
            {"defense": name, "loss": loss, **shared, **standing(attacks, sure=0.95)}
            for name, attacks in (("cloak", board()), ("vib", weak))
            for loss in (1.0, 5.0)
        ],
        **values,
    }


def test_a_board_has_a_table_for_each_loss_and_the_least_leaking_first(monkeypatch):
    made = table.markdown(record())
    assert made.count("## ") == 2 and "## 1 points" in made and "98.88%" in made
    rows = [line for line in made.splitlines() if line.startswith(("| cloak", "| vib"))]
    assert [line.split()[1] for line in rows] == ["vib", "cloak", "vib", "cloak"]
    cloak = [cell.strip() for cell in rows[1].split("|")[1:-1]]
    assert cloak[:4] == ["cloak", "0.3", "99.00%", "12.05 / 0.300"]
    assert cloak[4] == "20.05 / 0.700" and cloak[5] == "white-box, adaptive"
    assert cloak[6].startswith("6.31 [") and cloak[7:] == [
        *("80.0%", "6.4%", "fails", "4,096", "1.25x")
    ]
    assert [cell.strip() for cell in rows[0].split("|")][4] == "-"
    text = table.text(record())
    assert "relu2, 5 points of accuracy:" in text and "white-box, adaptive" in text
    widths = {line.index("white-box") for line in text.splitlines() if "white-box" in line}
    assert len(widths) == 1
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR")
    coloured = table.text(record()).splitlines()
    assert {line[:5] for line in coloured if "  fails  " in line} == {"\x1b[31m"}
    assert {line[:4] for line in coloured if "defence" in line} == {"\x1b[1m"}


def test_scores_are_never_made_up():
    lost = attack(18.0, diverged=8)
    lost.psnr[:] = lost.ssim[:] = lost.mse[:] = [None] * 8
    with np.errstate(all="ignore"):
        found = standing({("whitebox", "adaptive"): [lost]}, sure=0.95)
    assert found["strongest"] is None and found["strongest_psnr"] is None
    assert found["error_ratio"] is None and found["verdict"] != "holds"


# --- Pictures -------------------------------------------------------------------------------------


def drawn(folder, attacked, losses):
    """Pictures of a board whose defences have these attacks, one for each loss."""
    found = record(
        losses=losses,
        standings=[
            {"defense": name, "level": "0.3", "loss": loss, **standing(attacks, sure=0.95)}
            for name, attacks in attacked
            for loss in losses
        ],
    )
    folder.mkdir()
    dataset = SimpleNamespace(name="mnist", kind=kinds.IMAGE)
    scene = SimpleNamespace(dataset=dataset, title="mnist, lenet5")
    drawing.draw(folder, found, [own for _, own in attacked for _ in losses], scene)


def test_a_picture_shows_what_both_attackers_make_of_each_defence(tmp_path):
    made = {}
    for who, own in board().items():
        for number, each in enumerate(own):
            fake_runs.attack(tmp_path, folder=f"{'-'.join(who)}-{number}")
            each.path = str(tmp_path / "whitebox" / f"{'-'.join(who)}-{number}" / "record.json")
        made[who] = own
    drawn(tmp_path / "one", [("cloak", made)], [1.0, 5.0])
    drawn(tmp_path / "two", [("cloak", made), ("vib", made)], [1.0])
    sizes = []
    for name in ("one", "two"):
        with Image.open(tmp_path / name / drawing.IMAGES_NAME) as picture:
            sizes.append(picture.height)
    # Originals and two rows; two more for the second defence, and none for the second loss.
    assert sizes[0] * 1.4 < sizes[1] < sizes[0] * 1.8
    with Image.open(tmp_path / "two" / drawing.CHART_NAME) as picture:
        assert picture.format == "PNG"


def test_what_a_run_lost_is_left_out_of_the_picture(tmp_path):
    gone = {who: own for who, own in board().items()}
    for own in gone.values():
        for each in own:
            each.path = str(tmp_path / "nowhere" / "record.json")
    drawn(tmp_path / "one", [("cloak", gone)], [1.0])
    assert not (tmp_path / "one" / drawing.IMAGES_NAME).exists()
    assert (tmp_path / "one" / drawing.CHART_NAME).exists()


# --- A board --------------------------------------------------------------------------------------


NETWORK = """
import flax.linen as nn
from jaxinv.networks import sequence


def build():
    layers = [("flat", lambda x: x.reshape(len(x), -1)), ("hidden", nn.Dense(12))]
    return sequence([*layers, ("relu", nn.relu), ("logits", nn.Dense(3))], (12, 12, 1))
"""


@pytest.mark.slow
def test_a_board_of_codes_certifies_them_and_is_read_when_it_is_finished(tmp_path, monkeypatch):
    (tmp_path / "net.py").write_text(NETWORK)
    parts = {"target": samples(600), "attacker": samples(60, seed=1), "test": samples(400, seed=2)}
    large = np.ones((1, 3, 3, 1), np.uint8)
    np.savez(
        tmp_path / "own.npz",
        **{f"images_{name}": np.kron(part.pixels, large) for name, part in parts.items()},
        **{f"labels_{name}": part.labels for name, part in parts.items()},
    )
    monkeypatch.chdir(tmp_path)
    config = LeaderboardConfig(
        dataset="own.npz",
        network="net.py:build",
        split=("relu",),
        defense=("codebook",),
        loss=(0.0, 60.0),
        seeds=1,
        num_images=8,
        threat_model=("whitebox",),
        attacker=("mean",),
        retrain_steps=8,
    )
    (made,) = leaderboard.run(config)
    for found in made["standings"]:
        bits, images = float(found["level"]), 200  # in the second half of the test split
        assert found["sent_bytes"] == -(-bits // 8) and found["edge_flops_ratio"] > 1
        assert found["certified_reid"] == (2**bits / images if 2**bits < images else None)
        assert found["strongest"]["method"] == "mean"
    assert made["standings"][-1]["certified_reid"] is not None
    folder = Path(made["path"]).parent
    assert "| codebook |" in (folder / "leaderboard.md").read_text("utf-8")
    assert {"leaderboard.png", "reconstructions.png"} <= {each.name for each in folder.iterdir()}
    (again,) = leaderboard.run(config)
    assert again["path"] == made["path"] and again["standings"] == made["standings"]
