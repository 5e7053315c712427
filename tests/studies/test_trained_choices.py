"""Choices of a partition whose defence is trained in: their price, their trials, own attackers."""

import dataclasses
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from jaxinv.constants.threats import THREATS
from jaxinv.defenses import BOTTLENECK, GAUSSIAN, VIB, plan
from jaxinv.errors import UsageError
from jaxinv.measures import costs
from jaxinv.networks import lenet5
from jaxinv.studies.partition import everything, options, rows, study
from jaxinv.studies.partition.options import PartitionConfig

NETWORK = lenet5()
PARAMS = jax.jit(NETWORK.init)(jax.random.key(0))
(PRICE,) = (each for each in costs.split_costs(NETWORK, PARAMS) if each.split == "relu2")


def option(*family, retrain="both", number=0):
    """A choice at relu2 as partition knows it, with layers as training begins."""
    made = plan(NETWORK, "relu2", family[0].structure)
    features = np.random.default_rng(0).random((40, 8, 8, 16)).astype("f")
    levels = np.stack([defense.levels for defense in family])
    edge, cloud = made.network.split(made.cut)
    deployment = SimpleNamespace(
        cut="relu2",
        retrain=retrain,
        family=list(family),
        has_layer=made.layer is not None,
        edge=edge,
        cloud=cloud,
        params=made.start(PARAMS, features, features, levels, jax.random.key(1)),
    )
    return options.Option(deployment, number)


def test_a_layer_is_part_of_the_price_and_of_the_bytes():
    found = option(BOTTLENECK.at("feature", 2))
    price = found.price(PRICE)
    assert price.edge_flops > PRICE.edge_flops and price.memory_bytes >= PRICE.memory_bytes
    assert price.edge_parameters == PRICE.edge_parameters + 16 * 4 + 4
    assert found.sent_bytes(price) == 8 * 8 * 4 * 2 / 8
    plain = option(GAUSSIAN.at("feature", 1), retrain="none")
    assert plain.price(PRICE) is PRICE


@pytest.mark.parametrize("profile", ["this", "this@phone-lte"])
def test_where_edges_are_timed_a_layer_has_no_time_and_is_refused(profile):
    config = PartitionConfig(dataset="mnist_5k", profile=profile, defense=("none", "vib:.01"))
    with pytest.raises(UsageError, match=r"its times are measured, .* defense=vib puts"):
        study.prepare(config)
    plain = dataclasses.replace(config, defense=("none", "gaussian:1"))
    assert study.prepare(plain)[2][0].kinds == ("gaussian",)


def test_levels_that_are_trained_together_are_part_of_a_trial():
    """In another order the same level is another target: trying it again is another trial."""
    few, more = VIB.at("feature", 0.01), VIB.at("feature", 0.1)
    found = [rows._together(option(*family)) for family in ((few, more), (more, few), (few,))]
    assert len({repr(each) for each in found}) == 3
    assert rows._together(option(few, more)) == rows._together(option(few, more, number=1))
    assert rows._together(option(GAUSSIAN.at("feature", 1), retrain="none")) == {}
    assert rows._together(None) == {}


ATTACKER = """
from jaxinv.attacks.mean import Mean


class Mine(Mean):
    threat_model = "blackbox"
"""


def test_an_attacker_of_ones_own_is_among_everything_of_its_threat_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(ATTACKER)
    config = PartitionConfig(attacker=("adaptive", "mine.py:Mine"), defense=("gaussian:1",))
    monkeypatch.setattr(everything, "_alone", lambda *args: (None, 0))
    scene = SimpleNamespace(accuracy=0.9)
    found = everything.everything(config, scene, option(GAUSSIAN.at("feature", 1), retrain="none"))
    methods = {threat: [one.method for one in planned] for threat, planned in found.items()}
    assert [threat for threat in THREATS if "mine.py:Mine" in methods[threat]] == ["blackbox"]
    assert all(len(each) == len(set(each)) for each in methods.values())
