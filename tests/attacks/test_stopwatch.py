"""Seconds of learning, with those of an earlier process."""

import time
from types import SimpleNamespace

from jaxinv.attacks.stopwatch import Stopwatch


def test_training_before_a_kill_counts_and_training_here_counts_once():
    stopwatch = Stopwatch()
    read = SimpleNamespace(seconds=100.0, compile_seconds=20.0)
    assert stopwatch.lap(time.perf_counter(), read) is read
    assert 120.0 <= stopwatch.seconds < 125.0
    began = time.perf_counter() - 50.0  # of a training in this process
    stopwatch.lap(began, SimpleNamespace(seconds=40.0, compile_seconds=5.0))
    assert stopwatch.seconds < 125.0
