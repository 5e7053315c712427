"""Tables of runs keep their columns, however long the names in them are."""

import pytest

from jaxinv.studies import lines
from jaxinv.studies.defended import table as defended

RECORD = {
    **dict(psnr_mean=31.07, psnr_ci=[29.76, 32.39], ssim_mean=0.9745, exact_fraction=0.0),
    **dict(paper=None, compile_s=1.3, attack_s=0.3, images_per_s=47.6),
    **dict(diverged=0, num_images=16, dead=0),
}
DEFENDED = {
    **RECORD,
    **dict(threat_model="whitebox", method="adaptive", usability={"value": 0.98}),
    **dict(judge_accuracy=None, reid=1.0, fit_s=2.0),
}


@pytest.mark.parametrize("cut", ["conv1", "stage1.block3", "conv_stage0_block0_proj.BiasAdd+1"])
def test_a_quality_begins_below_its_header(cut):
    header, row = lines.table(["stem", cut], vectors=False)
    line = row({**RECORD, "split": cut})
    assert line.split()[0] == cut
    assert line.index("31.07") == header.index("PSNR")
    assert line.index("0.9745") == header.index("SSIM")


def test_short_names_leave_the_usual_width():
    assert lines.table(["conv1", "fc1"], vectors=False)[0].index("PSNR") == 10


@pytest.mark.parametrize("kind", ["none", "gaussian+quantize+dropout+clip"])
def test_defended_runs_keep_their_columns(kind):
    cut = "stage1.block3"
    header, row = defended.columns("accuracy", [cut], ["none", kind])
    defense = {"kind": kind, "site": "feature", "level": 0.5}
    line = row({**DEFENDED, "split": cut, "defense": defense})
    assert line.split()[:2] == [cut, kind]
    for name, text in (
        ("defence", kind),
        ("site", "feature"),
        ("accuracy", "0.98"),
        ("SSIM", "0.97"),
    ):
        assert line.index(text) == header.index(name), name
