"""Order of test images: whether the first of them, or a half, stand for all. NumPy."""

import numpy as np

from jaxinv.errors import UserError
from jaxinv.inputs import data

_FEWEST = 20  # images whose labels are seldom in order by chance
_LOOKED_AT, _SIDE = 1000, 8  # images, evenly over all; pixels along each side of one
_SHUFFLES, _FAR = 50, 6.0  # orders by chance; standard deviations that these hardly ever reach


def check(dataset: data.Dataset) -> None:
    """Checks that either half of the test split stands for the other, as far as labels tell.

    Raises:
      UserError: the images are sorted by class, so that halves are of different ones.
    """
    if is_sorted(dataset.test):
        raise UserError(
            f"dataset={dataset.name}: its {len(dataset.test):,} test images are sorted by class, "
            "and a half has not what the other has; expected them in a random order."
        )


def note(dataset: data.Dataset, number: int) -> str | None:
    """Returns why the first images are no sample of the test split; None if they may be.

    Args:
      dataset: whose test images are attacked.
      number: of those that are, from the first.
    """
    if number >= len(dataset.test):
        return None
    if is_sorted(dataset.test):
        why = "are sorted by class"
    elif are_neighbours_alike(dataset.test):
        why = "are like their neighbours, as if sorted or taken one after the other"
    else:
        return None
    return (
        f"Note: the test images of {dataset.name} {why}. The first {number:,} of "
        f"{len(dataset.test):,} are no sample of them, and results are about images like "
        "these alone; a random order of the images would make them one."
    )


def is_sorted(test: data.Samples) -> bool:
    """Tells whether images are sorted by class; those without labels are not known to be."""
    labels = test.labels if test.has_labels else np.zeros(1)
    return len(labels) >= _FEWEST and labels[0] < labels[-1] and bool((np.diff(labels) >= 0).all())


def are_neighbours_alike(test: data.Samples) -> bool:
    """Tells whether images resemble the next ones more than chance allows, whatever the labels.

    The correlation of neighbours, of images that are evenly spread over all, is compared with that
    of random orders of the same images.
    """
    pixels = test.pixels[:: -(-len(test) // _LOOKED_AT)]
    if len(pixels) < _FEWEST:
        return False
    _, height, width, _ = pixels.shape
    few = np.asarray(pixels[:, :: -(-height // _SIDE), :: -(-width // _SIDE)], np.float32)
    centred = few.reshape(len(few), -1)
    centred = centred - centred.mean(axis=0)
    rng = np.random.default_rng(0)
    shuffled = [_alike(rng.permutation(centred)) for _ in range(_SHUFFLES)]
    return bool(_alike(centred) > np.mean(shuffled) + _FAR * np.std(shuffled))


def _alike(centred: np.ndarray) -> float:
    """Returns the covariance of neighbours, summed over pixels."""
    return float((centred[1:] * centred[:-1]).sum())
