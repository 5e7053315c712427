"""Values that are kept as JSON: read as they were written, or renamed."""

import pytest

from jaxinv.store import kept


def is_list(value):
    return isinstance(value, list)


def test_a_value_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "folder" / "value.json"
    assert kept.read(path, is_list, "a list") is None
    kept.write(path, [1.5, None, "é"])
    assert kept.read(path, is_list, "a list") == [1.5, None, "é"]


@pytest.mark.parametrize("damage", [b"", b"[1", b"\xff", b"[" * 10**5, b"{}", b"null"])
def test_a_damaged_value_is_renamed_and_counts_as_none(tmp_path, damage, capsys):
    path = tmp_path / "value.json"
    path.write_bytes(damage)
    assert kept.read(path, is_list, "a list") is None
    assert not path.exists()
    assert path.with_name("value.json.corrupt-1").read_bytes() == damage
    (line,) = capsys.readouterr().err.splitlines()
    assert str(path) in line
