"""Tables of runs keep their columns, however long the names in them are."""

import pytest

from jaxinv.studies import convergence, lines
from jaxinv.studies.defended import table as defended

RECORD = {
    **dict(split="relu2", psnr_mean=21.234, psnr_ci=[20.1, 22.9], ssim_mean=0.87654),
    **dict(exact_fraction=0.25, paper={"psnr": 15.1, "ssim": 0.6}),
    **dict(compile_s=1.5, attack_s=2.5, images_per_s=1.6),
    **dict(diverged=0, num_images=4, dead=0),
}
ALL_DIVERGED = {
    **RECORD,
    **dict(diverged=4, psnr_mean=None, ssim_mean=None, psnr_ci=[None, None], exact_fraction=0.0),
}
DEFENDED = {
    **RECORD,
    **dict(threat_model="whitebox", method="adaptive", usability={"value": 0.98}),
    **dict(judge_accuracy=None, reid=1.0, fit_s=2.0),
}


def row(record):
    return lines.table(["relu2"], vectors=False)[1](record)


def test_a_row_stands_below_its_header():
    header, line = lines.table(["relu2"], vectors=False)
    cells = ["relu2", "21.23 [20.10, 22.90]", "0.8765", "25.0%", "15.10/0.60"]
    titles = ["split", "PSNR", "SSIM", "exact", "paper"]
    for cell, title in zip(cells, titles, strict=True):
        assert line(RECORD).index(cell) == header.index(title)
    assert line(RECORD).split()[-3:] == ["1.5", "2.5", "1.6"]
    assert "diverged" not in line(RECORD)


def test_a_row_without_a_printed_figure():
    assert row({**RECORD, "paper": None}).split()[-4] == "-"


def test_a_row_says_what_diverged():
    assert "1 diverged" in row({**RECORD, "diverged": 1})
    assert row(ALL_DIVERGED).split()[:3] == ["relu2", "diverged", "-"]
    assert row(ALL_DIVERGED).count("diverged") == 1


@pytest.mark.parametrize("cut", ["conv1", "stage1.block3", "conv_stage0_block0_proj.BiasAdd+1"])
def test_a_quality_begins_below_its_header(cut):
    header, told = lines.table(["stem", cut], vectors=False)
    line = told({**RECORD, "split": cut})
    assert line.split()[0] == cut
    assert line.index("21.23") == header.index("PSNR")
    assert line.index("0.8765") == header.index("SSIM")


def test_short_names_leave_the_usual_width():
    assert lines.table(["conv1", "fc1"], vectors=False)[0].index("PSNR") == 10


@pytest.mark.parametrize("kind", ["none", "gaussian+quantize+dropout+clip"])
def test_defended_runs_keep_their_columns(kind):
    cut = "stage1.block3"
    header, told = defended.columns("accuracy", [cut], ["none", kind])
    defense = {"kind": kind, "site": "feature", "level": 0.5}
    line = told({**DEFENDED, "split": cut, "defense": defense})
    assert line.split()[:2] == [cut, kind]
    for name, text in (
        ("defence", kind),
        ("site", "feature"),
        ("accuracy", "0.98"),
        ("SSIM", "0.877"),
    ):
        assert line.index(text) == header.index(name), name


@pytest.mark.parametrize("cut", ["fc1", "stage1.block3"])
def test_ends_of_curves_keep_their_columns(cut):
    header, told = convergence.table(["stem", cut])
    attack = {"psnr_mean": 21.23, "ssim_mean": 0.8765, "fit_s": 1.5}
    curves = {"misfit_median": [0.5, 1e-3], "steps": [1, 20], "seconds": [0.1, 0.25]}
    record = {"cut": cut, "methods": ["tv"], "attacks": {"tv": attack}, "curves": {"tv": curves}}
    (line,) = told(record)
    assert line.split() == [cut, "tv", "21.23", "0.8765", "1.0e-03", "20", "0.2500", "1.5"]
    assert line.index("tv") == header.index("method")
    assert line.index("21.23") + 5 == header.index("PSNR dB") + 7
