"""A network of somebody else's through every experiment, from the command line to the page."""

import json
from pathlib import Path

import foreign
import numpy as np
import pytest
from datasets import write_tfds

from jaxinv import sweeps
from jaxinv.errors import UsageError
from jaxinv.store import records


@pytest.fixture(scope="module")
def flags(scripts):
    """Flags that ask for the network and for few images of three classes."""
    rng = np.random.default_rng(0)
    labels = np.arange(150) % 3
    pixels = rng.integers(0, 80, (150, 12, 12, 1)) + 80 * labels[:, None, None, None]
    split = (pixels.astype(np.uint8), labels.astype(np.int32))
    test = tuple(part[:24] for part in split)
    write_tfds(scripts.folder / "data", "tiny", split, test)
    foreign.write(scripts.folder)
    return ("--network=net.py:build", "--dataset=tiny", "--data_dir=data")


FAST = ("--num_images=3",)


def record_of(scripts, name, *flags):
    return json.loads(scripts.record_of(name, *flags).read_text())


@pytest.fixture(scope="module")
def attacked(scripts, flags):
    own = (*flags, *FAST, "--method=tv", "--steps=3", "--split=conv,branch,hidden")
    record_of(scripts, "whitebox", *own)
    return [each for each in records.find(scripts.folder / "results", "whitebox")]


def test_a_white_box_attack_at_cuts_of_one_and_of_several_arrays(attacked):
    assert {each.split for each in attacked} == {"conv", "branch", "hidden"}
    for record in attacked:
        assert record.network.name == "net.py:build" and record.target.source == "given"
        assert record.usable.kind == "accuracy" and record.accuracy == record.usable.value
        assert record.paper is None and record.split in record.cuts
        assert record.flags["network"] == "net.py:build"


@pytest.mark.slow
def test_black_box_and_query_free_attacks(scripts, flags):
    few = (*FAST, "--method=paper", "--split=branch")
    black = record_of(scripts, "blackbox", *flags, *few, "--fit_steps=2")
    free = record_of(scripts, "queryfree", *flags, *few, "--shadow_steps=2", "--num_shadows=1")
    assert black["network"] == free["network"]
    assert black["network"]["name"] == "net.py:build"


@pytest.mark.slow
def test_outputs_that_are_no_classes_are_compared_with_the_undefended_ones(scripts, flags):
    own = ("--split=hidden", "--defense=gaussian", "--level=.5", "--fit_steps=2", *FAST)
    more = ("--attacker=paper", "--threat_model=blackbox")
    for network, kind in (("scores", "agreement"), ("embedding", "cosine")):
        given = (f"--network=net.py:{network}", *flags[1:], *own, *more)
        record = record_of(scripts, "defenses", *given)
        assert record["usability"]["kind"] == kind and record["accuracy"] is None
        assert record["usability"]["value"] < record["usability"]["value_undefended"] == 1
    status, told = scripts.answer("queryfree", *given[:3], "--split=conv", "--method=paper")
    assert status == 2 and "returns [2, 3], no logit for each of 3 classes" in told
    assert "--method=paper: learns from labelled images" in told


@pytest.mark.slow
def test_a_partition_and_the_page(scripts, flags, attacked):
    own = ("--split=hidden", "--defense=none", "--attacker=paper", "--threat_model=blackbox")
    limits = ("--min_accuracy=0", "--max_ssim=0")
    record = record_of(scripts, "partition", *flags, *own, *limits, *FAST, "--fit_steps=2")
    rows = record["choices"]
    assert [row["split"] for row in rows] == ["cloud-only", "hidden", "edge-only"]
    assert all(row["usability"]["kind"] == "accuracy" for row in rows)
    page = scripts.here("report")
    assert page.returncode == 0, page.stderr


def test_a_network_that_does_not_fit_is_refused_in_a_line(scripts, flags):
    for given, told in (
        (("--network=absent.py:build", *flags[1:]), "there is no file absent.py"),
        ((flags[0], "--dataset=mnist_5k"), "--network=net.py:build: takes images of 12x12x1, and"),
        ((*flags, "--target_seed=3"), "--network=net.py:build brings its parameters"),
        ((*flags, "--mean=.5"), "expected both of mean and std"),
    ):
        status, said = scripts.answer("whitebox", *given)
        assert status == 2 and told in said and said.count("\n") == 1
    status, said = scripts.answer("train_target", *flags)
    assert status == 2 and "there is nothing to train" in said


def test_a_cut_is_chosen_where_the_usual_one_is_another_networks(scripts, flags, attacked):
    done = scripts.here("whitebox", *flags, *FAST, "--method=tv", "--steps=3")
    assert done.returncode == 0, done.stderr
    first = next(each for each in attacked if each.split == "conv")
    assert Path(done.stdout.splitlines()[-1]).parent.name == Path(first.path).parent.name


def test_cuts_are_listed_as_one_object(scripts, flags):
    done = scripts.here("cuts", flags[0], "--json", "--all")
    found = json.loads(done.stdout)
    assert found["network"] == "net.py:build"
    assert [each["name"] for each in found["cuts"] if each["default"]] == [
        *("conv", "add", "relu_2", "hidden", "relu_3", "head")
    ]
    keys = {"name", "arrays", "bytes", "flops", "params", "bottleneck"}
    assert all(each.keys() >= keys for each in found["cuts"])


def test_a_sweep_over_networks_has_the_cuts_of_each(scripts, flags, monkeypatch):
    monkeypatch.chdir(scripts.folder)
    given = {"dataset": "tiny", "data_dir": str(scripts.folder / "data"), "split": "all"}
    runs = sweeps.expand("whitebox", {**given, "network": "net.py:build,net.py:scores"})
    assert [run.flags["network"] for run in runs] == ["net.py:build"] * 6 + ["net.py:scores"] * 6
    assert len({(run.inputs["network"], run.inputs["target"]) for run in runs}) == 2
    with pytest.raises(UsageError, match="network=absent.py:build: there is no file absent.py"):
        sweeps.expand("whitebox", {**given, "network": "absent.py:build"})
