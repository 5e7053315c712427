"""Outputs of ONNX files: which one is taken, and that onnxruntime gives the same."""

import json
import re

import onnx
import pytest
from onnx_graphs import model, weights

from jaxinv.errors import UsageError
from jaxinv.studies import cuts
from jaxinv.studies.cuts import ListingConfig


def two_outputs():
    """A network of scores and of a map, in this order, with an affine step before both."""
    nodes = [
        ("Conv", ["x", "w"], ["maps"], {"pads": [1] * 4}),
        ("GlobalAveragePool", ["maps"], ["pooled"], {}),
        ("Flatten", ["pooled"], ["y"], {}),
    ]
    return model(nodes, {"w": weights(4, 3, 3, 3)}, (1, 3, 6, 6), outputs=("y", "maps"))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with the network, which is the current one."""
    onnx.save(two_outputs(), tmp_path / "two.onnx")
    monkeypatch.chdir(tmp_path)


def test_an_onnx_file_is_compared_with_onnxruntime(here, capsys):
    told = ListingConfig(network="two.onnx", mean=(0.1, 0.2, 0.3), std=(0.5,), json=True)
    cuts.run(told)
    out, err = capsys.readouterr()
    assert json.loads(out)["compared"]["onnxruntime"] < 1e-5
    assert err.startswith("network=two.onnx: of its outputs y, maps it is cut on the way to y;")
    cuts.run(ListingConfig(network="two.onnx:maps"))
    out, err = capsys.readouterr()
    assert re.search("onnxruntime's output of a random image differs by .*e-", out) and not err


def test_another_output_of_an_onnx_file_is_chosen_by_its_name(here):
    scores, maps = (cuts.find(ListingConfig(network=f"two.onnx{name}")) for name in ("", ":maps"))
    assert scores.network.output_shape == (4,) and maps.network.output_shape[0] == 4
    assert maps.short_name == "two.maps" and not maps.note
    with pytest.raises(UsageError, match="network=two.onnx:z: it has no output z; expected one of"):
        cuts.find(ListingConfig(network="two.onnx:z"))
