"""Edges timed on this machine."""

import dataclasses
import json
import types

import flax.linen as nn
import jax
import numpy as np
import pytest

from jaxinv.measures import costs, latency, profiles, timing
from jaxinv.networks import sequence

NETWORK = sequence([("double", lambda x: 2 * x), ("fc", nn.Dense(3))], (4, 4, 1))
PARAMS = NETWORK.init(jax.random.key(0))
USUAL = profiles.load("phone-wifi")


@pytest.fixture
def timed(monkeypatch, tmp_path):
    """Times edges by a clock that tells 1, 2, ... seconds."""
    edges = []

    def seconds(edge, params):
        edges.append(edge.cuts[-1])
        if len(edges) == run.fails_at:
            raise KeyboardInterrupt
        return float(len(edges))

    def run(**changes):
        return timing.on_this_machine(USUAL, NETWORK, PARAMS, str(tmp_path), **changes)

    monkeypatch.setattr(timing, "seconds", seconds)
    run.edges, run.fails_at, run.folder = edges, 0, tmp_path / "learned"
    return run


def test_an_edge_takes_the_time_that_was_measured(timed):
    profile = timed()
    assert timed.edges == ["double", "fc"] * 3
    assert profile.edge_times == {"double": 1.0, "fc": 2.0}  # the fastest of three rounds
    assert profile.name == "this@phone-wifi" and profile.tail_s == USUAL.tail_s
    assert "fastest of at least 45 runs" in profile.source and USUAL.source in profile.source
    whole, double, fc, only = (
        latency.cost(cut, profile) for cut in costs.split_costs(NETWORK, PARAMS)
    )
    assert [found.edge_s for found in (whole, double, fc, only)] == [0, 1, 2, 2]
    assert only.edge_j == pytest.approx(2 * USUAL.edge_watts)
    # The cloud's time is that of its rates.
    cut = costs.split_costs(NETWORK, PARAMS)[1]
    rates = dataclasses.replace(profile, edge_times={})
    assert double.cloud_s == latency.cost(cut, rates).cloud_s > 0


def test_edges_are_timed_once_and_gone_on_with(timed):
    timed.fails_at = 4
    with pytest.raises(KeyboardInterrupt):
        timed()
    assert timed().edge_times == {"double": 1.0, "fc": 2.0}
    assert timed.edges == ["double", "fc", "double", "fc", "fc", "double", "fc"]
    assert timed().edge_times == {"double": 1.0, "fc": 2.0} and len(timed.edges) == 7
    assert timed(rerun=True).edge_times == {"double": 8.0, "fc": 9.0}


@pytest.mark.parametrize("damage", ["{", "[1]", '{"double": [-1.0]}', '{"double": "soon"}'])
def test_damaged_times_are_measured_anew(timed, damage, capsys):
    timed()
    (path,) = timed.folder.glob("times-*.json")
    path.write_text(damage)
    assert timed().edge_times == {"double": 7.0, "fc": 8.0}
    assert json.loads(path.read_text("utf-8")) == {
        "double": [7.0, 9.0, 11.0],
        "fc": [8.0, 10.0, 12.0],
    }
    assert "damaged" in capsys.readouterr().err


def test_an_edge_is_timed_by_its_fastest_run(monkeypatch):
    ends = np.cumsum([5.0, 1.0, 9.0, 2.0, 3.0])
    ticks = iter([0.0, 0.0, *np.repeat(ends, 2)])
    clock = types.SimpleNamespace(perf_counter=lambda: next(ticks))
    monkeypatch.setattr(timing, "time", clock)
    monkeypatch.setattr(timing, "_RUNS", 5)
    assert timing.seconds(NETWORK.split("fc")[0], PARAMS) == 1.0


def test_edges_take_time_on_this_machine(monkeypatch):
    monkeypatch.setattr(timing, "_SECONDS", 0)
    assert 0 < timing.seconds(NETWORK.split("fc")[0], PARAMS) < 1
