"""Blocks of pages: found and replaced between their lines, and nothing else is touched."""

import pytest

from jaxinv.errors import UserError
from jaxinv.tables import blocks


def test_a_text_is_published_between_its_lines(tmp_path):
    page = tmp_path / "README.md"
    begin, end = blocks.marks("mine")
    others = "<!-- other: begin -->\nkept\n<!-- other: end -->\n"
    page.write_text(f"before\n{begin}\nold\n{end}\nbetween\n{others}")
    blocks.publish("| new |\n| rows |", page, "mine")
    text = page.read_text("utf-8")
    assert text == f"before\n{begin}\n| new |\n| rows |\n{end}\nbetween\n{others}"
    assert (blocks.find(text, "mine"), blocks.find(text, "other")) == ("| new |\n| rows |", "kept")
    assert blocks.find(text, "neither") is None


def test_an_empty_place_takes_a_text(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("\n".join(blocks.marks("mine")))
    assert blocks.find(page.read_text(), "mine") == ""
    blocks.publish("new", page, "mine")
    assert blocks.find(page.read_text(), "mine") == "new"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no lines", "has no lines"),
        (b"<!-- mine: begin -->\nnever closed", "has no lines"),
        ("é".encode("latin-1"), "not text in UTF-8"),
    ],
    ids=["none", "open", "no text"],
)
def test_a_page_without_the_place_stays(tmp_path, content, said):
    page = tmp_path / "page.md"
    page.write_bytes(content)
    with pytest.raises(UserError, match=said):
        blocks.publish("| new |", page, "mine")
    assert page.read_bytes() == content
