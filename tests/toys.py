"""Images, edges and clouds that are small, and that tests of several modules share."""

import numpy as np
from datasets import samples

MATRIX = np.random.default_rng(0).normal(size=(16, 6)).astype(np.float32)


def blobs(count, shape, *, seed=0):
    """Smooth images in unit space: bright blobs on a dark ground."""
    rng = np.random.default_rng(seed)
    height, width, channels = shape
    y, x = np.mgrid[:height, :width][..., None, None]
    centre = rng.uniform(0.2, 0.8, (2, count, 1, 1, channels, 4)) * height
    width2 = rng.uniform(2, 5, (count, 1, 1, channels, 4)) ** 2
    distance2 = (y - centre[0]) ** 2 + (x - centre[1]) ** 2
    return np.clip(np.exp(-distance2 / width2).sum(-1), 0, 1).astype(np.float32)


def edge(images):
    return images.reshape(len(images), -1) @ MATRIX


def _fitted_cloud():
    given = samples(2000, seed=3)
    features = np.column_stack((edge(given.images), np.ones(2000)))
    wanted = 4 * np.eye(3)[given.labels] - 2
    solution = np.linalg.lstsq(features, wanted, rcond=None)[0].astype(np.float32)
    return solution[:6], solution[6:]


WEIGHT, OFFSET = _fitted_cloud()


def classify(features):
    return features @ WEIGHT + OFFSET
