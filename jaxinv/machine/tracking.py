"""Curves and pictures for TensorBoard, where a user asks for them. NumPy; tensorboardX writes.

`writing_to` names a folder for a block. Whatever runs inside the block opens tracks and adds to
them; each is a folder that TensorBoard lists as a run. Outside such a block a track does nothing.
"""

import contextlib
import importlib.util
import itertools
import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxinv.errors import UserError
from jaxinv.machine import hosts

_WRITER = "tensorboardX"
_SECONDS_UNWRITTEN = 5
_FOREIGN = re.compile(r"[^\w.+/-]+")

_NUMBERS = itertools.count()
"""One for each file: their names tell the time in seconds alone."""

_folder: Path | None = None


class Track:
    """Curves and pictures of one run or one training.

    Args:
      writer: a `SummaryWriter`; None writes nothing.
    """

    def __init__(self, writer: Any = None):
        self._writer = writer

    def add(self, values: Mapping[str, float], step: int) -> None:
        """Adds a point to the curve of each name. Values that are not finite are left out."""
        for name, value in values.items():
            if self._writer is not None and math.isfinite(value):
                self._writer.add_scalar(name, value, step)

    def add_picture(self, name: str, path: Path) -> None:
        """Adds the picture of a PNG file, at step 1."""
        if self._writer is not None:
            from PIL import Image  # here: most runs need none

            with Image.open(path) as picture:
                values = np.asarray(picture.convert("RGB"))
            self._writer.add_image(name, values, 1, dataformats="HWC")


def check_available(folder: str | os.PathLike[str]) -> None:
    """Checks that there is a writer.

    Raises:
      UserError: tensorboardX is not installed.
    """
    if importlib.util.find_spec(_WRITER) is None:
        raise UserError(
            f"tensorboard={folder}: is written by {_WRITER} alone: install jaxinv[tensorboard]."
        )


@contextlib.contextmanager
def writing_to(folder: str | os.PathLike[str] | None) -> Iterator[None]:
    """Writes tracks below a folder while the block runs, in all threads; None writes none."""
    global _folder
    before, _folder = _folder, None if folder is None else Path(folder)
    try:
        yield
    finally:
        _folder = before


@contextlib.contextmanager
def track(name: str, *, after: int = 0) -> Iterator[Track]:
    """Opens a track for a block. Of several hosts the first writes.

    Args:
      name: folder below that of `writing_to`; characters that names of files lack become dashes.
      after: steps that are done. Points after them, of an earlier try, are no longer shown.
    """
    if _folder is None or not hosts.is_first():
        yield Track()
        return
    from tensorboardX import SummaryWriter

    writer = SummaryWriter(
        str(_folder / _FOREIGN.sub("-", name)),
        purge_step=after + 1,
        flush_secs=_SECONDS_UNWRITTEN,
        filename_suffix=f".{os.getpid()}.{next(_NUMBERS):06}",
    )
    with contextlib.closing(writer):
        yield Track(writer)
