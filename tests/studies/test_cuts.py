"""The list of cuts: of other people's networks, with their data and preprocessing."""

import foreign
import numpy as np
import pytest

from jaxinv.errors import UsageError
from jaxinv.studies import cuts
from jaxinv.studies.cuts import ListingConfig


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a network of 12 x 12 grey images, and images of other sizes, current."""
    foreign.write(tmp_path)
    rng = np.random.default_rng(0)
    for size, channels in ((10, 3), (10, 1), (12, 1)):
        pixels = rng.integers(0, 256, (9, size, size, channels)).astype(np.uint8)
        np.savez(tmp_path / f"images{size}x{channels}.npz", images=pixels)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_network_of_ones_own_must_take_the_data(here):
    for name in ("images12x1.npz", "images10x1.npz"):  # the latter are resized
        found = cuts.find(ListingConfig(network="net.py:build", dataset=name))
        assert found.network.input_shape == (12, 12, 1)
    told = "takes images of 12x12x1, and dataset=images10x3.npz has 12x12x3"
    with pytest.raises(UsageError, match=told):
        cuts.find(ListingConfig(network="net.py:build", dataset="images10x3.npz"))
    with pytest.raises(UsageError, match="input_shape=8x8x1: network=net.py:build takes images of"):
        cuts.find(ListingConfig(network="net.py:build", input_shape="8x8x1"))
    with pytest.raises(UsageError, match="image_size=8: expected dataset, too"):
        cuts.find(ListingConfig(network="net.py:build", image_size="8"))


def test_preprocessing_belongs_to_the_network_whose_cuts_are_listed(here):
    found = cuts.find(ListingConfig(network="net.py:build", mean=(0.5,), std=(0.25,)))
    assert (found.network.mean, found.network.std) == ((0.5,), (0.25,))
