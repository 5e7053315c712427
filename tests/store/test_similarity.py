"""Names of similarity: SSIM of images in files, correlation of series and tables."""

from jaxinv.store import similarity

ROW = {"ssim_mean": 0.5, "ways": {"a": {"ssim_ci": [0, 1]}}, "fails": ["max_ssim", "max_reid"]}
TABLE = {"inputs": {"kind": "table", "shape": [3], "columns": []}, "flags": {"max_ssim": ".5"}}


def test_a_file_about_a_table_says_correlation():
    found = similarity.outward({**ROW, **TABLE})
    assert found["correlation_mean"] == 0.5 and "ssim_mean" not in found
    assert found["ways"] == {"a": {"correlation_ci": [0, 1]}}
    assert found["fails"] == ["max_correlation", "max_reid"]
    assert found["flags"] == TABLE["flags"] and found["inputs"] == TABLE["inputs"]
    assert similarity.inward(found) == {**ROW, **TABLE}
    assert similarity.inward({**ROW, **TABLE}) == {**ROW, **TABLE}


def test_a_file_about_images_says_ssim():
    assert similarity.outward(ROW) == similarity.inward(ROW) == ROW
