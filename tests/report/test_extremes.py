"""Numbers at their ends, in every place of every record: nought, nothing, huge."""

import json

import pytest
from test_hostile import check, records_of_every_kind

from jaxinv import report

_KEPT = {"schema", "recommendation", "recommendation_split", "num_images", "loss", "losses"}
_PRINTED = {"psnr", "ssim"}  # of the paper are numbers


def replaced(value, number, name=""):
    """A record's JSON with a number in place of every other; counts stay whole numbers."""
    if isinstance(value, dict):
        if number is None and value.keys() == _PRINTED:
            return value
        return {key: replaced(each, number, key) for key, each in value.items()}
    if isinstance(value, list):
        return [replaced(each, number, name) for each in value]
    if isinstance(value, bool) or not isinstance(value, int | float) or name in _KEPT:
        return value
    if isinstance(value, float) or name.endswith(("_s", "_j", "_bytes")):
        return number
    return 0 if number is None or number < 0 else int(number)


@pytest.mark.slow
@pytest.mark.parametrize("number", [0.0, -0.0, None, 1e29, 1e-300, -1.0, 1.0], ids=str)
def test_any_number_in_any_place_gives_a_page_and_figures(tmp_path, number):
    read = 0
    for path in records_of_every_kind(tmp_path):
        record = replaced(json.loads(path.read_text("utf-8")), number)
        for defense in (record, *record.get("choices", ())):
            if defense.get("defense", {}).get("level", 0) is None:
                defense["defense"]["level"] = 0.5  # a level is a number
        times = record.get("profile", {}).get("edge_times", {})
        times |= {cut: 0.01 for cut, seconds in times.items() if seconds is None}  # so is a time
        for way in record.get("ways", {}).values():
            if way["reid_top1"] is None:
                way["reid_top1"] = 0.5  # and a share
        for column in record.get("inputs", {}).get("columns", ()):
            ends = {"low": 0.0, "high": 1.0}  # and so is a range
            column |= {end: value for end, value in ends.items() if column[end] is None}
        path.write_text(json.dumps(record))
        read += 1
    found = report.read(tmp_path)
    measured = number is None or 0 <= number <= 1  # a share, a time, a score may be so
    assert len(found) == read if measured else 0 < len(found) < read
    written = report.write(found, tmp_path / "page.html", formats=("png",))
    check(written[0].read_text("utf-8"))
    assert all(path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" for path in written[1:])
