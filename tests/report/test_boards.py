"""Leaderboards on the page: what is claimed beside what is found, the least leaking first."""

import fake_runs

from jaxinv import report
from jaxinv.look.charts import equal
from jaxinv.report import boards, results
from jaxinv.report.values import MISSING


def board(folder, standings, **values):
    fake_runs.leaderboard(folder, standings, **values)
    (found,) = results.sort(report.read(folder)).boards
    return found


def test_a_table_tells_who_is_strongest_and_how_much_more_it_finds(tmp_path):
    found = board(
        tmp_path,
        [
            fake_runs.standing("vib", 0.3, 0.9),
            fake_runs.standing("cloak", 0.2, 0.4, certified_reid=0.016),
            fake_runs.standing("cem", 0.1, 0.5, loss=5.0),
            fake_runs.standing("lost", 0.1, 0.5, claimed=None, strongest=None, reid=None),
        ],
    )
    made = boards.table(found, 1.0, "t1", "mnist, relu2")
    assert [row.cells[0].text for row in made.rows] == ["cloak", "vib", "lost"]
    cells = made.rows[1].cells
    told = [cell.text for cell in cells]
    assert told[2:5] == ["98.00%", "0.300", "0.900"] and told[6:10] == [
        "6.30",
        "80.0%",
        MISSING,
        "fails",
    ]
    assert cells[2].note == "\N{PLUS-MINUS SIGN} 0.10 over trainings"
    assert cells[4].note == "[0.850, 0.950]; white-box, adaptive"
    assert [cell.value for cell in cells[3:5]] == [0.3, 0.9]
    assert [made.rows[2].cells[place].text for place in (3, 4, 7)] == [MISSING] * 3
    assert made.rows[0].cells[8].text == "1.6%" and "any attacker finds on average" in made.caption
    assert "1 point of 99.00% undefended" in made.caption
    other = boards.table(found, 5.0, "t2", "mnist, relu2")
    assert [row.cells[0].text for row in other.rows] == ["cem"] and "5 points" in other.caption


def test_a_page_has_a_board_with_its_picture(tmp_path):
    standings = [fake_runs.standing("vib", 0.3, 0.9), fake_runs.standing("cem", 0.1, 0.2, loss=2.0)]
    found = board(tmp_path, standings)
    figure = equal.figure(found.record.standings)
    assert [panel.title for panel in figure.panels] == [
        "SSIM at 1 point of accuracy",
        "SSIM at 2 points of accuracy",
    ]
    written = report.write(report.read(tmp_path), tmp_path / "page.html", formats=("png",))
    text = written[0].read_text("utf-8")
    assert '<section id="equal"' in text and '<a href="#equal">' in text
    assert text.count("<table") >= 2 and "a board may break" in text.lower()
    assert len(written) == 2 and written[1].read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_a_board_without_a_finite_score_has_tables_and_no_picture(tmp_path):
    found = board(tmp_path, [fake_runs.standing("vib", 0.1, 0.2, claimed=None, strongest=None)])
    assert equal.figure(found.record.standings) is None
    text = report.build(report.read(tmp_path))
    assert '<section id="equal"' in text and "vib" in text
