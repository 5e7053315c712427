"""Jobs side by side: their order, and what happens when one fails."""

import threading
import time

import pytest

from jaxinv.errors import UserError
from jaxinv.studies import threads


def test_jobs_side_by_side_answer_in_order():
    done = []

    def step(job, number):
        def run():
            done.append((job, number))
            return job, number

        return run

    jobs = [[step(job, number) for number in range(3)] for job in range(4)]
    with threads.side_by_side(jobs) as steps:
        answers = [ask() for ask in steps]
    assert answers == [(job, number) for job in range(4) for number in range(3)]
    for job in range(4):  # within a job one after the other
        assert [number for own, number in done if own == job] == [0, 1, 2]


def test_a_step_that_fails_fails_where_it_is_asked_for():
    later = []

    def fails():
        raise UserError("as it should")

    with threads.side_by_side([[lambda: 1, fails, lambda: later.append(1)]]) as steps:
        assert steps[0]() == 1
        for ask in steps[1:]:
            with pytest.raises(UserError, match="as it should"):
                ask()
    assert not later


def test_when_the_caller_fails_no_step_begins_and_none_goes_on(monkeypatch):
    monkeypatch.setattr(threads.environment, "usable_cores", lambda: 2)
    begun, done = threading.Event(), []

    def fails():
        begun.wait(10)
        raise UserError("as it should")

    def first():
        begun.set()
        time.sleep(0.2)
        done.append("first")

    jobs = [[fails], [first, lambda: done.append("second")]]
    with pytest.raises(UserError), threads.side_by_side(jobs) as steps:
        steps[0]()
    assert done == ["first"]  # at once, and for good: locks are free, and nothing is printed later
    time.sleep(0.1)
    assert done == ["first"]
