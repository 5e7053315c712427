import base64
import contextlib
import html.parser
import importlib.util
import io
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import types
from pathlib import Path

import fake_runs
import numpy as np
import pytest
from fake_runs import attack, choice, defended, partition
from PIL import Image

from jaxinv import report
from jaxinv.errors import UserError
from jaxinv.report import (
    advice,
    cards,
    charts,
    findings,
    gallery,
    origins,
    results,
    tables,
    values,
)
from jaxinv.store import records

ROOT = Path(__file__).resolve().parent.parent.parent
LIMIT_BYTES, LIMIT_MS = 5_000_000, 5000  # 2000 on a machine that has nothing else to do
EVIL = "<script>window.evil=1</script><img src=x onerror=window.evil=1>\"'&</script><!--"


def found_in(workdir):
    return results.sort(report.read(workdir))


def cells(table, row):
    return [cell.text for cell in table.rows[row].cells]


# --- Values -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0123, "12.3 ms"),
        (41.9e-6, "41.9 µs"),
        (4.5e-10, "450 ps"),
        (1.0, "1.00 s"),
        (123.4, "123 s"),
        (17.7e9, "17.7 Gs"),
        (0.0, "0 s"),
        (-0.5, "-500 ms"),
        (None, values.MISSING),
    ],
)
def test_units(value, expected):
    assert values.unit(value, "s") == expected


def test_words():
    assert values.percent(0.9914, 2) == "99.14%"
    assert values.signed(-1.8, 2) == "\N{MINUS SIGN}1.80"
    assert values.signed(0.049, 3) == "+0.049"
    assert values.signed(-0.0001, 3) == "0.000"
    assert values.listed(["a", "b", "c"]) == "a, b and c"
    assert values.listed(["a"]) == "a" and values.listed([]) == ""
    assert values.span([1000, 200, 200]) == "200 to 1,000"
    assert values.interval(values.Measure(1.0, 0.9, 1.1), 1) == "[0.9, 1.1]"


# --- Records as runs ----------------------------------------------------------------------------


def test_cuts_are_in_the_order_of_their_network(tmp_path):
    """Each of several data sets has an order of its own; `pool1` and `fc1` are in both."""
    order = {"mnist": ("conv1", "pool1", "relu2", "fc1"), "cifar10": ("conv12", "pool1", "fc1")}
    for dataset, splits in order.items():
        for split in sorted(splits):
            attack(tmp_path, split=split, dataset=dataset)
            defended(tmp_path, split=split, dataset=dataset)
    attack(tmp_path, split="first", dataset="mine", cuts=["second", "first"])
    attack(tmp_path, split="second", dataset="mine", cuts=["second", "first"])
    found = found_in(tmp_path)
    for dataset, splits in {**order, "mine": ("second", "first")}.items():
        own = [each for each in found.attacks if each.dataset == dataset]
        assert results.in_order(own) == [*splits]
        plain = [each for each in own if each.defense.is_none]
        assert [each.split for each in findings.in_cuts(plain)] == [*splits]
        table = tables.undefended(findings.in_cuts(plain), "t", "c")
        assert [row.cells[0].text for row in table.rows] == [*splits]
        drawn = json.dumps(charts.quality(own, dataset).panels[0].chart.to_dict())
        assert f'"domain": {json.dumps(splits)}' in drawn
    assert [(each.dataset, each.split) for each in findings.tradeoffs(found.attacks)] == [
        *(("cifar10", split) for split in order["cifar10"]),
        *(("mnist", split) for split in order["mnist"]),
    ]


def test_a_cut_that_its_network_does_not_name_comes_last(tmp_path):
    for split in ("aaa", "fc1", "conv1"):
        attack(tmp_path, split=split)
    attack(tmp_path, split="pool1", cuts=[])  # as an older version left it
    assert results.in_order(found_in(tmp_path).attacks) == ["conv1", "pool1", "fc1", "aaa"]


def test_a_defence_at_level_zero_is_none(tmp_path):
    defended(tmp_path, level=0.0, folder="a")
    defended(tmp_path, kind="dropout+gaussian", level=[0.0, 0.3], folder="b")
    none, both = (run.defense for run in found_in(tmp_path).attacks)
    assert none.is_none and none.words == "undefended"
    assert not both.is_none and both.words == "dropout+gaussian 0+0.3 at the features"


def test_a_recommendation_out_of_range_is_none(tmp_path):
    rows = [choice("conv1"), choice("edge-only")]
    partition(tmp_path, rows, recommendation=7, recommendation_split=-1)
    (found,) = found_in(tmp_path).partitions
    assert found.recommended is None and found.recommended_split is None


# --- Findings -----------------------------------------------------------------------------------


def test_reach_is_the_strongest_and_the_strongest_at_depth(tmp_path):
    attack(tmp_path, split="conv1", method="paper", quality=(39.0, 0.99))
    attack(tmp_path, split="conv1", method="tv", quality=(100.0, 0.9999977))  # as SSIM is rounded
    attack(tmp_path, split="relu1", method="tv", quality=(99.3, 0.9999978))
    attack(tmp_path, split="fc1", method="tv", quality=(12.0, 0.3))
    attack(tmp_path, split="fc1", method="map", quality=(18.0, 0.7))
    attack(tmp_path, split="fc2", method="map", quality=(None, None), diverged=200)
    attack(tmp_path, "blackbox", split="relu2", method="strong", quality=(24.0, 0.9))
    attacks = [each for each in found_in(tmp_path).attacks if each.split != "fc2"]
    white, black = findings.reaches(attacks)
    assert (white.best.split, white.best.method) == ("conv1", "tv")
    assert (white.deepest.split, white.deepest.method) == ("fc1", "map")
    assert (black.threat, black.best, black.deepest.split) == ("blackbox", black.deepest, "relu2")


def test_an_attacker_who_only_diverged_reaches_nothing(tmp_path):
    attack(tmp_path, quality=(None, None), diverged=200)
    found = found_in(tmp_path)
    assert findings.reaches(found.attacks) == []
    assert "diverged" in report.build(report.read(tmp_path))


def test_a_defence_holds_if_nobody_who_attacked_gets_through(tmp_path):
    low = {"reid_top1": 0.02, "reid_ci": [0.0, 0.05]}
    for level, accuracy, paper, adaptive in ((0.6, 0.95, 0.1, 0.9), (0.9, 0.6, 0.05, 0.2)):
        for method, ssim in (("paper", paper), ("adaptive", adaptive)):
            values = {"accuracy": accuracy, "quality": (10.0, ssim), **low}
            defended(tmp_path, level=level, method=method, **values)
    # Attacked by the authors' attacker alone, who does not know of it: proves nothing.
    defended(tmp_path, "gaussian", 2.0, method="paper", quality=(5.0, 0.01), **low)
    judged = findings.defended(found_in(tmp_path).attacks)
    assert judged.settings == 2
    (held,) = judged.held
    assert (held.defense.level_text, held.method) == ("0.9", "adaptive")
    assert judged.near and judged.near.defense.level_text == "0.6"
    words = findings.defended_words(judged)
    assert "Of 2 defended settings" in words and "costs 39.0 points of accuracy" in words
    assert "dropout 0.6 at the features (relu2)" in words and "SSIM 0.900" in words


@pytest.mark.parametrize(
    "spoilt",
    [
        {"diverged": 1},
        {"ssim_ci": [-0.1, 0.3], "num_images": 50},
        {"reid_top1": 0.08},
        {"reid_ci": [None, None], "reid_top1": None},
        {"num_images": 1},
    ],
)
def test_a_defence_that_is_not_shown_to_hold_does_not(tmp_path, spoilt):
    held = {"quality": (8.0, 0.1), "reid_top1": 0.02, "reid_ci": [0.0, 0.05]}
    defended(tmp_path, **held)
    assert len(findings.defended(found_in(tmp_path).attacks).held) == 1
    defended(tmp_path, **{**held, **spoilt}, seed=1)
    judged = findings.defended(found_in(tmp_path).attacks)
    assert judged.held == []
    assert findings.defended_words(judged).startswith("No defended setting that")


def test_of_many_settings_one_that_holds_by_luck_is_not_told(tmp_path):
    lucky = {"quality": (8.0, 0.222), "ssim_ci": [0.2125, 0.2315], "reid_top1": 0.0}
    defended(tmp_path, **lucky)
    assert len(findings.defended(found_in(tmp_path).attacks).held) == 1
    for level in range(1, 5):
        defended(tmp_path, "gaussian", float(level), quality=(20.0, 0.9), reid_top1=0.5)
    judged = findings.defended(found_in(tmp_path).attacks)
    assert (judged.settings, judged.held, judged.undecided) == (5, [], 1)


def test_a_defence_that_fails_on_other_images_is_not_said_to_hold(tmp_path):
    held = {"quality": (8.0, 0.1), "reid_top1": 0.02, "reid_ci": [0.0, 0.05]}
    defended(tmp_path, **held, test_images="choice")
    defended(tmp_path, **{**held, "quality": (20.0, 0.9)}, test_images="report")
    judged = findings.defended(found_in(tmp_path).attacks)
    assert judged.held == [] and judged.settings == 1


def test_a_defence_near_the_limits_is_undecided(tmp_path):
    near = {"quality": (8.0, 0.248), "reid_top1": 0.0, "num_images": 50}
    defended(tmp_path, **near)
    judged = findings.defended(found_in(tmp_path).attacks)
    assert (judged.held, judged.undecided) == ([], 1)
    assert judged.nearest.verdict == "undecided" and judged.nearest.images_needed > 50
    words = findings.defended_words(judged)
    assert "is shown to keep everybody below SSIM 0.25" in words
    assert "dropout 0.6 at the features (relu2) comes nearest" in words
    assert f"and {judged.nearest.images_needed:,} images would settle it." in words
    assert "1 is undecided: the limits lie within intervals that hold for all settings" in words


def test_lines_of_a_tradeoff(tmp_path):
    for level, method in itertools.product((0.8, 0.2), ("paper", "adaptive")):
        defended(tmp_path, level=level, method=method)
    defended(tmp_path, level=0.6, releases=4)
    defended(tmp_path, level=0.6, retrain="cloud")
    defended(tmp_path, "clip", 0.1)
    defended(tmp_path, level=0.6, threat_model="blackbox")
    white, black = findings.tradeoffs(found_in(tmp_path).attacks)
    assert (white.threat, black.threat) == ("whitebox", "blackbox")
    names = sorted((line.name, line.method, len(line.attacks)) for line in white.lines)
    assert names == [
        ("clip, feature", "adaptive", 1),
        ("dropout, feature", "adaptive", 2),
        ("dropout, feature", "paper", 2),
        ("dropout, feature, 4 releases", "adaptive", 1),
        ("dropout, feature, cloud retrained", "adaptive", 1),
    ]
    assert white.lines[-1].kind == "clip"  # after the paper's defences
    levels = [each.defense.levels for each in white.lines[0].attacks]
    assert levels == sorted(levels)


def test_against_the_paper(tmp_path):
    printed = {"psnr": 15.1, "ssim": 0.6}
    attack(tmp_path, method="hybrid", quality=(33.73, 0.977), paper=printed)
    attack(tmp_path, method="paper", quality=(13.28, 0.649), paper=printed)
    attack(tmp_path, split="fc1", paper=None)
    table = tables.against_paper(findings.against_paper(found_in(tmp_path).attacks), "t")
    assert cells(table, 0)[:5] == [
        *("relu2", "white-box, paper", "15.10", "13.28", "\N{MINUS SIGN}1.82")
    ]
    assert cells(table, 0)[5:8] == ["0.60", "0.649", "+0.049"]
    assert cells(table, 1)[4] == "+18.63"
    assert len(table.rows) == 2


def test_why_others_are_not_the_papers_is_said_once_for_each_attacker(tmp_path):
    printed = {"psnr": 15.1, "ssim": 0.6}
    for folder, psnr in (("far", 13.28), ("farther", 9.0)):
        attack(tmp_path, method="paper", quality=(psnr, 0.6), paper=printed, folder=folder)
    attack(tmp_path, "blackbox", method="paper", quality=(15.0, 0.6), paper=printed)  # is alike
    attack(tmp_path, method="map", quality=(28.0, 0.9), paper=printed)
    found = findings.against_paper(found_in(tmp_path).attacks)
    reasons = findings.why_others(found)
    assert list(reasons) == ["white-box, paper", "white-box, map"]
    assert "weights that it does not publish" in reasons["white-box, paper"]
    assert "recovers more" in reasons["white-box, map"]
    html = report.build(report.read(tmp_path))
    assert "with another target trained alike" in html


def test_quality_at_cuts_is_that_of_the_best_run(tmp_path):
    for queries, ssim in ((300, 0.7), (10_000, 0.95), (1000, 0.8)):
        attack(tmp_path, "blackbox", method="strong", queries=queries, quality=(20.0, ssim))
    attack(tmp_path, "blackbox", split="conv1", method="strong")
    conv1, relu2 = findings.best_of_splits(found_in(tmp_path).attacks)
    assert conv1.split == "conv1"
    assert relu2.record.queries == 10_000


# --- Advice -------------------------------------------------------------------------------------


def test_a_recommendation_in_words(tmp_path):
    split = choice(
        "relu2",
        defense={"kind": "dropout", "site": "feature", "level": 0.6},
        accuracy=0.965,
        ssim=0.2,
        latency=0.03,
        safe="fails",
    )
    rows = [choice("cloud-only", ssim=1.0), split, choice("edge-only", ssim=0.0, latency=0.0012)]
    partition(tmp_path, rows, recommendation=2, recommendation_split=1)
    (found,) = found_in(tmp_path).partitions
    first, second = advice.advice(found)
    assert first == (
        "Compute everything on the device: 99.0% accuracy, 1.20 ms and 120 µJ an image and 123 kB "
        "of memory on the device. Nothing is sent, so nothing can be reconstructed."
    )
    assert second == (
        "If the cloud has to compute a part, split after relu2 with dropout 0.6 at the features: "
        "96.5% accuracy, 30.0 ms and 3.00 mJ an image and 123 kB of memory on the device. Of "
        "all attacks, the strongest (white-box, adaptive) gets SSIM 0.200 [0.190, 0.210] "
        "(13.0 dB), and re-identifies 20.0% [19.0%, 21.0%] of the images. That is not below SSIM "
        "0.25 and 10% re-identification."
    )
    assert advice.asked(found) == (
        "Asked for: accuracy of at least 98% and SSIM of at most 0.25. Of what meets that, privacy "
        "counts first."
    )


def test_sending_the_image_is_called_that(tmp_path):
    partition(tmp_path, [choice("cloud-only", ssim=1.0)])
    (sentence,) = advice.advice(found_in(tmp_path).partitions[0])
    assert sentence.startswith("Send the image to the cloud")
    assert sentence.endswith("The cloud is given the image itself.")


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("No choice meets max_ssim=0.1.", "No choice meets max_ssim=0.1."),
        ("Together they leave none.", "No choice meets all constraints. Together they leave none."),
        ("", "No choice meets all constraints."),
    ],
)
def test_where_nothing_is_recommended_it_says_why(tmp_path, reason, expected):
    rows = [choice("conv1", meets=False, fails=["max_ssim", "diverged"])]
    partition(tmp_path, rows, recommendation=None, reason=reason)
    (found,) = found_in(tmp_path).partitions
    assert advice.advice(found) == [expected]
    assert advice.verdict(found.choices[0]) == "breaks SSIM; unproved: an attack diverged"
    assert expected in report.build(report.read(tmp_path))


def test_where_nothing_that_splits_is_recommended_it_says_why(tmp_path):
    rows = [choice("conv1", meets=False), choice("edge-only", ssim=0.0)]
    why = "No choice is shown to meet max_ssim=0.25; conv1 comes nearest."
    partition(tmp_path, rows, recommendation=1, reason_split=why)
    first, second = advice.advice(found_in(tmp_path).partitions[0])
    assert first.startswith("Compute everything on the device")
    assert second == f"If the cloud has to compute a part, nothing is recommended: {why}"


def test_an_older_record_does_not_make_a_limit_kept_that_quick_attacks_left(tmp_path):
    limits = {"min_accuracy": 0.9, "max_ssim": 0.25, "max_reid": 0.1}
    quick = {"effort": "screen", "meets": True, "ssim": 0.1}
    rows = [
        choice("conv1", **quick),
        choice("relu2", **quick, certified_reid=0.064),
        choice("fc1", **{**quick, "effort": "full"}),
        choice("fc2", ssim=0.05, meets=False, fails=["min_accuracy"], effort="screen"),
    ]
    partition(tmp_path, rows, constraints=limits)
    (found,) = found_in(tmp_path).partitions
    told = [advice.verdict(each) for each in found.choices]
    assert told[:2] == ["undecided: re-identification and SSIM", "undecided: SSIM"]
    assert told[2] == "met" and [each.meets for each in found.choices] == [
        False,
        False,
        True,
        False,
    ]
    # What is open comes before what is broken, whatever it leaks.
    assert advice.order(found)[-1].split == "fc2"
    partition(tmp_path, rows[1:2], constraints={"max_reid": 0.1}, seed=1)
    only = next(each for each in found_in(tmp_path).partitions if len(each.choices) == 1)
    assert advice.verdict(only.choices[0]) == "met, by a certificate"


def test_what_is_undecided_is_told_with_what_would_settle_it(tmp_path):
    unsure = {"undecided": ["max_ssim", "max_reid"], "safe": "undecided", "meets": False}
    needed = {"max_ssim": 4310, "max_reid": None}
    row = choice("relu2", ssim=0.248, images_needed=needed, **unsure)
    tested = {
        "before": {"split": "pool2", "ssim_mean": 0.887},
        "after": {"split": "fc1", "ssim_mean": 0.248, "ssim_ci": [0.22, 0.276]},
        "holds": False,
        "verdict": "undecided",
    }
    partition(tmp_path, [row], advice=tested)
    (found,) = found_in(tmp_path).partitions
    (shown,) = found.choices
    assert advice.verdict(shown) == (
        "undecided: SSIM (4,310 images would settle it) and re-identification"
    )
    assert (
        "Whether that is below SSIM 0.25 and 10% re-identification is undecided."
        in (advice.advice(found)[0])
    )
    words = advice.paper_advice(found)
    assert "SSIM 0.248 [0.220, 0.276] behind it" in words and "is undecided" in words
    text = " ".join(report.build(report.read(tmp_path)).split())
    assert "4,310 images would settle it" in text and "else it is undecided" in text


def test_the_papers_advice_is_judged(tmp_path):
    quality = {"reid": 0.5, "psnr_mean": 20.0}
    tested = {
        "before": {"split": "pool2", "ssim_mean": 0.887, **quality},
        "after": {"split": "fc1", "ssim_mean": 0.851, **quality},
        "holds": False,
        "threats": [
            {"threat_model": "queryfree", "verdict": "holds", "num_images": 300},
            {"threat_model": "blackbox", "verdict": "undecided"},
        ],
    }
    partition(tmp_path, [choice("fc1")], advice=tested)
    words = advice.paper_advice(found_in(tmp_path).partitions[0])
    assert "SSIM 0.851 behind it (fc1) and 0.887 before (pool2). That is not enough" in words
    assert words.endswith("on their own: query-free (300 images) holds.")


def test_choices_are_recommended_first_then_by_what_they_leave(tmp_path):
    rows = [
        choice("conv1", ssim=0.1, meets=False),
        choice("relu2", ssim=0.9),
        choice("fc1", ssim=0.5),
        choice("edge-only", ssim=0.0),
    ]
    partition(tmp_path, rows, recommendation=3, recommendation_split=1)
    (found,) = found_in(tmp_path).partitions
    assert [each.split for each in advice.order(found)] == ["edge-only", "relu2", "fc1", "conv1"]


def test_a_choice_leads_to_its_strongest_attack(tmp_path):
    attack(tmp_path, folder="weak", quality=(10.0, 0.3))
    attack(tmp_path, folder="strong", quality=(20.0, 0.8))
    attempts = [
        {
            "threat_model": "whitebox",
            "method": "hybrid",
            "psnr_mean": psnr,
            "ssim_mean": ssim,
            "reid": 0.5,
            "diverged": 0,
            "path": f"whitebox/{name}/record.json",
        }
        for name, psnr, ssim in (("weak", 10.0, 0.3), ("strong", 20.0, 0.8))
    ]
    partition(tmp_path, [choice("relu2", attacks=attempts)])
    found = found_in(tmp_path)
    places = {each.name: each.number for each in found.attacks}
    (made,) = found.partitions
    table = tables.choices(made, made.choices, places, "t", "c")
    cell = next(cell for cell in table.rows[0].cells if cell.run)
    assert (cell.run, cell.note) == (places["whitebox/strong"], "of 2 attacks")


def test_a_choice_tells_whether_everything_attacked_it(tmp_path):
    rows = [choice("conv1", effort="screen"), choice("relu2", effort="full"), choice("edge-only")]
    partition(tmp_path, rows)
    (made,) = found_in(tmp_path).partitions
    table = tables.choices(made, made.choices, {}, "t", "c")
    place = [column.label for column in table.columns].index("effort")
    told = [row.cells[place].text for row in table.rows]
    assert told == ["quick attacks alone", "all attacks", "none"]
    assert "Of quick attacks alone, the strongest" in advice.advice(made)[0]


def test_a_recommended_row_says_that_its_figures_are_of_report_images(tmp_path):
    rows = [choice("conv1", test_images="report"), choice("relu2"), choice("edge-only")]
    attacks = [{"threat_model": "whitebox", "method": "map"}]
    rows[0] |= {"surrogate_images": 1234, "attacks": attacks}
    partition(tmp_path, rows)
    (made,) = found_in(tmp_path).partitions
    table = tables.choices(made, made.choices, {}, "t", "c")
    assert [row.cells[0].note for row in table.rows] == ["recommended; on report images", "", ""]
    assert table.rows[0].cells[7].note == "1,234 images to learn from"


def test_what_is_certain_is_told_beside_what_attackers_found(tmp_path):
    rows = [choice("relu2", reid=0.048, certified_reid=0.064), choice("edge-only")]
    partition(tmp_path, rows, recommendation=1, recommendation_split=0)
    (made,) = found_in(tmp_path).partitions
    cell = tables.choices(made, made.choices, {}, "t", "c").rows[0].cells[6]
    assert cell.text == "4.8%" and cell.note.endswith("]; certified: at most 6.4% on average")
    assert "certified that no attacker re-identifies more than 6.4% of" in advice.advice(made)[1]


def test_a_page_about_rows_speaks_of_rows(tmp_path):
    column = {"name": "a", "unit": "m", "low": 0.0, "high": 1.0}
    inputs = {"kind": "table", "shape": [1], "columns": [column]}
    partition(tmp_path, [choice("fc1", test_images="report")], inputs=inputs)
    text = " ".join(report.build(report.read(tmp_path)).split())
    assert "known by the other half, the report rows, which" in text
    assert "on report rows" in text and "report images" not in text


def test_bounds_that_say_something(tmp_path):
    def bound(quantity, value, *, name="b", dithered=False):
        told = {"name": name, "kind": "certified", "quantity": quantity, "value": value}
        return {**told, "assumptions": "some", "dithered": dithered}

    given = [bound("psnr", 25.0), bound("psnr", 104.0), bound("psnr", None), bound("reid", 1.0)]
    given += [bound("reid", 0.4), bound("psnr", 20.3, dithered=True)]
    given += [bound("psnr", 1.8, name="Cramer-Rao")]
    partition(tmp_path, [choice("relu2", bounds=given)])
    table = tables.bounds(found_in(tmp_path).partitions[0], "t", "title")
    assert [cells(table, row)[1:3] for row in range(len(table.rows))] == [
        ["at most 25.0 dB", "21.0 dB"],  # of the mean error; the mean PSNR is 22.0
        ["at most 40.0% re-identified", "80.0%"],
        # About other images, and other attackers, than those that attacked.
        ["at most 20.3 dB", "not comparable"],
        ["at most 1.8 dB", "not comparable"],
    ]
    assert "not the mean of PSNRs" in table.caption and "more images" in table.caption
    assert "on images that choices are made on" in table.caption
    page = report.build(report.read(tmp_path))
    assert "What theory allows: 4 bounds" in page and "no attacker can do" not in page


def test_a_device_whose_edge_was_timed_is_described_without_its_rates(tmp_path):
    profile = {"name": "mine", "edge_flops_per_s": 1e9, "uplink_bits_per_s": 5e6}
    for name, more in (("rates", {}), ("timed", {"name": "this", "edge_times": {"conv1": 0.1}})):
        partition(tmp_path, [choice("conv1")], folder=name, profile=profile | more)
    told = {each.folder.name: advice.profile(each) for each in found_in(tmp_path).partitions}
    assert told["rates"] == "Device 1.00 GFLOP/s, uplink 5.00 Mbit/s."
    assert told["timed"] == "Uplink 5.00 Mbit/s."


@pytest.mark.slow
def test_of_equal_studies_the_newest_is_shown(tmp_path):
    rows = [choice("conv1"), choice("edge-only")]
    for age, (folder, more) in enumerate(
        [
            ("z", {}),
            ("b", {"choices": [choice("conv1", ssim=0.7), rows[1]], "device": "another"}),
            ("a", {"choices": [choice("conv1", ssim=0.6), rows[1]], "versions": {}}),
            ("fewer", {"choices": rows[:1]}),
            ("of-more-images", {"num_images": 65}),
            ("of-another-seed", {"seed": 1}),
            ("of-other-limits", {"constraints": {"min_accuracy": 0.5}}),
            ("for-another-end", {"prefer": "energy"}),
            ("of-another-device", {"profile": {"name": "toaster"}}),
            ("c", {"profile": {"name": "toaster", "edge_times": {"conv1": 0.1}}}),
            ("of-another-target", {"target": {"fingerprint": "d"}}),
            ("of-other-data", {"data_fingerprint": "d"}),
            ("of-another-attacker", {"threat_models": ["queryfree"]}),
            ("of-more-releases", {"releases": 3}),
        ]
    ):
        record = {"choices": rows, **more}
        partition(tmp_path, record.pop("choices"), folder=folder, **record)
        os.utime(tmp_path / "partition" / folder / "record.json", (1e9 - age, 1e9 - age))
    found = found_in(tmp_path)
    names = {each.folder.name for each in found.partitions}
    assert len(names) == 11 and {"a", "b", "c"}.isdisjoint(names) and "z" in names
    assert found.superseded == 3
    numbers = [each.number for each in found.runs]
    assert numbers == sorted(set(numbers))
    text = report.build(report.read(tmp_path))
    assert "11 runs of partition" in text
    assert "3 older studies of the same choices are left out." in text
    os.utime(tmp_path / "partition" / "b" / "record.json", (2e9, 2e9))
    assert "b" in {each.folder.name for each in found_in(tmp_path).partitions}
    partition(tmp_path, [choice("conv1", ssim=0.7), rows[1]], folder="full", effort="full")
    os.utime(tmp_path / "partition" / "full" / "record.json", (1e8, 1e8))
    names = {each.folder.name for each in found_in(tmp_path).partitions}
    assert "full" in names and "b" not in names  # it is older, and rests on more


def test_the_page_says_how_far_its_choices_can_be_trusted(tmp_path):
    partition(tmp_path, [choice("conv1"), choice("edge-only")])
    text = " ".join(report.build(report.read(tmp_path)).split())
    assert "the strongest of those that were run, in each measure by the best of its" in text
    assert "choices whose 95% intervals overlap may change places" in text
    assert "left out" not in text


def test_who_learned_from_the_targets_own_images_is_named_so(tmp_path):
    attack(tmp_path, surrogate="same", folder="same")
    attack(tmp_path, folder="own")
    own, same = found_in(tmp_path).attacks
    assert own.attacker == "white-box, hybrid"
    assert same.attacker == "white-box, hybrid, by the target's images"
    who = {"threat_model": "whitebox", "method": "adaptive", "surrogate": "same"}
    partition(tmp_path, [choice("conv1", attacker=who)])
    ((row,),) = (study.choices for study in found_in(tmp_path).partitions)
    assert row.attacker == "white-box, adaptive, by the target's images"


def test_what_is_trained_in_is_a_defence_at_level_zero_too(tmp_path):
    defended(tmp_path, "nopeek", 0.0, retrain="both")
    (found,) = found_in(tmp_path).attacks
    assert not found.defense.is_none and found.defense.words == "nopeek 0 at the features"


# --- Cards --------------------------------------------------------------------------------------


def test_a_card_tells_the_threat_model(tmp_path):
    defended(tmp_path, releases=4, threat_model="blackbox", queries=97998, seed=3, folder="run")
    card = cards.card(found_in(tmp_path).attacks[0])
    pairs = dict(card.pairs)
    assert card.title == "mnist, relu2: black-box, adaptive, dropout 0.6 at the features"
    assert pairs["Is handed"] == "answers to queries of the release; surrogate images"
    assert pairs["Queries"] == "97,998" and pairs["Seed"] == "3"
    assert pairs["Learns from"] == "images of its own (20,000)"
    assert pairs["Defence"] == "dropout 0.6 (r, share of values set to zero), feature"
    assert pairs["Releases"] == "4 of each image seen; means over 2 draws of the defence"
    assert pairs["Run"] == "defenses/run/"


def test_commands_are_of_the_flags_in_the_record(tmp_path):
    flags = {"dataset": "mnist", "split": "relu2", "num_queries": "785", "seed": "2"}
    attack(tmp_path, "blackbox", method="strong", flags=flags)
    attack(tmp_path, "mine")
    black, own = (cards.command(each) for each in found_in(tmp_path).attacks)
    assert black == "jaxinv blackbox --dataset=mnist --split=relu2 --num_queries=785 --seed=2"
    assert own == ""


def test_commands_are_safe_to_paste(tmp_path):
    flags = {"dataset": "-rf \x1b[2J", "split": "$(touch /tmp/x); `id`\n'", "seed": "\n"}
    attack(tmp_path, folder="a", flags=flags)
    command = cards.command(found_in(tmp_path).attacks[0])
    assert shlex.split(command)[2:4] == ["--dataset=-rf  [2J", "--split=$(touch /tmp/x); `id` '"]
    assert "\n" not in command and "\x1b" not in command


def test_cards_of_attackers(tmp_path):
    for queries in (300, 100_000):
        attack(tmp_path, "blackbox", method="strong", queries=queries)
    defended(tmp_path, threat_model="blackbox", method="strong")
    (card,) = cards.threats(found_in(tmp_path).attacks)
    assert card.title == "black-box, strong"
    assert dict(card.pairs)["Queries"] == "300 to 100,000"
    assert dict(card.pairs)["Attacked"] == "3 times: 2 undefended and 1 defended (mnist)"


def test_where_numbers_are_from(tmp_path):
    private = {"source": "/home/someone/secret/target.safetensors", "fingerprint": "abc"}
    attack(tmp_path, target=private, seed=10)
    attack(tmp_path, target=private, seed=9)
    found = found_in(tmp_path)
    assert cells(origins.data(found, "t"), 0) == [
        *("mnist", "tfds mnist:3.0.1 (array_record)", "1a17c400a020"),
        *("target.safetensors abc", "2"),
    ]
    assert cells(origins.environments(found, "t"), 0) == [
        "cpu: Some Processor x2",
        "jaxinv 0.1.0, jax 0.10.2, python 3.11.7",
        "9, 10",
        "2",
    ]
    text = report.build(report.read(tmp_path))
    assert "someone" not in text and str(tmp_path) not in text


# --- Pictures -----------------------------------------------------------------------------------


def decoded(source):
    kind, data = source.split(",", 1)
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_strip_has_every_pixel(channels):
    images = np.random.default_rng(0).uniform(-0.2, 1.2, (3, 5, 4, channels)).astype(np.float32)
    source, size = gallery.strip(images)
    row = decoded(source)
    assert size == (14, 5) == row.shape[1::-1]
    expected = np.rint(255 * images.clip(0, 1))
    if channels == 1:
        expected = expected[..., 0]
    for place in range(3):
        np.testing.assert_array_equal(row[:, 5 * place : 5 * place + 4], expected[place])


def test_an_image_that_diverged_is_a_cross():
    images = np.zeros((2, 9, 9, 1), np.float32)
    images[1, 0, 0] = np.nan
    row = decoded(gallery.strip(images)[0])
    cross = row[:, 10:]
    assert cross[0, 0] == cross[8, 8] == cross[0, 8] == cross[4, 4] == 200
    assert cross[0, 4] == cross[4, 0] == 60


def test_pictures_are_the_best_of_each_threat_model_and_the_papers(tmp_path):
    for method, ssim in (("paper", 0.5), ("tv", 0.8), ("hybrid", 0.9)):
        attack(tmp_path, method=method, quality=(20.0, ssim))
    attack(tmp_path, "blackbox", method="paper")
    attack(tmp_path, split="conv1", method="paper")
    first, second = gallery.build(found_in(tmp_path).attacks).groups
    assert (first.title, second.title) == ("conv1, undefended", "relu2, undefended")
    assert [strip.label for strip in second.strips] == [
        *("originals", "white-box, paper", "white-box, hybrid", "black-box, paper")
    ]
    assert second.strips[2].alt == (
        "Reconstructions at relu2 by white-box, hybrid, undefended: 20.0 dB, SSIM 0.900"
    )


def test_levels_are_spread():
    levels = [(0.1 * number,) for number in range(10)]
    assert gallery.spread(levels, 4) == [levels[place] for place in (0, 3, 6, 9)]
    assert gallery.spread(levels[:3], 4) == levels[:3]


def test_pictures_of_a_defence_are_level_by_level(tmp_path):
    for level, method in itertools.product((0.0, 0.2, 0.4, 0.6, 0.8, 0.9), ("adaptive", "paper")):
        defended(tmp_path, level=level, method=method)
    groups = {group.title: group for group in gallery.build(found_in(tmp_path).attacks).groups}
    labels = [strip.label for strip in groups["dropout, feature (relu2, white-box)"].strips]
    assert labels == [
        "originals",
        *(f"{level}, {name}" for level in (0.2, 0.4, 0.8, 0.9) for name in ("paper", "adaptive")),
    ]


def test_pictures_stay_within_their_budget(tmp_path):
    fake_runs.many(tmp_path, 40)
    attacks = found_in(tmp_path).attacks
    everything = gallery.build(attacks)
    assert everything.left_out == 0
    few = gallery.build(attacks, budget=60_000)
    assert 0 < sum(len(s.source) for group in few.groups for s in group.strips) <= 60_000
    assert few.left_out > 0


def pickled(path):
    np.savez(path, originals=np.array([{}], object), reconstructions=np.array([{}], object))


def compressed_in_some_other_way(path):
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\1\2") + 10] = 99
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:300]),
        compressed_in_some_other_way,
        lambda path: path.write_bytes(b"nothing"),
        lambda path: path.unlink(),
        lambda path: np.savez(path, originals=np.zeros((2, 4, 4, 1))),
        lambda path: np.savez(path, originals=np.zeros(3), reconstructions=np.zeros(3)),
        lambda path: np.savez(
            path, originals=np.zeros((0, 4, 4, 1)), reconstructions=np.zeros((0, 4, 4, 1))
        ),
        pickled,
    ],
)
def test_damaged_pictures_are_named_and_left_out(tmp_path, damage):
    attack(tmp_path, folder="good")
    attack(tmp_path, folder="bad", method="paper", quality=(9.0, 0.2))
    damage(tmp_path / "whitebox" / "bad" / records.IMAGES_NAME)
    found = gallery.build(found_in(tmp_path).attacks)
    assert found.damaged == ["whitebox/bad"]
    assert [strip.label for strip in found.groups[0].strips] == ["originals", "white-box, hybrid"]
    assert "The pictures of whitebox/bad could not be read" in report.build(report.read(tmp_path))


# --- Charts -------------------------------------------------------------------------------------


def drawn(figure, panel=0, mark="point"):
    """The rows that a panel of a figure draws with a mark."""
    spec = figure.panels[panel].chart.to_dict()
    layer = next(layer for layer in spec["layer"] if layer["mark"]["type"] == mark)
    return spec["datasets"][layer.get("data", spec.get("data"))["name"]]


def test_a_chart_of_choices_has_every_choice(tmp_path):
    rows = fake_runs.all_choices()
    partition(tmp_path, rows, recommendation=34, recommendation_split=4)
    figure = charts.chosen(found_in(tmp_path).partitions[0], "a title")
    assert [panel.title for panel in figure.panels] == [
        *("SSIM left to the strongest attacker", "share that an attacker re-identifies"),
        *("accuracy", "energy of the edge for one image (mJ)", "latency of one image (ms)"),
    ]
    for panel, key, factor in (
        *((0, "ssim_mean", 1), (1, "reid", 1), (2, "accuracy", 1)),
        *((3, "energy_j", 1e3), (4, "latency_s", 1e3)),
    ):
        points = drawn(figure, panel)
        assert [(row["y"], row["x"]) for row in points] == [
            (row["split"], pytest.approx(factor * row[key])) for row in rows
        ]
        assert [place for place, row in enumerate(points) if row["recommended"]] == [4, 34]
    labels = [key.label for key in figure.legend[:3]]
    assert labels == ["none", "dropout 0.6 at the features", "gaussian 2 at the features"]


def test_a_line_has_its_levels_in_order(tmp_path):
    for level, ssim in ((0.8, 0.5), (0.2, 0.9), (0.4, None)):
        quality = (None if ssim is None else 20.0, ssim)
        defended(tmp_path, level=level, quality=quality, diverged=0 if ssim else 200)
    (found,) = findings.tradeoffs(found_in(tmp_path).attacks)
    rows = drawn(charts.tradeoff(found), mark="line")
    assert [(row["level"], row["x"]) for row in rows] == [("0.2", 0.9), ("0.8", 0.5)]


def test_splits_are_drawn_with_what_the_paper_prints(tmp_path):
    printed = {"psnr": 15.1, "ssim": 0.6}
    attack(tmp_path, split="relu2", method="paper", quality=(14.0, 0.5), paper=printed)
    attack(tmp_path, split="conv1", method="paper", quality=(24.0, 0.9))
    attack(tmp_path, "blackbox", split="conv1", method="strong", quality=(20.0, 0.8))
    figure = charts.quality(found_in(tmp_path).attacks, "mnist")
    points = {(row["series"], row["x"]): row["y"] for row in drawn(figure, mark="line")}
    assert points == {
        ("white-box, paper", "conv1"): 0.9,
        ("white-box, paper", "relu2"): 0.5,
        ("black-box, strong", "conv1"): 0.8,
    }
    assert [row["y"] for row in drawn(figure)] == [0.6]
    assert figure.legend[-1].label == "the paper prints"


# --- The page -----------------------------------------------------------------------------------


class Outline(html.parser.HTMLParser):
    """Headings, ids, links to them and elements of a page."""

    def __init__(self, text):
        super().__init__()
        self.levels, self.ids, self.links, self.tags, self.attributes = [], [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        self.tags.append(tag)
        self.attributes += named
        if re.fullmatch("h[1-6]", tag):
            self.levels.append(int(tag[1]))
        self.ids += [named["id"]] if "id" in named else []
        self.links += [named["href"]] if "href" in named else []


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """A workdir with each kind of record, a few of each."""
    workdir = tmp_path_factory.mktemp("everything")
    printed = {"psnr": 15.1, "ssim": 0.6}
    for method, ssim in (("paper", 0.6), ("hybrid", 0.95)):
        attack(workdir, method=method, quality=(20.0, ssim), paper=printed)
    attack(workdir, "blackbox", split="fc1", method="strong", queries=100_000, dataset="cifar10")
    attack(workdir, "queryfree", split="conv1", method="strong", num_shadows=3)
    for level, method in itertools.product((0.0, 0.4, 0.8), ("paper", "adaptive")):
        for kind, site in (("dropout", "feature"), ("gaussian", "input")):
            loss = 0.3 * level**2
            defended(workdir, kind, level, site, method=method, accuracy=0.99 - loss)
    certain = [{"split": "conv1", "sigma": 36.8, "accuracy": 0.133, "code_bits": 6}]
    rows = fake_runs.all_choices(("conv1", "relu2", "fc1"))
    chosen = {"recommendation": 10, "recommendation_split": 4}
    partition(workdir, rows, certain=certain, folder="a", **chosen)
    common = {
        key: value
        for key, value in partition(
            workdir, rows[:3], recommendation=None, reason="", folder="b"
        ).items()
        if key not in ("kind", "choices", "profile")
    }
    curves = {"tv": {"steps": [1, 2], "psnr_mean": [10.0, 20.0]}}
    others = {
        "convergence": {"kind": "convergence", "cut": "relu2", "curves": curves},
        "train_target": {
            "kind": "target",
            **{"test_accuracy": 0.9914, "num_test_images": 10_000, "fit_s": 60.0},
            "fingerprint": "01254f39fa72",
        },
        "benchmark": {"kind": "benchmark"},
    }
    for name, fields in others.items():
        records.write(workdir / name / "run", {**common, "experiment": name, **fields}, images=None)
    return workdir


def test_codes_that_are_certain_are_told_beside_noise(everything):
    page = report.build(report.read(everything))
    assert "A codebook of 6 bits does so for certain at any cut, without noise" in page


def test_the_outline_is_sound(everything):
    outline = Outline(report.build(report.read(everything)))
    assert outline.levels[0] == 1 and outline.levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(outline.levels))
    assert len(set(outline.ids)) == len(outline.ids)
    inside = [link[1:] for link in outline.links if link.startswith("#")]
    assert len(inside) > 20 and set(inside) <= set(outline.ids)
    assert outline.tags.count("table") == outline.tags.count("caption")


def test_nothing_is_loaded(everything):
    text = report.build(report.read(everything))
    outline = Outline(text)
    assert [link for link in outline.links if not link.startswith(("#", "data:"))] == []
    assert not {"iframe", "object", "embed", "base"} & set(outline.tags)
    assert "default-src &#39;none&#39;" in text or "default-src 'none'" in text
    assert text.count("vega-lite/issues/2415") <= 1  # Vega-Lite is there once


def test_the_summary_comes_first(everything):
    text = report.build(report.read(everything))
    shown = re.sub(r"<style>.*?</style>|<script.*?</script>", "", text, flags=re.S)
    places = [
        shown.index(f'<section id="{name}"')
        for name in (
            *("summary", "choices", "splits", "paper", "defences", "pictures", "threats"),
            *("others", "provenance"),
        )
    ]
    assert places == sorted(places)
    for said in (
        "Compute everything on the device",
        "21 runs of",
        "No choice meets all constraints.",
        "Other experiments",
        "Targets that were trained",
        "standard deviation",
    ):
        assert said in shown, said


def test_one_experiment_alone_is_enough(tmp_path):
    attack(tmp_path)
    text = report.build(report.read(tmp_path))
    assert "1 run of whitebox on mnist" in text
    assert "Nothing is recommended" in text and "jaxinv partition --dataset=mnist" in text
    assert 'id="choices"' not in text and 'id="defences"' not in text


def test_no_study_of_cuts_is_advised_where_the_network_is_unknown(tmp_path):
    flags = {"pairs": "sent.npz", "dataset": "sent.npz"}
    attack(tmp_path, "blackbox", dataset="sent.npz", split="pairs", flags=flags)
    text = report.build(report.read(tmp_path))
    assert "of blackbox on sent.npz" in text and "jaxinv partition" not in text


def test_a_partition_alone_is_enough(tmp_path):
    partition(tmp_path, [choice("conv1", ssim=0.1), choice("edge-only", ssim=0.0)])
    text = report.build(report.read(tmp_path))
    assert "Split after conv1" in text and 'id="pictures"' not in text


def test_a_target_alone_is_enough(everything, tmp_path):
    shutil.copytree(everything / "train_target", tmp_path / "train_target")
    assert "No attack on it is recorded." in report.build(report.read(tmp_path))


def test_without_records_there_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"^workdir=.* holds no finished run"):
        report.read(tmp_path)
    attack(tmp_path, dataset="mnist")
    with pytest.raises(UserError, match=r"^dataset=cifar10,x: the runs there are of mnist\."):
        report.read(tmp_path, ["cifar10", "x"])
    assert len(report.read(tmp_path, ["mnist"])) == 1


def test_text_of_records_stays_text(tmp_path):
    evil = dict.fromkeys(
        ("dataset", "split", "method", "attacker_knowledge", "surrogate", "device", "threat_model"),
        EVIL,
    )
    attack(tmp_path, folder="one", data_source=EVIL, versions={EVIL: EVIL}, **evil)
    defense = {"kind": EVIL, "site": "input", "level": 0.5}
    defended(tmp_path, folder="two", **evil | {"defense": defense, "level_units": [EVIL]})
    bound = {"name": EVIL, "kind": EVIL, "quantity": "psnr", "value": 1.0, "assumptions": EVIL}
    row = choice(EVIL, defense=defense, bounds=[bound], fails=[EVIL])
    profile = {"name": EVIL, "description": EVIL, "source": EVIL}
    partition(tmp_path, [row], dataset=EVIL, profile=profile, prefer=EVIL, reason=EVIL)
    text = report.build(report.read(tmp_path))
    outline = Outline(text)
    assert "onerror" not in outline.attributes
    expected = text.count('<script type="application/json"') + 2
    assert text.count("<script") == text.count("</script>") == expected
    for spec in re.findall(r'<script type="application/json" id="[^"]*">(.*?)</script>', text):
        json.loads(spec)


def test_text_that_breaks_pages_and_figures_is_cleaned_where_it_is_read(tmp_path):
    hostile = "a\x00b\x01\u2028c\x1b[2J"
    keys = ("dataset", "split", "method", "attacker_knowledge", "device", "data_source")
    attack(tmp_path, folder="one", **dict.fromkeys(keys, hostile))
    partition(tmp_path, [choice(hostile), choice("edge-only")], dataset=hostile, reason=hostile)
    written = report.write(report.read(tmp_path), tmp_path / "page.html", formats=("png",))
    text = written[0].read_text("utf-8")
    shown = re.sub(r"<script>.*?</script>", "", text, flags=re.S)  # and not of Vega's own
    assert "a b c [2J" in shown and not re.search("[\x00-\x09\x0b-\x1f\u2028\u2029]", shown)
    assert len(written) > 1
    assert all(path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" for path in written[1:])


@pytest.mark.slow
@pytest.mark.parametrize("value", [None, "x", -1, 1e300, [], {}, [None], True], ids=repr)
def test_a_file_is_set_aside_or_has_a_place_on_the_page(tmp_path, value):
    """A key at a time is spoilt, each in a run of its own, of all that a record and a row hold."""
    attack(tmp_path, folder="whole")
    partition(tmp_path, [choice("conv1"), choice("edge-only")], folder="whole")
    spoilt = []
    for experiment in ("whitebox", "partition"):
        whole = json.loads((tmp_path / experiment / "whole" / "record.json").read_text("utf-8"))
        spoilt += [(experiment, {**whole, key: value}) for key in whole]
    row, *rest = whole["choices"]
    spoilt += [("partition", {**whole, "choices": [{**row, key: value}, *rest]}) for key in row]
    for number, (experiment, record) in enumerate(spoilt):
        path = tmp_path / experiment / str(number) / "record.json"
        path.parent.mkdir()
        path.write_text(json.dumps(record))
    found = report.read(tmp_path)
    assert 2 < len(found) < len(spoilt)
    assert "NaN" not in re.sub(r"<script>.*?</script>", "", report.build(found), flags=re.S)


def test_files_of_figures_have_safe_and_different_names():
    assert report._names(["choices mnist on ../x", "a b", "a-b"]) == [
        *("choices-mnist-on-x", "a-b-2", "a-b-3")
    ]


def test_importing_it_starts_no_jax():
    code = (
        "import sys, jaxinv.report; "
        "assert not {'jax', 'matplotlib', 'vl_convert', 'PIL'} & set(sys.modules), sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


# --- The script ---------------------------------------------------------------------------------


def test_the_script_writes_a_page_and_figures(scripts, everything, tmp_path):
    out = tmp_path / "somewhere" / "page.html"
    path = scripts.record_of("report", f"--workdir={everything}", f"--out={out}")
    assert path == out and path.read_text("utf-8").startswith("<!DOCTYPE html>")
    pictures = sorted(file.name for file in (out.parent / "figures").iterdir())
    assert "choices-mnist-on-phone-wifi-study-1.png" in pictures
    assert "splits-mnist-undefended.pdf" in pictures
    assert "tradeoff-mnist-relu2-white-box.png" in pictures
    for name in pictures:
        start = (out.parent / "figures" / name).read_bytes()[:8]
        assert start == b"\x89PNG\r\n\x1a\n" if name.endswith("png") else start[:5] == b"%PDF-"


def test_the_script_by_default(scripts, tmp_path):
    attack(tmp_path / "results")
    attack(tmp_path / "results", dataset="cifar10")
    path = scripts.record_of("report", "--dataset=cifar10", "--formats=", cwd=tmp_path)
    assert path == tmp_path / "results" / "report" / "index.html"
    assert "on cifar10" in path.read_text("utf-8") and not (path.parent / "figures").exists()


@pytest.mark.parametrize(
    ("flags", "status", "said"),
    [
        (["--workdir=nothing"], 1, "--workdir=nothing holds no finished run"),
        (["--formats=svg"], 2, "--formats=svg: expected some of png, pdf"),
        (["--workdir=.", "--out=."], 2, "--out=.: is a folder"),
        (["extra"], 2, "extra: unexpected"),
    ],
)
def test_mistakes_get_one_line(scripts, tmp_path, monkeypatch, flags, status, said):
    monkeypatch.setattr(scripts, "folder", tmp_path)
    found, line = scripts.answer("report", *flags)
    assert found == status and said in line
    assert len(line.splitlines()) == 1


# --- In a browser -------------------------------------------------------------------------------


def chromium():
    """Path of the browser, or None."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = (shutil.which(name) for name in names)
    return os.environ.get("JAXINV_CHROMIUM") or next((path for path in found if path), None)


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    path = chromium()
    if path is None:
        pytest.skip("no Chromium on the PATH, and JAXINV_CHROMIUM names none")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path)
        yield started
        started.close()


def opened(browser, path, *, width=1280, scheme="light"):
    """Opens a page in a context of its own, waits until it is drawn, and notes what it does."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    tab = context.new_page()
    seen = types.SimpleNamespace(tab=tab, context=context, said=[], asked=[])
    tab.on("console", lambda message: seen.said.append(message.text))
    tab.on("pageerror", lambda error: seen.said.append(str(error)))
    tab.on("request", lambda request: seen.asked.append(request.url))
    tab.goto(path.as_uri())
    tab.wait_for_function("document.documentElement.dataset.drawn")
    return seen


@pytest.fixture
def visit(browser):
    """Opens pages, and closes them behind the test."""
    with contextlib.ExitStack() as stack:

        def go(path, **looks):
            seen = opened(browser, path, **looks)
            stack.callback(seen.context.close)
            return seen

        yield go


@pytest.fixture(scope="module")
def shown(browser, small):
    """The small page, for tests that leave it as they find it."""
    seen = opened(browser, small)
    yield seen.tab
    seen.context.close()


@pytest.fixture(scope="module")
def hundreds(tmp_path_factory):
    """The page of 200 records."""
    workdir = tmp_path_factory.mktemp("hundreds")
    assert fake_runs.many(workdir) == 200
    return report.write(report.read(workdir), workdir / "page.html", formats=())[0]


@pytest.fixture(scope="module")
def small(everything, tmp_path_factory):
    """The page of each kind of record."""
    path = tmp_path_factory.mktemp("small") / "page.html"
    return report.write(report.read(everything), path, formats=())[0]


def violations(tab, rules=None):
    """Faults that axe finds with everything open; None are all of its rules."""
    found = importlib.util.find_spec("axe_playwright_python")
    if found is None:
        pytest.skip("axe is not installed")
    tab.evaluate(Path(found.origin).with_name("axe.min.js").read_text("utf-8"))
    open_all(tab)
    options = {"resultTypes": ["violations"], **({"runOnly": rules} if rules else {})}
    seen = tab.evaluate("options => axe.run(options)", options)["violations"]
    return [(each["id"], [node["target"] for node in each["nodes"]][:3]) for each in seen]


@pytest.mark.slow
def test_two_hundred_records_are_small_and_drawn_at_once(hundreds, visit):
    assert hundreds.stat().st_size < LIMIT_BYTES
    seen = visit(hundreds)
    charts_drawn = seen.tab.locator(".chart svg").count()
    assert charts_drawn == seen.tab.locator(".chart").count() >= 8
    assert int(seen.tab.evaluate("document.documentElement.dataset.drawn")) < LIMIT_MS
    assert seen.said == []
    assert [url for url in seen.asked if not url.startswith(("file:", "data:"))] == []


def open_all(tab):
    tab.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_is_accessible(small, visit, width):
    seen = visit(small, width=width)
    assert violations(seen.tab) == []
    assert seen.said == []


def test_the_page_is_legible_in_the_dark(small, visit):
    assert violations(visit(small, scheme="dark").tab, ["color-contrast"]) == []


def test_nothing_sticks_out(hundreds, visit):
    tab = visit(hundreds, width=390).tab
    open_all(tab)
    for width in (390, 320, 768, 1280):
        tab.set_viewport_size({"width": width, "height": 844})
        assert tab.evaluate("document.documentElement.scrollWidth") <= width


def test_text_of_records_is_not_run(tmp_path, visit):
    evil = dict.fromkeys(("dataset", "split", "method", "attacker_knowledge", "device"), EVIL)
    attack(tmp_path, folder="a", **evil)
    attack(tmp_path, folder="b", **evil | {"split": "conv1"})
    row = choice(EVIL, defense={"kind": EVIL, "site": "input", "level": 0.5})
    partition(tmp_path, [row, choice("edge-only")], dataset=EVIL)
    path = report.write(report.read(tmp_path), tmp_path / "page.html", formats=())[0]
    seen = visit(path)
    assert seen.tab.evaluate("window.evil") is None and seen.said == []
    assert EVIL in seen.tab.locator("h3").all_inner_texts()[0]
    # Nor by what is drawn when the mouse is over a point.
    hover(seen.tab, seen.tab.locator(".chart").first)
    assert "<script>" in seen.tab.locator("#vg-tooltip-element").inner_text()
    assert seen.tab.evaluate("window.evil") is None


def test_the_policy_stops_scripts_of_others(small, tmp_path, visit):
    text = small.read_text("utf-8").replace("<main", "<script>window.evil=1</script><main", 1)
    (tmp_path / "changed.html").write_text(text, "utf-8")
    assert visit(tmp_path / "changed.html").tab.evaluate("window.evil") is None


def hover(tab, chart):
    """Moves the mouse to the first point of a chart that is not under another."""
    chart.scroll_into_view_if_needed()
    points = chart.locator(".mark-symbol path")
    for number in range(points.count()):
        box = points.nth(number).bounding_box()
        tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        tab.wait_for_timeout(50)
        if tab.locator("#vg-tooltip-element.visible").count():
            return
    raise AssertionError("no point has a tooltip")


def test_points_tell_what_they_are(shown):
    hover(shown, shown.locator(".chart").first)
    text = shown.locator("#vg-tooltip-element").inner_text()
    for key in ("Choice", "Accuracy", "Latency", "SSIM", "Attacker"):
        assert key in text


def test_choices_are_filtered(shown):
    form, chart = shown.locator("form.filters").first, shown.locator(".chart").first
    points = chart.locator(".mark-symbol.layer_2_marks path")
    assert points.count() == 11
    form.get_by_label("defence").select_option("dropout")
    expect(lambda: points.count() == 3)
    form.get_by_label("cut").select_option("relu2")
    expect(lambda: points.count() == 1)
    form.get_by_label("cut").select_option("")
    form.get_by_label("defence").select_option("")
    form.get_by_label("only those").check()
    expect(lambda: points.count() < 11)
    form.get_by_label("only those").uncheck()
    expect(lambda: points.count() == 11)


def expect(condition):
    """Waits until it holds."""
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_tables_are_sorted_by_a_column(shown):
    table = shown.locator("#choices table").first
    accuracies = table.locator("tbody tr td:nth-of-type(1)")
    button = table.get_by_role("button", name="accuracy")
    button.focus()
    shown.keyboard.press("Enter")
    rising = accuracies.all_inner_texts()
    assert rising == sorted(rising, key=lambda text: float(text.rstrip("%")))
    header = table.locator("th[aria-sort]")
    assert header.get_attribute("aria-sort") == "ascending"
    button.click()
    assert header.get_attribute("aria-sort") == "descending"
    falling = [float(text.rstrip("%")) for text in accuracies.all_inner_texts()]
    assert falling == sorted(falling, reverse=True)


def test_a_run_leads_to_its_card(shown):
    shown.locator("#summary a[href^='#run-']").first.click()
    expect(lambda: shown.locator("details#cards[open]").count() == 1)
    assert shown.locator(".card:target").is_visible()


def test_a_printed_page_has_the_numbers(shown):
    assert shown.locator("details.printed[open]").count() == 0
    shown.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert shown.locator("details.printed:not([open])").count() == 0
    shown.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert shown.locator("details.printed[open]").count() == 0
    printed = shown.pdf(format="A4")
    assert printed.startswith(b"%PDF-") and len(printed) > 50_000


def test_keys_reach_the_content(small, visit):
    tab = visit(small).tab
    tab.keyboard.press("Tab")
    skip = tab.locator(".skip")
    assert skip.evaluate("(link) => link === document.activeElement")
    assert skip.bounding_box()["x"] >= 0
    assert tab.evaluate("document.documentElement.lang") == "en"
