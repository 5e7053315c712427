"""Black-box runs without a network: from a file of pairs to a record."""

import json
from pathlib import Path

import numpy as np
import pytest
from toys import blobs

from jaxinv.errors import UserError
from jaxinv.store import records
from jaxinv.studies.blackbox import BlackboxConfig, run
from jaxinv.sweeps import grid

GIVEN, OTHERS = blobs(40, (11, 12, 1)), blobs(6, (11, 12, 1), seed=1)


def edge(images):
    return images.mean(axis=(2, 3))


KNOWN = {"images": GIVEN, "features": edge(GIVEN), "observed": edge(OTHERS)}


def config(tmp_path, *, known=KNOWN, **settings):
    np.savez(tmp_path / "sent.npz", **known)
    path = str(tmp_path / "sent.npz")
    return BlackboxConfig(pairs=path, fit_steps=3, workdir=str(tmp_path / "work"), **settings)


def read(path):
    return json.loads(Path(path).read_text("utf-8"))


def test_what_was_observed_is_judged_where_originals_are_known(tmp_path, capsys):
    asked = config(tmp_path, known=KNOWN | {"originals": OTHERS}, num_images=5, method="paper")
    (made,) = run(asked)
    record, folder = read(made["path"]), Path(made["path"]).parent
    assert (folder / "grid.png").is_file() and len(record["psnr"]) == 5
    assert record["dataset"] == "sent.npz" and record["target"] is None
    assert record["reid_gallery"] == 5 and 0 <= record["reid_top1"] <= 1 == len(record["cuts"]) + 1
    assert record["flags"] == {
        "pairs": asked.pairs,
        "fit_steps": "3",
        "num_images": "5",
        "method": "paper",
    }
    images = records.load_images(folder / "images.npz")
    np.testing.assert_allclose(images["originals"], OTHERS[:5], atol=2e-3)
    assert "learned from 36 pairs; 4 that were held out" in capsys.readouterr().out
    assert records.find(tmp_path / "work")[0].threat == "blackbox"
    (again,) = run(asked)
    assert again["path"] == made["path"] and again["fit_s"] == made["fit_s"]


@pytest.mark.slow
def test_quality_is_null_where_originals_are_not_known(tmp_path):
    (made,) = run(config(tmp_path))
    record, folder = read(made["path"]), Path(made["path"]).parent
    for name in ("psnr", "psnr_mean", "ssim_mean", "mse", "exact_fraction", "reid_top1", "reid"):
        assert record[name] is None
    assert record["num_images"] == 6 and record["diverged"] == 0
    assert (folder / "grid.png").is_file()
    with np.load(folder / "images.npz") as images:
        assert list(images) == ["reconstructions"]
        assert images["reconstructions"].shape == (6, 11, 12, 1)


def test_a_sweep_takes_nothing_that_is_of_one_run():
    for name in ("pairs", "import", "export", "json"):
        with pytest.raises(UserError, match=f"^{name}=a.npz: is of one run"):
            grid.expand("blackbox", {name: "a.npz"})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_images": 7}, "^num_images=7: 6 are observed"),
        ({"split": ("conv1",)}, "^split=.*pairs=.*nothing to set but"),
        ({"num_queries": (40,)}, "^num_queries="),
        ({"method": "mean"}, "^method=mean"),
        ({"known": KNOWN | {"images": GIVEN[:19], "features": edge(GIVEN[:19])}}, "^pairs=.*: 19 "),
        ({"known": KNOWN | {"images": GIVEN[:, :8]}}, "^pairs=.*at least 11x11 pixels, got 8x12"),
    ],
    ids=["count", "split", "queries", "method", "few", "small"],
)
def test_refused_before_anything_is_written(tmp_path, settings, words):
    with pytest.raises(UserError, match=words):
        run(config(tmp_path, **settings))
    assert not (tmp_path / "work").exists()
