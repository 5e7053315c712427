"""Decodes image files to 8-bit pixels, exactly or not at all. NumPy code.

Pixels are those that TFDS decodes: no gamma, colour profile or orientation is applied. Where TFDS
would lose something without a word (bits, colours, transparency), an image is refused.
"""

import io
from typing import TYPE_CHECKING

import numpy as np

from jaxinv.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's image modes by number of channels
_FORMATS = ("PNG", "JPEG", "BMP")
_EXACT = ("1", "L", "LA", "P", "RGB", "RGBA")  # modes that RGBA holds, value for value
_PNG, _DEPTH = b"\x89PNG\r\n\x1a\n", 24  # a PNG's first bytes, and where it tells its bit depth


def decode(encoded: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    """Returns the pixels of an image file, uint8 of `shape`, (height, width, 1, 3 or 4).

    One to eight bits become 0 to 255, a palette its colours, and grey three equal channels. A
    channel that tells nothing is dropped: equal colours, or an alpha that is opaque everywhere.

    Raises:
      UserError: it has another size, more bits or more channels, or is no such file; the message
        continues a sentence about the image.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(encoded), formats=_FORMATS) as image:
            return _pixels(image, encoded, shape)
    except UserError:
        raise
    except UnidentifiedImageError as error:
        raise UserError("is no PNG, JPEG or BMP file, or its head is damaged.") from error
    except Exception as error:  # Pillow raises many kinds
        raise UserError(f"cannot be decoded ({type(error).__name__}: {error}).") from error


def _pixels(image: "Image", encoded: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    height, width, channels = shape
    if image.size != (width, height):
        raise UserError(
            f"is {image.height} x {image.width} pixels, not {height} x {width} as the features of "
            "the dataset tell; all of one size are needed."
        )
    if image.mode.startswith("I") or (encoded.startswith(_PNG) and encoded[_DEPTH] > 8):
        raise UserError("has more than 8 bits a channel; at most 8 are needed.")
    if image.mode not in _EXACT:
        raise UserError(f"is a {image.mode} image; grey, RGB or a palette is needed.")
    if image.mode != MODES[channels] or "transparency" in image.info:
        image = _with_channels(image, channels)
    return np.asarray(image).reshape(shape)


def _with_channels(image: "Image", channels: int) -> "Image":
    """Converts an image to so many channels, or raises UserError if that loses something."""
    whole = image.convert("RGBA")
    pixels = np.asarray(whole)
    if channels < 4 and pixels[..., 3].min() < 255:
        raise UserError(f"has transparent pixels, which {channels} channel(s) cannot hold.")
    if channels == 1 and np.ptp(pixels[..., :3], axis=-1).any():
        raise UserError("has colours, where the features of the dataset tell 1 channel.")
    return whole.getchannel(0) if channels == 1 else whole.convert(MODES[channels])
