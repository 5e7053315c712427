"""Defences and attackers of a user's own, from a file."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from jaxinv.attacks import registry
from jaxinv.attacks.blackbox.paper import DecodedQueries
from jaxinv.errors import UsageError, UserError
from jaxinv.studies import defenses
from jaxinv.studies.defended.choices import DefenseConfig, choices, family_of
from jaxinv.studies.defended.known import release_key
from jaxinv.studies.leaderboard.options import LeaderboardConfig, entries
from jaxinv.studies.partition import options
from jaxinv.studies.partition.options import PartitionConfig

DEFENSE = """
from jaxinv.defenses import Mechanism

def blur(key, x, level):
    return (1 - level) * x + level * x.mean()

BLUR = Mechanism("blur", blur, sweep=(0.0, 0.2, 0.6), random=False, below=1.0)
GAUSSIAN = Mechanism("gaussian", blur, below=1.0)
"""

RAN = """
with open("ran", "a") as file:
    file.write(".")
"""

ATTACKER = """
import dataclasses
from typing import ClassVar

import numpy as np

from jaxinv.attacks.attack import Attack, LearnedAttack, Reconstruction
from jaxinv.attacks.shelf import NOWHERE


@dataclasses.dataclass(frozen=True)
class Nearest(Attack):
    threat_model: ClassVar[str] = "whitebox"
    knowledge: ClassVar[str] = "the edge; surrogate images"

    def learn(self, known, key, shelf=NOWHERE):
        features = np.asarray(known.edge.apply(known.params, known.images[:200]))
        return Answer(known.images[:200], features.reshape(len(features), -1))


@dataclasses.dataclass(frozen=True)
class Answer(LearnedAttack):
    images: np.ndarray
    features: np.ndarray

    def invert(self, observed, member=0):
        seen = np.asarray(observed[np.arange(len(observed))]).reshape(len(observed), -1)
        distances = ((seen[:, None] - self.features[None]) ** 2).sum(axis=-1)
        return Reconstruction(np.asarray(self.images)[distances.argmin(axis=1)], seconds=0.1)


class Blind(Attack):
    knowledge = "nothing"
"""


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(DEFENSE)
    (tmp_path / "theirs.py").write_text(ATTACKER)
    return tmp_path


def config_of(**changes):
    given = {"split": ("fc1",), "num_images": 4, "defense": ("mine.py:BLUR",), **changes}
    return DefenseConfig(**given)


def test_a_mechanism_of_a_file_is_a_defence(files):
    (choice,) = choices(config_of())
    family = family_of(choice, lambda kind, site: 1.0)
    assert [defense.levels.tolist() for defense in family] == [[0], [0.2], [0.6]] or len(
        family
    ) == 3
    described = family[1].describe()
    assert described["kind"] == "blur" and len(described["code"]) == 12
    (both,) = choices(config_of(defense=("mine.py:BLUR+gaussian",), level=("0.2+1",)))
    assert both.kinds == ("mine.py:BLUR", "gaussian")


def test_a_file_is_run_once_and_its_values_are_the_same(files):
    """Programs are compiled for a mechanism: another object would be compiled anew."""
    (files / "mine.py").write_text(DEFENSE + RAN)
    first, second = (family_of(choices(config_of())[0], None)[1] for _ in range(2))
    assert first.structure == second.structure
    assert (files / "ran").read_text() == "."


def test_another_file_of_that_name_is_another_defence(files):
    def made():
        (choice,) = choices(config_of(level=("0.6",)))
        return family_of(choice, lambda kind, site: 1.0)[0].describe()

    before = made()
    (files / "mine.py").write_text(DEFENSE.replace("x.mean()", "x.max()"))
    after = made()
    assert before["code"] != after["code"]
    assert release_key("fc1", before) != release_key("fc1", after)
    assert release_key("fc1", before) == release_key("fc1", dict(before))


MISTAKES = {
    "no file": ("none.py:BLUR", "defense=none.py:BLUR: there is no file none.py"),
    "no mechanism": (
        "mine.py:blur",
        "there is no mechanism blur; mechanisms there: BLUR, GAUSSIAN",
    ),
    "a name of the package's": ("mine.py:GAUSSIAN", "its name is 'gaussian'"),
    "no name": ("mine.py:", "expected mine.py:mechanism"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_what_is_no_defence_is_refused_in_a_line(files, name):
    given, words = MISTAKES[name]
    with pytest.raises(UsageError, match=words):
        choices(config_of(defense=(given,)))


def test_code_that_fails_is_told_with_its_line(files):
    (files / "mine.py").write_text("import jaxinv\nraise ValueError('not today')\n")
    with pytest.raises(UserError, match=r"defense=mine.py:BLUR: line 2: ValueError: not today"):
        choices(config_of())


def test_a_defence_of_ones_own_enters_boards_and_decisions(files):
    (entry,) = entries(LeaderboardConfig(defense=("mine.py:BLUR",)))
    assert entry.mechanism.name == "blur" and entry.others == ()
    (entry,) = entries(LeaderboardConfig(defense=("mine.py:BLUR+gaussian:0.5",)))
    assert entry.kinds == ("mine.py:BLUR", "gaussian") and entry.others == (0.5,)
    (choice,) = options.choices(PartitionConfig(defense=("mine.py:BLUR:0.2",)))
    assert choice.kinds == ("mine.py:BLUR",) and choice.levels == ((0.2,),)


def test_an_attacker_of_a_file_attacks_by_its_threat_model_alone(files):
    spelled = "theirs.py:Nearest"
    choices(config_of(defense=("dropout",), attacker=(spelled, "paper")))
    assert registry.of_threat([spelled, "paper"], "whitebox") == [spelled, "paper"]
    assert registry.of_threat([spelled, "paper"], "blackbox") == ["paper"]
    with pytest.raises(UsageError, match="attacks by threat_model=whitebox, got blackbox"):
        choices(config_of(defense=("dropout",), attacker=(spelled,), threat_model=("blackbox",)))
    with pytest.raises(UsageError, match="expected an attribute threat_model of whitebox"):
        choices(config_of(defense=("dropout",), attacker=("theirs.py:Blind",)))
    with pytest.raises(UsageError, match="there is no class Nobody; classes there: Nearest"):
        choices(config_of(defense=("dropout",), attacker=("theirs.py:Nobody",)))
    assert registry.find("blackbox", "paper").maker is not None
    assert isinstance(registry.make("blackbox", "paper"), DecodedQueries)


def test_a_module_that_changes_is_another_attacker(files, monkeypatch):
    (files / "somewhere.py").write_text(ATTACKER)
    monkeypatch.syspath_prepend(str(files))
    before = registry.digest_of_own("somewhere:Nearest")
    (files / "somewhere.py").write_text(ATTACKER + "# changed\n")
    assert len(before) == 12 and registry.digest_of_own("somewhere:Nearest") != before


@pytest.mark.slow
def test_an_attack_of_ones_own_on_a_defence_of_ones_own_leaves_a_record(files):
    config = config_of(
        dataset="mnist_5k",
        attacker=("theirs.py:Nearest",),
        level=("0.2",),
        draws=1,
        workdir=str(files / "results"),
    )
    (record,) = defenses.run(config)
    assert record["method"] == "theirs.py:Nearest" and record["defense"]["kind"] == "blur"
    assert record["attacker_knowledge"] == "the edge; surrogate images"
    written = json.loads(Path(record["path"]).read_text(encoding="utf-8"))
    assert written["config"]["attacker_code"] and np.isfinite(written["psnr_mean"])
    (again,) = defenses.run(config)
    assert again["path"] == record["path"]
    (files / "theirs.py").write_text(ATTACKER.replace("[:200]", "[:100]"))
    (other,) = defenses.run(dataclasses.replace(config))
    assert other["path"] != record["path"]
