"""The list of attacks: it starts no JAX, and every attack on it can be made and is described."""

import subprocess
import sys

import pytest

from jaxinv.attacks import registry
from jaxinv.attacks.attack import Attack
from jaxinv.constants.threats import THREATS
from jaxinv.errors import UsageError
from jaxinv.networks import lenet5
from jaxinv.studies.experiment import MODULES

NAMES = [(entry.threat_model, entry.method) for entry in registry.ENTRIES]


def test_reading_the_list_does_not_start_jax():
    code = "import sys, jaxinv.attacks.registry; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("threat, method", NAMES)
def test_every_attack_can_be_made_and_says_what_it_knows(threat, method):
    entry = registry.find(threat, method)
    attack = entry.make(network=lenet5(), cut="relu2", chunk=None, nonsense=3)
    assert isinstance(attack, Attack)
    assert attack.knowledge and isinstance(attack.identity, dict)
    assert entry.summary in registry.summaries(entry.experiments[0])
    assert threat in THREATS and set(entry.experiments) <= set(MODULES)


def test_names_are_those_of_the_command_line():
    assert len(set(NAMES)) == len(NAMES)
    assert registry.methods("whitebox")[:4] == ["paper", "tv", "map", "hybrid"]
    for threat in ("blackbox", "queryfree"):
        assert registry.methods(threat)[:2] == ["paper", "strong"]
    for threat in THREATS:
        assert registry.methods("defenses", threat)[:2] == ["paper", "adaptive"]
    assert registry.methods("convergence") == ["paper", "tv", "map", "hybrid"]


def test_an_attack_is_made_with_the_settings_that_it_has():
    strong = registry.make("blackbox", "strong", fit_steps=7, num_queries=None, shadow_steps=3)
    assert (strong.fit_steps, strong.num_queries) == (7, 100_000)
    assert strong.identity == {"fit_steps": 7, "num_queries": 100_000}
    assert registry.find("whitebox", "paper").takes("tv_weight")
    assert not registry.find("whitebox", "map").takes("tv_weight")
    with pytest.raises(UsageError, match="method=magic: expected one of paper, strong, adaptive"):
        registry.make("blackbox", "magic")


def test_an_attack_that_depends_on_the_network_says_so():
    with pytest.raises(UsageError, match="network=None: method=paper depends on the network"):
        registry.make("whitebox", "paper")
    with pytest.raises(UsageError, match="cut=None: method=tv depends on the cut"):
        registry.make("whitebox", "tv", network=lenet5())
