"""Predictions of leakage as an experiment: records, tables, and comparison with attacks."""

import json

import fake_runs
import numpy as np
import pytest
from toys import blobs

from jaxinv import __main__ as program
from jaxinv.measures.leakage import STATISTICS
from jaxinv.store import records
from jaxinv.store.record import LeakageRecord
from jaxinv.studies.leakage import joined, table

NETWORK = """
import flax.linen as nn
import jax

from jaxinv.networks import sequence


def build():
    layers = [("conv", nn.Conv(4, (3, 3), strides=2)), ("relu", nn.relu)]
    layers += [("head", nn.DenseGeneral(3, axis=(-3, -2, -1)))]
    network = sequence(layers, (12, 12, 1), mean=0.5, std=0.5)
    return network, network.init(jax.random.key(0))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("leakage")
    (folder / "net.py").write_text(NETWORK)
    images = (255 * blobs(160, (12, 12, 1))).astype(np.uint8)
    np.savez(folder / "images.npz", images=images, labels=np.arange(160) % 3)
    return folder


@pytest.fixture(scope="module")
def flags(place):
    return [
        f"--dataset={place}/images.npz",
        f"--network={place}/net.py:build",
        f"--workdir={place}/work",
        "--jacobians=1",
    ]


def said(capsys, *arguments):
    capsys.readouterr()
    assert program.main(["leakage", *arguments]) == 0
    return capsys.readouterr().out


@pytest.fixture(scope="module")
def measured(flags, place):
    """Two cuts at two levels, without an attack."""
    assert program.main(["leakage", *flags, "--split=relu,head", "--level=0,2", "--json"]) == 0
    return [each for each in records.find(place / "work") if isinstance(each, LeakageRecord)]


def test_each_release_is_a_record_of_all_statistics(measured):
    released = {(each.split, each.defense.words) for each in measured}
    noisy = "gaussian 2 at the features"
    assert released == {(cut, words) for cut in ("relu", "head") for words in ("undefended", noisy)}
    for each in measured:
        assert list(each.statistics) == [one.name for one in STATISTICS]
        assert all(value is not None for value in each.statistics.values())
        assert each.flags["split"] == each.split and each.flags["level"] in ("0.0", "2.0")


def test_the_table_has_the_release_that_leaks_most_first(measured):
    lines = table.predictions([each.fields for each in measured]).splitlines()[-4:]
    assert lines[0].startswith("relu        undefended")
    predicted = [float(line[44:].split()[0]) for line in lines]
    assert predicted == sorted(predicted, reverse=True)


def test_what_is_measured_is_read_and_few_attacks_are_not_compared(measured, flags, capsys):
    before = {each.path: each.fields["seconds"] for each in measured}
    out = said(capsys, *flags, "--split=head,relu", "--level=0,2", "--json")
    assert "are on 0 of the releases that were measured there; 4 are compared." in out
    found = json.loads(out.splitlines()[-1])["records"]
    assert {each["path"]: each["seconds"] for each in found} == before


def attack(place, record, psnr, **values):
    """Writes a finished attack on a release."""
    defense = record.fields["defense"]
    given = {"split": record.split, "defense": defense, "quality": (psnr, psnr / 50)}
    target = {"source": "brought", "fingerprint": record.target.fingerprint}
    given |= {"target": target, "data_fingerprint": record.data_fingerprint}
    return fake_runs.attack(place / "work", images=False, **{**given, **values})


@pytest.fixture(scope="module")
def attacked(measured, place):
    """Attacks whose PSNR goes with what was predicted, and others that must not count."""
    for each in measured:
        psnr = each.statistics["posterior_psnr"]
        attack(place, each, psnr, reid_top1=0.5)
        attack(place, each, psnr - 3)
    other = {"source": "brought", "fingerprint": "0" * 12}
    attack(place, measured[0], 49.0, num_images=4)
    attack(place, measured[0], 49.0, releases=4)
    attack(place, measured[0], 49.0, target=other)
    return measured


def test_predictions_are_held_against_the_strongest_attack(attacked, place):
    triples = joined.join(str(place / "work"), images=8)
    assert [each.attacks for each in triples] == [2, 2, 2, 2]
    assert all(each.network.startswith("net.py:build ") for each in triples)  # without its folder
    for each in triples:
        psnr = each.statistics["posterior_psnr"]
        assert each.leaks["psnr"] == pytest.approx(psnr)
        assert each.leaks["ssim"] == pytest.approx(psnr / 50)
    found = joined.correlations(triples)
    assert found["posterior_psnr"]["psnr"]["value"] == pytest.approx(1)
    assert found["posterior_psnr"]["psnr"]["within"] == pytest.approx(1)
    assert found["posterior_psnr"]["reid"]["value"] is None  # all are 0.9: nothing to order
    (own,) = found["sent_bits"]["ssim"]["networks"].values()
    assert own["count"] == 4


def test_the_command_prints_and_draws_the_comparison(attacked, flags, place, capsys):
    out = said(capsys, *flags, "--attacked")
    assert "4 releases of 1 network were attacked" in out
    record = json.loads((place / "work" / out.splitlines()[-1]).read_text("utf-8"))
    assert record["correlations"]["posterior_psnr"]["ssim"]["value"] == pytest.approx(1)
    assert len(record["triples"]) == 4
    (picture,) = (place / "work").glob("leakage/*/predictions.png")
    assert picture.stat().st_size > 1000


def test_without_an_attack_there_is_nothing_to_measure_again(flags, place, capsys):
    other = [each for each in flags if not each.startswith("--workdir")]
    with pytest.raises(SystemExit):
        program.main(["leakage", *other, f"--workdir={place}/empty", "--attacked"])
    told = capsys.readouterr().err
    assert "no finished attack on this target is there" in told and "Traceback" not in told
