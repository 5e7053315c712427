"""A folder of images of mixed sizes, without labels, behind a network of the user's own."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from datasets import image_file
from toys import blobs

from jaxinv.errors import UserError
from jaxinv.studies import experiment
from jaxinv.studies.blackbox import BlackboxConfig
from jaxinv.studies.queryfree import QueryfreeConfig

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


@pytest.fixture
def given(tmp_path):
    """Settings of a black-box run on photographs of their own, few and quickly learned from."""
    for part, count in (("attacker", 21), ("test", 3)):
        (tmp_path / "photos" / part).mkdir(parents=True)
        for number in range(count):
            (image,) = blobs(1, (13 + number % 3, 17, 1), seed=100 * count + number)
            file = image_file((255 * image).astype(np.uint8))
            (tmp_path / "photos" / part / f"{number}.png").write_bytes(file)
    (tmp_path / "net.py").write_text(NETWORK)
    return {
        "dataset": str(tmp_path / "photos"),
        "network": f"{tmp_path}/net.py:build",
        "workdir": str(tmp_path / "work"),
        "split": ("relu",),
        "method": "paper",
        "fit_steps": 2,
    }


def test_a_folder_behind_a_network_of_ones_own(given):
    (made,) = experiment.find("blackbox").run(BlackboxConfig(**given))
    record = json.loads(Path(made["path"]).read_text("utf-8"))
    assert record["dataset"] == "photos" and record["num_images"] == len(record["psnr"]) == 3
    assert record["data_source"] == "folder, 24 images resized to 12x12"
    assert record["flags"]["dataset"] == given["dataset"]
    assert record["accuracy"] is None


@pytest.mark.slow
def test_query_free_attackers_of_a_folder_need_no_labels(given):
    few = {"shadow_steps": 2, "num_shadows": 1, "method": "strong"}
    with jax.debug_key_reuse(False):  # the gallery has the draws of what is attacked
        (made,) = experiment.find("queryfree").run(QueryfreeConfig(**given | few))
    record = json.loads(Path(made["path"]).read_text("utf-8"))
    assert record["usability"]["kind"] == "agreement" and len(record["psnr"]) == 3
    assert record["shadow_accuracy"] is None and record["stream_is_attacked"]
    with pytest.raises(UserError, match="^method=paper: learns from labelled images, and dataset="):
        experiment.find("queryfree").run(QueryfreeConfig(**given))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"network": None}, "all of one size are needed, or image_size=HxW"),
        ({"surrogate": "same"}, "^surrogate=same: 0 images, and paper needs 20"),
        ({"image_size": "11"}, "takes images of 12x12x1"),
    ],
    ids=["no network", "no target", "size"],
)
def test_refused_before_anything_is_written(given, changed, words):
    with pytest.raises(UserError, match=words):
        experiment.find("blackbox").run(BlackboxConfig(**given | changed))
    assert not Path(given["workdir"]).exists()
