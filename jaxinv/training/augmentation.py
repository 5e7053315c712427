"""Augmentation of inputs: images cropped or jittered, rows of tables moved. JAX."""

import types

import jax
import jax.numpy as jnp
from jax import Array

_NOISE = 0.05  # of a column's range
_SHARE = 8  # images are shifted by up to this part of an axis


def crop(key: Array, images: Array) -> Array:
    """Mirrors half of the images; shifts each by up to an eighth of each axis, by whole pixels.

    Pixels keep their values: a network trains on images as sharp as those that it is tested on.
    Axes of fewer than eight places stay. Series are shifted in time. Rows of a table are moved as
    `jitter` moves them.

    Args:
      key: of the random draws.
      images: `[N, H, W, C]` in unit space.

    Returns:
      `[N, H, W, C]`; what is shifted in at a border mirrors what is there.
    """
    if images.shape[1] == images.shape[2] == 1:
        return _rows(key, images)
    key_flip, key_shift = jax.random.split(key)
    images = _half_mirrored(key_flip, images)
    borders = [size // _SHARE for size in images.shape[1:3]]
    places = 2 * jnp.array([borders]) + 1
    starts = jax.random.randint(key_shift, (len(images), 2), 0, places)
    padded = jnp.pad(images, ((0, 0), *((size, size) for size in borders), (0, 0)), mode="reflect")

    def cut(image: Array, start: Array) -> Array:
        return jax.lax.dynamic_slice(image, (*start, 0), images.shape[1:])

    return jax.vmap(cut)(padded, starts)


def jitter(key: Array, images: Array, *, mirror: bool = True) -> Array:
    """Mirrors half of the images; zooms each by up to 10% an axis and shifts it by up to 10%.

    Along an axis of one place nothing moves: series are zoomed and shifted in time. In a row of a
    table there is no place: its values are moved by normal noise instead, 5% of their ranges.

    Args:
      key: of the random draws.
      images: `[N, H, W, C]` in unit space.
      mirror: False leaves out mirroring.

    Returns:
      `[N, H, W, C]`, interpolated linearly, black beyond the border.
    """
    n, height, width, _ = images.shape
    if height == width == 1:
        return _rows(key, images)
    key_flip, key_zoom, key_shift = jax.random.split(key, 3)
    if mirror:
        images = _half_mirrored(key_flip, images)
    size = jnp.array([[height, width]], jnp.float32)
    zoom = jax.random.uniform(key_zoom, (n, 2), jnp.float32, 0.9, 1.1)
    shift = jax.random.uniform(key_shift, (n, 2), jnp.float32, -0.1, 0.1) * size
    if width == 1:
        still = jnp.array([[False, True]])
        zoom, shift = jnp.where(still, 1, zoom), jnp.where(still, 0, shift)
    # The transform scales about the corner: move the middle back to where it was.
    shift += (1 - zoom) * size / 2

    def warp(image: Array, zoom: Array, shift: Array) -> Array:
        return jax.image.scale_and_translate(
            image, image.shape, (0, 1), zoom, shift, "linear", antialias=False
        )

    return jax.vmap(warp)(images, zoom, shift)


def _half_mirrored(key: Array, images: Array) -> Array:
    is_mirrored = jax.random.bernoulli(key, jnp.float32(0.5), (len(images), 1, 1, 1))
    return jnp.where(is_mirrored, images[:, :, ::-1], images)


def _rows(key: Array, rows: Array) -> Array:
    """Moves values of rows of a table by normal noise, 5% of their ranges."""
    return jnp.clip(rows + _NOISE * jax.random.normal(key, rows.shape, rows.dtype), 0, 1)


AUGMENTATIONS = types.MappingProxyType(
    {"none": lambda key, images: images, "crop": crop, "jitter": jitter}
)
