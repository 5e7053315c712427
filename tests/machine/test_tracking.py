"""Curves and pictures for TensorBoard: read back from its files."""

import importlib.util
import math

import events
import numpy as np
import pytest
from PIL import Image

from jaxinv.errors import UserError
from jaxinv.machine import hosts, tracking


def tell(name="a/b", *, after=0, steps=(1, 2), offset=0.0):
    with tracking.track(name, after=after) as track:
        for step in steps:
            track.add({"loss": step + offset, "nothing": math.nan}, step)


def test_points_and_pictures_are_read_back(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "picture.png")
    with tracking.writing_to(tmp_path / "board"):
        tell()
        with tracking.track("some name: 3/π") as track:
            track.add_picture("grid", tmp_path / "picture.png")
    found = events.read(tmp_path / "board")
    assert found["a/b"] == {"loss": [(1, 1.0), (2, 2.0)]}
    ((step, seen),) = found["some-name-3/π"]["grid"]
    assert step == 1
    np.testing.assert_array_equal(seen, picture)


def test_steps_that_are_done_again_are_shown_once(tmp_path):
    with tracking.writing_to(tmp_path):
        tell(steps=(1, 2, 3))
    with tracking.writing_to(tmp_path):
        tell(after=1, steps=(2, 3), offset=0.5)
    assert events.read(tmp_path)["a/b"]["loss"] == [(1, 1.0), (2, 2.5), (3, 3.5)]


def test_nothing_is_written_where_nobody_asks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tell()
    with tracking.writing_to(None):
        tell()
    with tracking.writing_to(tmp_path), monkeypatch.context() as patch:
        patch.setattr(hosts, "is_first", lambda: False)
        tell()
    tell()
    assert not list(tmp_path.iterdir())


def test_a_writer_that_is_missing_is_named(monkeypatch):
    tracking.check_available("there")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"^tensorboard=there: .*install jaxinv\[tensorboard\]\.$"):
        tracking.check_available("there")
