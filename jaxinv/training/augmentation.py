"""Augmentation of inputs: images mirrored, zoomed and shifted, rows of tables moved. JAX."""

import jax
import jax.numpy as jnp
from jax import Array

_NOISE = 0.05  # of a column's range


def augment(key: Array, images: Array, *, mirror: bool = True) -> Array:
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
        noise = _NOISE * jax.random.normal(key, images.shape, images.dtype)
        return jnp.clip(images + noise, 0, 1)
    key_flip, key_zoom, key_shift = jax.random.split(key, 3)
    if mirror:
        mirrored = jax.random.bernoulli(key_flip, jnp.float32(0.5), (n, 1, 1, 1))
        images = jnp.where(mirrored, images[:, :, ::-1], images)
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
