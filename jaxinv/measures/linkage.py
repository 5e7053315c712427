"""Re-identification: the share of reconstructions that single out their original."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxinv import unit_space
from jaxinv.errors import UsageError
from jaxinv.machine import devices

_TIE = 1e-6  # correlations of duplicates differ by less in float32


def reidentified(
    reconstructions: ArrayLike, gallery: ArrayLike, *, chunk_size: int = 250
) -> np.ndarray:
    """Tests if each reconstruction finds its original in a gallery: top-1 retrieval.

    Reconstruction i is of gallery[i]. The image of the gallery that correlates most with it
    (Pearson, over all pixel values of an image) is taken for its original, whatever its brightness
    and contrast. Chance is 1/G. Images of the gallery that correlate fully are one image: copies,
    and those that differ in brightness and contrast alone. A reconstruction finds one image, even
    if others correlate as much with it.

    Args:
      reconstructions: `[N, H, W, C]`, clipped to unit space here. One that has a non-finite pixel
        or is constant is never right.
      gallery: `[G, H, W, C]` in unit space, G >= N: the originals first, in the same order, then
        any others.
      chunk_size: reconstructions compared at once. The last chunk is padded, so that any N runs the
        same compiled program.

    Returns:
      `[N]` bool.

    Raises:
      UsageError: the shapes are not those, the gallery is smaller or not in unit space, or the
        reconstructions are whole numbers.
    """
    gallery = unit_space.images(gallery, name="gallery")
    shape = gallery.shape[1:]
    reconstructions = unit_space.reconstructions(reconstructions, shape, name="reconstructions")
    if len(reconstructions) > len(gallery):
        raise UsageError(
            f"gallery={len(gallery)} images: expected the original of each of "
            f"{len(reconstructions)} reconstructions first."
        )
    places = np.arange(len(reconstructions))
    shared = _standardise(gallery)
    return devices.in_slices(_is_best, reconstructions, places, shared=shared, sizes=(chunk_size,))


def singled_out(scores: np.ndarray, gallery: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Tests if each release singles out its input: the candidate of the highest score is it.

    Release i is of gallery[i]. Equal candidates are one. Among others of the same score one is
    guessed, so that an attacker who learns nothing finds 1 in G.

    Args:
      scores: `[N, G]`, of the candidates for each release; one that is not finite is the lowest.
      gallery: `[G, ...]`, the candidates, G >= N.
      seed: of the guesses.

    Returns:
      `[N]` bool.

    Raises:
      ValueError: the shapes are not those.
    """
    if scores.ndim != 2 or not len(scores) <= scores.shape[1] == len(gallery):
        raise ValueError(f"scores={scores.shape}: expected [N, {len(gallery)}], N at most that.")
    different, own = np.unique(gallery.reshape(len(gallery), -1), axis=0, return_inverse=True)
    own = own.reshape(-1)
    finite = np.where(np.isfinite(scores), scores, -np.inf)
    known = np.stack([finite[:, own == one].max(axis=1) for one in range(len(different))], axis=1)
    best = known.max(axis=1, keepdims=True) == known
    guesses = np.random.default_rng(seed).random(known.shape)
    return np.where(best, guesses, -1).argmax(axis=1) == own[: len(scores)]


def commonest(gallery: np.ndarray) -> float:
    """Computes the largest share of a gallery `[G, H, W, C]` that a constant answer finds.

    It counts as `reidentified` and `singled_out` do: copies, and images that correlate fully.
    """
    standard, _ = _standardise(np.asarray(gallery, np.float32))
    same = np.asarray(jnp.matmul(standard, standard.T, precision="highest")) >= 1 - 2 * _TIE
    rows = gallery.reshape(len(gallery), -1)
    _, counts = np.unique(rows, axis=0, return_counts=True)
    return float(max(same.sum(axis=1).max(), counts.max()) / len(gallery))


def _is_best(
    known: jax.Array, distinct: jax.Array, reconstructions: jax.Array, places: jax.Array
) -> jax.Array:
    """Tests if images `[B, H, W, C]` correlate most with those at their places `[B]`."""
    finite = jnp.isfinite(reconstructions).all(axis=(1, 2, 3))  # clipping would hide an inf
    standard, varied = _standardise(jnp.clip(reconstructions, 0.0, 1.0))
    correlations = jnp.matmul(standard, known.T, precision="highest")
    # The best one stands for all that are the same image, never for others that merely tie with it:
    # a mixture of all images can correlate with each of them equally.
    same = (known[correlations.argmax(axis=1)] * known[places]).sum(axis=1) >= 1 - _TIE
    return same & finite & varied & distinct[places]


@jax.jit
def _standardise(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns images as rows `[N, H * W * C]` of mean 0 and length 1, and a mask of varied ones.

    The product of two such rows is their images' correlation. A constant image's row is zero.
    """
    rows = x.reshape(len(x), -1)
    varied = rows.max(axis=1) > rows.min(axis=1)
    centred = rows - rows.mean(axis=1, keepdims=True)
    # Divided by the largest first: squares of the smallest differences would be zero.
    largest = jnp.abs(centred).max(axis=1, keepdims=True)
    scaled = centred / jnp.where(largest > 0, largest, 1)
    length = jnp.linalg.norm(scaled, axis=1, keepdims=True)
    standard = scaled / jnp.where(length > 0, length, 1)
    return jnp.where(varied[:, None], standard, 0), varied
