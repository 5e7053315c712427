"""Images as files hold them, decoded into one array of one shape. NumPy code."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import IO, NamedTuple

import numpy as np

from jaxinv.errors import UserError
from jaxinv.inputs import images
from jaxinv.store import files


class Encoded(NamedTuple):
    """An image that is not decoded yet.

    Attributes:
      where: it is, for errors.
      open: opens its file.
      part: of the dataset, as `parts.named` has them.
      label: its class, or None.
    """

    where: str
    open: Callable[[], IO[bytes]]
    part: str | None
    label: int | None


def decode(listing: Sequence[Encoded], size: tuple[int, int] | None) -> np.ndarray:
    """Returns the pixels of images, `[N, H, W, C]` uint8, upright, in the order of the listing.

    There is one channel if all of them are grey, else three.

    Args:
      listing: at least one image.
      size: height and width that they are resized to, as `images.fitted` does; or None, for the one
        size that all of them have.

    Raises:
      UserError: one cannot be read, or they are not of one size.
    """
    from tqdm import tqdm

    heads = [_head(each) for each in listing]
    channels = 1 if all(head.is_grey for head in heads) else 3
    height, width = size or heads[0][:2]
    if size is None:
        _check_sizes(listing, heads)
    pixels = np.empty((len(listing), height, width, channels), np.uint8)
    bar = tqdm(listing, desc="decoding images", unit="image", disable=None, delay=1)
    for index, each in enumerate(bar):
        with _named(each), each.open() as file:
            shape = (height, width, channels)
            pixels[index] = images.decode(file.read(), shape, fits=True, upright=True)
    return pixels


def _head(each: Encoded) -> images.Head:
    with _named(each), each.open() as file:
        return images.head(file)


def _check_sizes(listing: Sequence[Encoded], heads: Sequence[images.Head]) -> None:
    first = heads[0]
    for each, head in zip(listing, heads, strict=True):
        if head[:2] != first[:2]:
            raise UserError(
                f"{each.where} is {head.height} x {head.width} pixels, and {listing[0].where} is "
                f"{first.height} x {first.width}; all of one size are needed, or image_size=HxW, "
                "which resizes them."
            )


@contextlib.contextmanager
def _named(each: Encoded) -> Iterator[None]:
    """Tells in a line which image cannot be read."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{each.where} {error}") from error
    except OSError as error:
        raise UserError(f"{each.where} cannot be read: {files.reason(error)}.") from error
