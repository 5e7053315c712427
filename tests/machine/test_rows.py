"""Arrays whose rows are made when they are indexed are as those in memory."""

import numpy as np

from jaxinv.attacks.queryfree.reordered import Reordered
from jaxinv.machine import rows
from jaxinv.store import checkpoints
from jaxinv.training import portions
from jaxinv.unit_space import Scaled

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 5, 4, 3), np.uint8)
ORDER = np.random.default_rng(1).permuted(np.tile(np.arange(40), (2, 1)), axis=1).T


def test_their_fingerprint_is_that_of_the_array_and_is_taken_in_blocks(monkeypatch):
    monkeypatch.setattr(rows, "_BLOCK", 1000)
    for made in (Scaled(PIXELS), Reordered(PIXELS, ORDER)):
        assert len(list(rows.blocks(made))) > 1
        whole = np.asarray(made)
        assert checkpoints.fingerprint({"a": made}) == checkpoints.fingerprint({"a": whole})


def test_reordered_rows_are_those_of_the_order():
    made = Reordered(PIXELS, ORDER)
    np.testing.assert_array_equal(made[np.array([3, 0])], PIXELS[ORDER[[3, 0]]])
    assert (made.shape, made.nbytes) == ((40, 2, 5, 4, 3), 2 * PIXELS.nbytes)


def test_moments_are_those_of_the_array(monkeypatch):
    monkeypatch.setattr(rows, "_BLOCK", 1000)
    whole = np.asarray(Scaled(PIXELS), np.float64)
    mean, variance = rows.mean_and_variance(Scaled(PIXELS), (0, 1, 2))
    np.testing.assert_allclose(mean, whole.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(variance, whole.var((0, 1, 2)), rtol=1e-9)


def test_training_takes_them_in_portions(monkeypatch):
    monkeypatch.setattr(portions.memory, "step", lambda: 4000)
    mesh = portions.devices.mesh(images=8)
    taken = portions.Portions(mesh, (Scaled(PIXELS), np.arange(40)), 8)
    found = [
        np.asarray(images)[np.asarray(place)]
        for _, count, (images, _), places in taken.of_epoch(taken.in_order)
        for place in places[:count]
    ]
    assert len(found) == 5
    np.testing.assert_array_equal(np.concatenate(found), PIXELS / np.float32(255))
