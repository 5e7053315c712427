"""Decodes image files to 8-bit pixels, exactly or not at all. NumPy code.

Pixels are those that TFDS decodes: no gamma or colour profile is applied. Where something would be
lost without a word (bits, colours, transparency, frames), an image is refused. It is resized, and
turned as a camera tells, only where that is asked for.
"""

import contextlib
import io
import re
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxinv.errors import UsageError, UserError

if TYPE_CHECKING:
    from PIL.Image import Image

MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's image modes by number of channels
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
_GREY = ("1", "L", "LA")
_EXACT = (*_GREY, "P", "RGB", "RGBA")  # modes that RGBA holds, value for value
_PNG, _DEPTH = b"\x89PNG\r\n\x1a\n", 24  # a PNG's first bytes, and where it tells its bit depth
_SIZE = re.compile(r"([1-9][0-9]{0,4})(?:[xX]([1-9][0-9]{0,4}))?")


class Head(NamedTuple):
    """Facts that an image file tells before its pixels."""

    height: int
    width: int
    is_grey: bool


def size_of(given: Any) -> tuple[int, int] | None:
    """Returns height and width as a user spells them: "HxW", one number for both, or two numbers.

    Raises:
      UsageError: it is no size.
    """
    if given is None:
        return None
    text = "x".join(map(str, given)) if isinstance(given, tuple | list) else str(given).strip()
    match = _SIZE.fullmatch(text)
    if match is None:
        raise UsageError(f"image_size={text}: expected HxW, such as 224x160, or one number.")
    return int(match[1]), int(match[2] or match[1])


def head(file: IO[bytes]) -> Head:
    """Reads the head of an image file; the size is that of the upright image.

    Raises:
      UserError: it is no such file; the message continues a sentence about the image.
    """
    with _opened(file) as image:
        width, height = image.size
        if image.getexif().get(0x0112, 1) >= 5:  # orientations that lie on their side
            width, height = height, width
        return Head(height, width, image.mode in _GREY)


def decode(
    encoded: bytes, shape: tuple[int, int, int], *, fits: bool = False, upright: bool = False
) -> np.ndarray:
    """Returns the pixels of an image file, uint8 of `shape`, (height, width, 1, 3 or 4).

    One to eight bits become 0 to 255, a palette its colours, and grey three equal channels. A
    channel that tells nothing is dropped: equal colours, or an alpha that is opaque everywhere.

    Args:
      encoded: the file.
      shape: of the result.
      fits: whether an image of another size is resized, as `fitted` does, or refused.
      upright: whether it is turned as its EXIF orientation tells.

    Raises:
      UserError: it has another size, more bits or more channels, or is no such file; the message
        continues a sentence about the image.
    """
    with _opened(io.BytesIO(encoded)) as image:
        return _pixels(image, encoded, shape, fits, upright)


def fitted(pixels: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Returns an image of `shape` from the middle of another, `[H, W, C]` uint8.

    It is resized until it just covers the new size (bicubic, antialiased), and what then stands out
    is cut off evenly.
    """
    from PIL import Image

    if pixels.shape[2] not in MODES:  # Pillow has no mode for as many channels
        planes = np.moveaxis(pixels, 2, 0)[..., None]
        return np.concatenate([fitted(each, (*shape[:2], 1)) for each in planes], axis=2)
    flat = pixels[..., 0] if pixels.shape[2] == 1 else np.ascontiguousarray(pixels)
    return np.asarray(_fit(Image.fromarray(flat), shape)).reshape(shape)


def _fit(image: "Image", shape: tuple[int, int, int]) -> "Image":
    from PIL import Image, ImageOps

    return ImageOps.fit(image, (shape[1], shape[0]), Image.Resampling.BICUBIC)


@contextlib.contextmanager
def _opened(file: IO[bytes]) -> "Iterator[Image]":
    """Opens an image; whatever fails while it is open is told in a line."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file, formats=_FORMATS) as image:
            yield image
    except UserError:
        raise
    except UnidentifiedImageError as error:
        raise UserError("is no PNG, JPEG, WebP or BMP file, or its head is damaged.") from error
    except Exception as error:  # Pillow raises many kinds
        raise UserError(f"cannot be decoded ({type(error).__name__}: {error}).") from error


def _pixels(
    image: "Image", encoded: bytes, shape: tuple[int, int, int], fits: bool, upright: bool
) -> np.ndarray:
    from PIL import ImageOps

    height, width, channels = shape
    _check(image, encoded)
    if upright:
        image = ImageOps.exif_transpose(image)
    if image.size != (width, height) and not fits:
        raise UserError(
            f"is {image.height} x {image.width} pixels, not {height} x {width}; all of one size "
            "are needed, or image_size=HxW, which resizes them."
        )
    if image.mode != MODES[channels] or "transparency" in image.info:
        image = _with_channels(image, channels)
    if image.size != (width, height):
        image = _fit(image, shape)
    return np.asarray(image).reshape(shape)


def _check(image: "Image", encoded: bytes) -> None:
    """Refuses images of more than 8 bits, of other colours, and of several frames."""
    if image.mode.startswith("I") or (encoded.startswith(_PNG) and encoded[_DEPTH] > 8):
        raise UserError("has more than 8 bits a channel; at most 8 are needed.")
    if image.mode not in _EXACT:
        raise UserError(f"is a {image.mode} image; grey, RGB or a palette is needed.")
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # the other pictures of a camera's file are previews
        raise UserError(f"has {frames} frames; 1 is needed.")


def _with_channels(image: "Image", channels: int) -> "Image":
    """Converts an image to so many channels, or raises UserError if that loses something."""
    whole = image.convert("RGBA")
    pixels = np.asarray(whole)
    if channels < 4 and pixels[..., 3].min() < 255:
        raise UserError(f"has transparent pixels, which {channels} channel(s) cannot hold.")
    if channels == 1 and np.ptp(pixels[..., :3], axis=-1).any():
        raise UserError("has colours, which 1 channel cannot hold.")
    return whole.getchannel(0) if channels == 1 else whole.convert(MODES[channels])
