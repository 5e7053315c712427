from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from jaxinv.inputs.samples import Samples
from jaxinv.measures import quality
from jaxinv.store import records
from jaxinv.studies import evaluation


@pytest.fixture(scope="module")
def attacked():
    rng = np.random.default_rng(0)
    originals = rng.random((4, 16, 16, 1), dtype=np.float32)
    noise = rng.normal(size=originals.shape).astype(np.float32)
    found = np.clip(originals + 0.05 * noise, 0, 1)
    found[1] = originals[1]
    return originals, found


def test_a_diverged_image_is_counted_and_in_no_mean(attacked):
    originals, found = attacked
    broken = found.copy()
    broken[2, 3, 3] = np.nan
    fields = evaluation.quality_fields(originals, broken)
    rest = quality.evaluate(originals[[0, 1, 3]], found[[0, 1, 3]])
    assert fields["diverged"] == 1
    assert fields["psnr_mean"] == pytest.approx(np.mean(rest.psnr), rel=1e-5)
    assert fields["ssim_mean"] == pytest.approx(np.mean(rest.ssim), rel=1e-5)
    low, high = fields["psnr_ci"]
    assert low <= fields["psnr_mean"] <= high
    assert fields["exact_fraction"] == 0.25
    assert len(fields["psnr"]) == len(fields["ssim"]) == len(fields["mse"]) == 4
    error = np.square(found.astype(np.float64) - originals).mean(axis=(1, 2, 3))
    error[2] = np.nan
    np.testing.assert_allclose(fields["mse"], error, rtol=1e-5)
    assert not np.isfinite(fields["psnr"][2])
    np.testing.assert_allclose(np.asarray(fields["psnr"])[[0, 1, 3]], rest.psnr, rtol=1e-6)


def test_quality_fields_of_nothing_but_diverged_images(attacked):
    originals, found = attacked
    fields = evaluation.quality_fields(originals, np.full_like(found, np.nan))
    assert fields["diverged"] == 4
    assert fields["exact_fraction"] == 0


def test_the_quality_over_seeds_is_the_mean_of_each_image(attacked):
    originals, found = attacked
    worse = np.clip(found + 0.1, 0, 1)
    fields = evaluation.quality_fields(originals, np.stack([found, worse]))
    alone = [evaluation.quality_fields(originals, one) for one in (found, worse)]
    for name in ("psnr", "ssim"):
        np.testing.assert_allclose(fields[name], np.mean([one[name] for one in alone], axis=0))
        means = [one[f"{name}_mean"] for one in alone]
        np.testing.assert_allclose(fields[f"{name}_by_seed"], means)
        assert fields[f"{name}_mean"] == pytest.approx(np.mean(means))
        assert fields[f"{name}_seed_std"] == pytest.approx(np.std(means, ddof=1))
        assert f"{name}_by_seed" not in alone[0]
    np.testing.assert_allclose(fields["mse"], np.mean([one["mse"] for one in alone], axis=0))
    assert fields["exact_fraction"] == pytest.approx(0.125)


def test_shadows_that_differ_make_an_interval_wide_and_draws_do_not(attacked):
    """An attacker is the same for all images; the noise of a draw is each image's own."""
    originals, found = (images[[0, 2, 3]] for images in attacked)  # none is exact
    tries = np.stack([found, np.clip(found + 0.1, 0, 1)])
    for name, most in (("psnr", 100.0), ("ssim", 1.0)):
        draws, shadows = (
            evaluation.quality_fields(originals, tries, shadows=shadows)
            for shadows in (False, True)
        )
        assert draws[f"{name}_mean"] == shadows[f"{name}_mean"]
        low, high = shadows[f"{name}_ci"]
        assert low < draws[f"{name}_ci"][0] and high >= min(draws[f"{name}_ci"][1], most)
    test = Samples((originals * 255).astype(np.uint8), np.zeros(3, np.int64))
    tries = np.stack([found, np.zeros_like(found)])
    exact, wide = (
        evaluation.reidentification_fields(tries, test, shadows=shadows)["reid_top1_ci"]
        for shadows in (False, True)
    )
    assert wide[0] <= exact[0] and wide[1] >= exact[1] and wide != exact


def test_an_image_that_diverged_for_one_seed_is_in_no_mean(attacked):
    originals, found = attacked
    broken = found.copy()
    broken[2] = np.inf
    fields = evaluation.quality_fields(originals, np.stack([found, broken]))
    assert fields["diverged"] == 1
    assert not np.isfinite(fields["psnr"][2]) and np.isnan(fields["mse"][2])
    rest = np.asarray(fields["psnr"])[[0, 1, 3]]
    assert fields["psnr_mean"] == pytest.approx(rest.mean())
    assert np.isfinite(fields["psnr_by_seed"]).all()


RECORD = {
    "experiment": "whitebox",
    "dataset": "mnist",
    "method": "tv",
    "split": "relu2",
    "defense": {"kind": "none", "site": "feature", "level": 0.0},
    "num_images": 4,
    "diverged": 0,
    "psnr_mean": 21.234,
    "psnr_ci": [20.1, 22.9],
    "ssim_mean": 0.87654,
    "exact_fraction": 0.25,
    "paper": {"psnr": 15.1, "ssim": 0.6},
    "compile_s": 1.5,
    "attack_s": 2.5,
    "images_per_s": 1.6,
}
ALL_DIVERGED = {
    **RECORD,
    "diverged": 4,
    "psnr_mean": None,
    "ssim_mean": None,
    "psnr_ci": [None, None],
    "exact_fraction": 0.0,
}


def test_row_label():
    assert evaluation.row_label(RECORD) == "relu2\n21.2 dB / 0.877"
    assert evaluation.row_label(ALL_DIVERGED) == "relu2\ndiverged"
    defense = {"kind": "dropout+gaussian", "site": "feature", "level": [0.2, 1.0]}
    assert evaluation.row_label({**RECORD, "defense": defense}) == "0.2+1, tv\n21.2 dB / 0.877"
    # In a study of defences, an undefended run is one of the levels.
    undefended = {**RECORD, "experiment": "defenses"}
    assert evaluation.row_label(undefended) == "0, tv\n21.2 dB / 0.877"


def test_titles_name_the_network_without_its_folder():
    assert evaluation.grid_title([RECORD]).startswith("whitebox, tv, mnist: mean PSNR")
    for name, told in (("resnet20", "resnet20"), ("/home/me/nets/a.onnx:logits", "a.onnx:logits")):
        record = {**RECORD, "network": {"name": name, "fingerprint": "0"}}
        assert evaluation.subject(record) == f"mnist, {told}"
        assert evaluation.grid_title([record]).startswith(f"whitebox, tv, mnist, {told}: mean PSNR")


def test_reidentification_is_among_the_test_images_and_over_tries():
    rng = np.random.default_rng(0)
    test = Samples(rng.integers(0, 256, (30, 16, 16, 1), dtype=np.uint8), np.zeros(30, np.int32))
    found = test.images[:10].copy()
    found[5:] = test.images[20:25]
    fields = evaluation.reidentification_fields(found, test)
    assert fields["reid_top1"] == 0.5
    assert fields["reid_gallery"] == 30
    low, high = fields["reid_top1_ci"]
    assert 0 < low < 0.5 < high < 1
    several = evaluation.reidentification_fields(np.stack([found, test.images[:10]]), test)
    assert several["reid_top1"] == 0.75
    nothing = evaluation.reidentification_fields(np.full_like(found, np.nan), test)
    assert nothing["reid_top1"] == 0


def test_each_way_is_measured_and_the_best_identifies():
    rng = np.random.default_rng(0)
    test = Samples(rng.integers(0, 256, (30, 16, 16, 1), dtype=np.uint8), np.zeros(30, np.int32))
    originals = test.images[:8]
    grey = np.full_like(originals, 0.5)
    found = evaluation.ways_fields(
        originals, {"grey": grey, "right": np.stack([originals, grey])}, test
    )
    assert [found[way]["reid_top1"] for way in found] == [0, 0.5]
    alone = evaluation.quality_fields(originals, grey)
    assert found["grey"]["ssim_mean"] == alone["ssim_mean"] < found["right"]["ssim_mean"]
    assert found["grey"]["psnr_std"] == alone["psnr_std"] and found["grey"]["diverged"] == 0
    fields = {"num_images": 8, "reid_top1": 0.0, "reid_likelihood": 0.25}
    fields |= {"reid_likelihood_images": 30, "ways": found}
    assert evaluation.worst_linkage(fields)["reid"] == 0.5
    assert evaluation.worst_linkage({**fields, "ways": {}})["reid"] == 0.25


def test_reidentification_looks_at_so_many_images(monkeypatch):
    monkeypatch.setattr(evaluation, "GALLERY", 8)
    rng = np.random.default_rng(0)
    test = Samples(rng.integers(0, 256, (30, 16, 16, 1), dtype=np.uint8), np.zeros(30, np.int32))
    found = test.images[:20].copy()
    found[8:] = 0
    fields = evaluation.reidentification_fields(found, test)
    assert (fields["reid_top1"], fields["reid_gallery"]) == (1, 8)


@pytest.mark.parametrize(
    ("dataset", "papers", "printed"),
    [
        *(("mnist", True, 15.10), ("mnist_5k", True, 15.10), ("cifar10", True, None)),
        ("mnist", False, None),
    ],
)
def test_the_paper_prints_figures_of_its_own_networks(dataset, papers, printed):
    target = SimpleNamespace(is_papers=lambda given: papers and given.name == dataset)
    fields = evaluation.paper_fields("whitebox", target, SimpleNamespace(name=dataset), "relu2")
    assert (fields and fields["psnr"]) == printed


def test_joint_grid_has_a_row_for_each_run(tmp_path, attacked):
    originals, found = attacked
    written = []
    for split, images in (("conv1", found), ("relu2", np.full_like(found, np.nan))):
        folder = tmp_path / split
        folder.mkdir()
        np.savez(folder / records.IMAGES_NAME, originals=originals, reconstructions=images)
        record = {**(RECORD if split == "conv1" else ALL_DIVERGED), "split": split}
        written.append({**record, "path": str(folder / records.RECORD_NAME)})
    evaluation.write_joint_grid(tmp_path / "one.png", written[:1])
    evaluation.write_joint_grid(tmp_path / "two.png", written)
    with Image.open(tmp_path / "one.png") as one, Image.open(tmp_path / "two.png") as two:
        assert one.format == two.format == "PNG"
        assert two.height > one.height


def test_points_of_seeds_reach_over_those_that_did_not_diverge():
    def row(mean, each, joint):
        of = {"psnr": (mean, each), "ssim": (mean / 100, [one and one / 100 for one in each])}
        fields = {f"{name}_mean": value for name, (value, _) in of.items()}
        fields |= {f"{name}_by_seed": values for name, (_, values) in of.items()}
        return {**fields, "joint": {"psnr_mean": joint, "ssim_mean": joint / 100}, "split": "fc1"}

    written = [row(20.0, [19.0, None, 22.0], 23.0), row(10.0, [None], 11.0)]
    rows = evaluation.points_of_seeds(written)
    alone, joint = rows[::2], rows[1::2]
    assert {row["attacker"] for row in alone} == {"a shadow alone: mean, range over seeds"}
    assert {row["attacker"] for row in joint} == {"their joint answer"}
    assert [row["psnr_mean"] for row in alone] == [20.0, 10.0]
    assert [row["psnr_ci"] for row in alone] == [[19.0, 22.0], [None, None]]
    assert alone[0]["ssim_ci"] == [0.19, 0.22]
    assert [row["psnr_mean"] for row in joint] == [23.0, 11.0]
    assert [row["ssim_mean"] for row in joint] == [0.23, 0.11]
