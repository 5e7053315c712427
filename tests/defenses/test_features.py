"""Features by index: joined batches."""

import numpy as np
from behind import LEVEL, PLAIN, release, released

from jaxinv.defenses import GAUSSIAN, NONE, Joined


def test_parts_are_joined_by_index():
    parts = [np.arange(6.0).reshape(3, 2), release(NONE, edge=PLAIN)[:0].reshape(0, 2)]
    parts += [10 + np.arange(4.0).reshape(2, 2)]
    joined = Joined(parts)
    whole = np.concatenate(parts)
    assert len(joined) == 5
    for indices in ([4, 0, 3, 3], [2], slice(None), slice(1, 4)):
        np.testing.assert_array_equal(joined[indices], whole[indices])
    several = Joined([release(NONE), release(GAUSSIAN.at("feature", LEVEL))])
    found = several[np.array([9, 3])]
    np.testing.assert_allclose(found[1], released(NONE)[3], atol=1e-5)
    np.testing.assert_allclose(
        found[0], released(GAUSSIAN.at("feature", LEVEL))[1], rtol=1e-5, atol=1e-5
    )
