"""Steps of a segment, by a clock that is wound by hand."""

import pytest

from jaxinv.machine import progress
from jaxinv.machine.progress import Pace, Progress


class Clock:
    """Stands in for `time`; it moves when it is told to."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def counts(clock, steps, per_step):
    """Numbers of steps of the segments."""
    found = []
    with Progress(steps, "test") as bar:
        for first, count in bar.segments(steps):
            assert first == sum(found)
            assert count >= 1
            clock.now += count * per_step
            found.append(count)
    assert sum(found) == steps
    return found


def test_segments_grow_fourfold_until_they_last_half_a_second(clock):
    assert counts(clock, 513, 1 / 256) == [1, 4, 16, 64, 128, 128, 128, 44]


def test_a_slow_step_is_a_segment_of_its_own(clock):
    assert counts(clock, 5, 3.0) == [1] * 5


def test_the_last_segment_is_what_is_left(clock):
    assert counts(clock, 30, 0.0) == [1, 4, 16, 9]
    assert counts(clock, 0, 0.0) == []


def test_segments_shrink_at_once_when_steps_become_slow(clock):
    with Progress(1000, "test") as bar:
        for _ in range(4):
            count = bar.segment(1000)
            bar.advance(count)
        assert bar.segment(1000) == 256
        clock.now += 4.0
        bar.advance(256)
        assert bar.segment(1000) == 32


def test_a_segment_is_never_longer_than_is_asked_for(clock):
    with Progress(1000, "test") as bar:
        for most in (3, 1, 7, 7, 7):
            assert 1 <= bar.segment(most) <= most
            bar.advance(1)


class Bar:
    """Stands in for `tqdm`."""

    def __init__(self, **options):
        self.options, self.moved, self.closed = options, [], 0

    def update(self, amount):
        self.moved.append(amount)

    def close(self):
        self.closed += 1


def test_the_bar_moves_in_the_units_of_its_total(monkeypatch):
    # Steps of fifty images at once, counted by the image.
    monkeypatch.setattr(progress, "tqdm", Bar)
    with Progress(140, "test", start=40) as shown:
        for _ in range(2):
            shown.segment(1)
            shown.advance(50)
    bar = shown._bar
    assert (bar.options["total"], bar.options["initial"], bar.options["desc"]) == (140, 40, "test")
    assert bar.moved == [50, 50]
    assert bar.closed == 1


def test_segments_move_the_bar_by_their_steps(clock, monkeypatch):
    monkeypatch.setattr(progress, "tqdm", Bar)
    with Progress(20, "test") as shown:
        assert [count for _, count in shown.segments(20)] == shown._bar.moved == [1, 4, 15]


def test_the_bar_is_closed_whatever_happens(monkeypatch):
    monkeypatch.setattr(progress, "tqdm", Bar)
    shown = Progress(1, "test")
    with pytest.raises(RuntimeError), shown:
        raise RuntimeError
    assert shown._bar.closed == 1


def test_a_pace_tells_how_long_the_rest_takes(clock, capsys):
    pace = Pace([1] * 8, "cuts screened")
    clock.now += 60.0
    pace.advance(1, 1)
    assert capsys.readouterr() == ("", "2 of 8 cuts screened in 60 s; about 3 min to go.\n")
    clock.now += 3 * 60.0
    pace.advance(*[1] * 6)
    assert capsys.readouterr() == ("", "")


def test_parts_in_work_count_half(clock, capsys):
    """Eight parts, two at once, each of a minute: 60 s for the first, and 3.5 min for all."""
    pace = Pace([1] * 8, "parts screened", at_once=2)
    clock.now += 60.0
    pace.advance()
    assert capsys.readouterr().err == "1 of 8 parts screened in 60 s; about 4 min to go.\n"


def test_parts_of_other_weights_take_other_times(clock, capsys):
    pace = Pace([6, 2, 1, 1], "attacks made")
    clock.now += 60.0
    pace.advance(6)
    assert capsys.readouterr().err == "1 of 4 attacks made in 60 s; about 40 s to go.\n"


def test_short_work_is_not_told_of(clock, capsys):
    pace = Pace([1] * 8, "parts screened")
    clock.now += 5.0
    pace.advance()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    "seconds, told", [(7.4, "7 s"), (99.6, "2 min"), (3599, "1 h 0 min"), (12000, "3 h 20 min")]
)
def test_a_time_is_told_in_few_digits(seconds, told):
    assert progress.clock(seconds) == told
