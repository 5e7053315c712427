"""Images with noisy reconstructions of them."""

import numpy as np


def pairs(shape, *, noise=0.2, seed=0):
    """Smooth originals in unit space, and noisy reconstructions that leave it."""
    rng = np.random.default_rng(seed)
    coarse = rng.random(shape)
    originals = (coarse + np.roll(coarse, 1, axis=1) + np.roll(coarse, 1, axis=2)) / 3
    return originals.astype(np.float32), (originals + noise * rng.standard_normal(shape)).astype(
        np.float32
    )
