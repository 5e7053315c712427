"""Files of images: every bit depth and mode is decoded exactly, or refused in one line."""

import struct
import zlib

import numpy as np
import pytest
from datasets import image_file, random_split, write_tfds
from tiny import TEST, assert_one_line, load

from jaxinv.errors import UserError
from jaxinv.inputs import images

GREY = np.arange(16, dtype=np.uint8).reshape(2, 8, 1) * 17
COLOURS = np.stack([GREY[..., 0], 255 - GREY[..., 0], GREY[..., 0] // 2], axis=-1)
CLEAR = np.concatenate([COLOURS, np.full_like(GREY, 254)], axis=-1)
OPAQUE = np.concatenate([COLOURS, np.full_like(GREY, 255)], axis=-1)
EVEN = np.repeat(GREY, 3, axis=-1)


def png(rows, *, depth, color, chunks=b""):
    """The bytes of a 2 x 8 PNG, for what Pillow does not write."""
    head = struct.pack(">IIBBBBB", 8, 2, depth, color, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    tail = chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunks + tail


def chunk(kind, content):
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def palette(mode, **options):
    """The colours as a file with a palette, whose entry 3 may be transparent."""
    from PIL import Image

    image = Image.fromarray(COLOURS).quantize(16)
    return image_file(np.asarray(image)[..., None], **options) if mode else image


EXACT = {
    "1 bit": (png([b"\xa5", b"\x0f"], depth=1, color=0), [1, 0, 1, 0, 0, 1, 0, 1], 255),
    "2 bits": (png([b"\x1b\xe4"] * 2, depth=2, color=0), [0, 1, 2, 3, 3, 2, 1, 0], 85),
    "4 bits": (png([b"\x01\x29\xab\xef"] * 2, depth=4, color=0), [0, 1, 2, 9, 10, 11, 14, 15], 17),
    "8 bits": (png([bytes(range(8))] * 2, depth=8, color=0), range(8), 1),
    "gamma": (
        png([bytes(range(8))] * 2, depth=8, color=0, chunks=chunk(b"gAMA", struct.pack(">I", 1))),
        range(8),
        1,
    ),
}


@pytest.mark.parametrize("name", EXACT)
def test_grey_of_any_depth_fills_0_to_255(name):
    file, steps, factor = EXACT[name]
    expected = np.array(steps, np.uint8) * factor
    np.testing.assert_array_equal(images.decode(file, (2, 8, 1))[0, :, 0], expected)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "JPEG", "WEBP"])
@pytest.mark.parametrize("pixels", [GREY, COLOURS], ids=["grey", "colour"])
def test_formats(kind, pixels):
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}
    found = images.decode(image_file(pixels, kind, **options.get(kind, {})), pixels.shape)
    assert found.dtype == np.uint8
    np.testing.assert_allclose(found.astype(int), pixels, atol=3 if kind == "JPEG" else 0)


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (image_file(COLOURS, mode="P"), None),
        (image_file(OPAQUE), COLOURS),
        (image_file(OPAQUE), OPAQUE),
        (image_file(COLOURS), OPAQUE),
        (image_file(EVEN), GREY),
        (image_file(GREY), EVEN),
        (image_file(GREY, mode="LA"), GREY),
        (png([bytes(range(8))] * 2, depth=8, color=3, chunks=chunk(b"PLTE", bytes(range(24)))), 0),
    ],
    ids=["P", "opaque", "RGBA", "to RGBA", "grey in RGB", "grey", "grey+alpha", "palette"],
)
def test_channels_that_tell_nothing_come_and_go(file, expected):
    if expected is None:  # Pillow chose the palette
        import io

        from PIL import Image

        expected = np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))
    elif np.ndim(expected) == 0:
        expected = np.tile(np.arange(24, dtype=np.uint8).reshape(8, 3), (2, 1, 1))
    np.testing.assert_array_equal(images.decode(file, expected.shape), expected)


WIDE = [struct.pack(">8H", *range(0, 65536, 8192))] * 2
REFUSED = {
    "16 bits": (png(WIDE, depth=16, color=0), 1, "more than 8 bits"),
    "16 bits, colour": (png([WIDE[0] * 3] * 2, depth=16, color=2), 3, "more than 8 bits"),
    "16 bits, alpha": (png([WIDE[0] * 4] * 2, depth=16, color=6), 4, "more than 8 bits"),
    "transparent": (image_file(CLEAR), 3, "transparent"),
    "transparent colour": (image_file(COLOURS, transparency=(0, 255, 0)), 3, "transparent"),
    "transparent grey": (image_file(GREY, transparency=17), 1, "transparent"),
    "transparent entry": (
        png(
            [bytes(range(8))] * 2,
            depth=8,
            color=3,
            chunks=chunk(b"PLTE", bytes(24)) + chunk(b"tRNS", b"\xff\xff\x80"),
        ),
        3,
        "transparent",
    ),
    "grey+alpha": (image_file(CLEAR, mode="LA"), 1, "transparent"),
    "colour": (image_file(COLOURS), 1, "has colours"),
    "CMYK": (image_file(COLOURS, "JPEG", "CMYK"), 3, "is a CMYK image"),
    "GIF": (image_file(COLOURS, "GIF"), 3, "no PNG, JPEG, WebP or BMP"),
    "TIFF": (image_file(GREY, "TIFF"), 1, "no PNG, JPEG, WebP or BMP"),
    "nothing": (b"", 1, "no PNG, JPEG, WebP or BMP"),
    "cut off": (image_file(COLOURS)[:60], 3, "cannot be decoded"),
    "a cut JPEG": (image_file(COLOURS, "JPEG")[:-9], 3, "cannot be decoded"),
    "wide": (image_file(GREY[:, :7]), 1, "2 x 7 pixels, not 2 x 8"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_held_is_refused_in_a_line_that_names_the_example(tmp_path, name):
    file, channels, why = REFUSED[name]
    good = image_file(np.zeros((2, 8, channels), np.uint8))
    train = ([good, good, file], [0, 1, 2])
    write_tfds(tmp_path, "own", train, ([good], [0]), shape=(2, 8, channels))
    with pytest.raises(UserError) as caught:
        load("own", tmp_path)
    assert_one_line(caught, f"{tmp_path}/own/1.0.0: train[2] ", why)


@pytest.mark.parametrize(("dtype", "channels"), [("uint16", 1), ("float32", 1), ("int32", 3)])
def test_features_of_other_types_are_refused(tmp_path, dtype, channels):
    split = random_split(3, (8, 8, channels))
    write_tfds(tmp_path, "own", split, split, dtype=dtype)
    with pytest.raises(UserError) as caught:
        load("own", tmp_path)
    assert_one_line(caught, tmp_path, dtype, "uint8")


@pytest.mark.parametrize(
    "shape", [(0, 0, 1), (8, 0, 1), (8, 8, 2), (8, 8, 0), (8, 8), (3, 8, 8, 3)]
)
def test_features_of_other_shapes_are_refused(tmp_path, shape):
    write_tfds(tmp_path, "own", TEST, TEST, shape=shape)
    with pytest.raises(UserError) as caught:
        load("own", tmp_path)
    assert_one_line(caught, tmp_path)
