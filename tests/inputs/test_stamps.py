"""Stamps: files told unchanged without reading them."""

import numpy as np
import pytest

from jaxinv.inputs import stamps


@pytest.mark.parametrize("place", [0, 2_000, 39_999, 79_999])
def test_a_sample_sees_blocks_of_a_file(tmp_path, place):
    path = tmp_path / "file"
    content = bytearray(np.random.default_rng(0).bytes(80_000))
    path.write_bytes(content)
    before = stamps.sample(path)
    assert before[:3] == stamps.stamp(path) and before == stamps.sample(path)
    content[place] ^= 1
    path.write_bytes(content)
    assert stamps.sample(path)[3] != before[3]
