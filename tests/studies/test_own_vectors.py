"""A table and series from their file to the record, behind networks of the user's own."""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxinv.errors import UsageError
from jaxinv.store import records
from jaxinv.studies import experiment
from jaxinv.studies.partition.options import PartitionConfig
from jaxinv.studies.whitebox import WhiteboxConfig

NETWORK = """
import flax.linen as nn
import jax
import numpy as np

MEAN, STD = np.float32([0, 50, 5e3]), np.float32([1, 10, 1e3])


class Rows(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(8, name="hidden")((x - MEAN[None]) / STD[None]))
        return nn.Dense(2, name="head")(x)


class Series(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(4, (3,), name="conv")(x))
        return nn.Dense(2, name="head")(x.reshape(len(x), -1))


def rows():
    return Rows(), Rows().init(jax.random.key(0), np.zeros((1, 3))), (3,)


def series():
    return Series(), Series().init(jax.random.key(0), np.zeros((1, 10, 2))), (10, 2)
"""


@pytest.fixture
def given(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "net.py").write_text(NETWORK)
    rows = rng.normal([0, 50, 5e3], [1, 10, 1e3], (80, 3))
    names = {"columns": ["a", "b", "c"], "units": ["", "kg", "m"]}
    np.savez(tmp_path / "rows.npz", table=rows, labels=np.arange(80) % 2, **names)
    time = np.arange(10)[:, None] / 3 + rng.random((60, 1, 2)) * 6
    np.savez(tmp_path / "series.npz", series=7 * np.sin(time), labels=np.arange(60) % 2)

    def config(kind, **more):
        network, dataset = f"{tmp_path}/net.py:{kind}", f"{tmp_path}/{kind}.npz"
        own = {"workdir": str(tmp_path / "work"), "num_images": 5, "split": ("all",)}
        return {"network": network, "dataset": dataset, **own, **more}

    return config


def run(config):
    made = experiment.find("whitebox").run(WhiteboxConfig(**config))
    return [json.loads(Path(each["path"]).read_text("utf-8")) for each in made]


@pytest.mark.slow
def test_a_table_behind_a_network_of_its_values(given):
    (hidden, *_) = run(given("rows", method="tv", steps=40, split=("hidden",)))
    assert hidden["inputs"]["kind"] == "table" and hidden["inputs"]["shape"] == [3]
    assert hidden["inputs"]["columns"][1]["unit"] == "kg"
    assert not {"ssim", "ssim_mean", "exact_fraction"} & hidden.keys()
    assert len(hidden["correlation"]) == len(hidden["rmse"]) == 5
    assert hidden["rmse_mean"] < 0.05 < 0.9 < hidden["correlation_mean"]
    widths = [each["high"] - each["low"] for each in hidden["inputs"]["columns"]]
    assert len(hidden["rmse_by_column"]) == 3
    assert np.all(np.array(hidden["rmse_by_column"]) < 0.1 * np.array(widths))
    (read,) = records.find(Path(hidden["flags"].get("workdir", given("rows")["workdir"])))
    assert read.ssim_mean == hidden["correlation_mean"] and read.kind_of_input.name == "table"
    images = records.load_images(Path(read.path).with_name(records.IMAGES_NAME))
    assert images["originals"].shape == (5, 3)
    assert Path(read.path).with_name("grid.png").stat().st_size > 1000
    assert run(given("rows", method="tv", steps=40, split=("hidden",))) == [hidden]


def test_series_behind_convolutions_in_time(given):
    found = run(given("series", method="tv", steps=30, split=("conv",)))
    assert found[0]["inputs"]["shape"] == [10, 2] and found[0]["correlation_mean"] > 0.9


def test_a_limit_is_on_the_similarity_that_there_is(given):
    own = given("rows", max_ssim=0.5)
    with pytest.raises(UsageError) as caught:
        experiment.find("partition").check(PartitionConfig(**own))
    words = "max_ssim=0.5: is about images, and these are rows: expected max_correlation."
    assert str(caught.value) == words


def test_a_network_of_other_inputs_is_refused(given):
    own = given("rows")
    own["network"] = own["network"].replace(":rows", ":series")
    with pytest.raises(UsageError) as caught:
        run(own)
    assert "takes inputs of 10x2, and dataset=rows.npz has rows of 3." in str(caught.value)
