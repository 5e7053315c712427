"""Re-identification: the share of reconstructions that single out their original."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from scipy.sparse import csgraph

from jaxinv import unit_space
from jaxinv.constants import kinds
from jaxinv.errors import UsageError
from jaxinv.machine import devices
from jaxinv.unit_space import Images, Scaled

_TIE = 1e-6  # correlations of duplicates differ by less in float32


def reidentified(
    reconstructions: ArrayLike, gallery: ArrayLike | Scaled, *, chunk_size: int = 250
) -> np.ndarray:
    """Tests if each reconstruction finds its original in a gallery: top-1 retrieval.

    Reconstruction i is of gallery[i]. Of series and tables the nearest is taken for its original,
    where columns count in their standard deviations over the gallery. The image that correlates
    most (Pearson, over all pixel values of an image) is taken, whatever its brightness and
    contrast. Chance is 1/G. Images of the gallery that correlate fully are one image: copies,
    and those that differ in brightness and contrast alone. A reconstruction finds one image, even
    if others correlate as much with it.

    Args:
      reconstructions: `[N, H, W, C]`, clipped to unit space here. One that has a non-finite pixel
        or is constant is never right.
      gallery: `[G, H, W, C]` in unit space, G >= N: the originals first, in the same order, then
        any others.
      chunk_size: reconstructions compared at once, at most. The last ones are padded, so that
        any N runs the same compiled program.

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
    if kinds.of(shape) != kinds.IMAGE:
        return _is_nearest(np.asarray(gallery), reconstructions)
    shared = devices.in_slices(_standardise, gallery)
    return devices.in_slices(_is_best, reconstructions, places, shared=shared, sizes=(chunk_size,))


def singled_out(
    scores: np.ndarray, gallery: Images, *, places: np.ndarray | None = None, seed: int = 0
) -> np.ndarray:
    """Tests if each release singles out its input: the likeliest image is it.

    Copies are one image (`copies`), as likely as all of them together. Among images of the same
    score one is guessed, so that an attacker who learns nothing finds 1 in G that all differ.

    Args:
      scores: `[N, G]`, log-likelihoods of the candidates up to a constant of each release; one that
        is not finite is the lowest.
      gallery: `[G, ...]`, the candidates, each as likely before the release.
      places: `[N]`, the input of each release, by its place in the gallery; by default the first N.
      seed: of the guesses.

    Returns:
      `[N]` bool.

    Raises:
      ValueError: the shapes are not those.
    """
    places = np.arange(len(scores)) if places is None else places
    fits = scores.ndim == 2 and len(places) == len(scores) and scores.shape[1] == len(gallery)
    if not fits or (len(places) and places.max() >= len(gallery)):
        raise ValueError(f"scores={scores.shape}: expected [{len(places)}, {len(gallery)}].")
    own = copies(gallery)
    return likeliest(scores, own, seed=seed) == own[places]


def likeliest(scores: np.ndarray, own: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Returns the number of the likeliest image for each release, `[N]`; see `singled_out`.

    Args:
      scores: `[N, G]`, log-likelihoods of the candidates.
      own: `[G]`, the number of each candidate's image, from `copies`.
      seed: of guesses among equal ones.
    """
    known = np.where(np.isfinite(scores), scores, -np.inf)
    order = np.argsort(own, kind="stable")
    known = known[:, order]
    if own.max() + 1 < len(own):
        firsts = np.searchsorted(own[order], np.arange(own.max() + 1))
        known = np.logaddexp.reduceat(known.astype(np.float64), firsts, axis=1)
    best = known == known.max(axis=1, keepdims=True)
    found = best.argmax(axis=1)
    tied = np.flatnonzero(best.sum(axis=1) > 1)
    guesses = np.random.default_rng(seed).random((len(tied), known.shape[1]))
    found[tied] = np.where(best[tied], guesses, -1).argmax(axis=1)
    return found


def copies(gallery: Images) -> np.ndarray:
    """Numbers the images of a gallery `[G, ...]`: those that the metrics take for one share one.

    They are equal, or images that correlate fully: they differ in brightness and contrast alone.

    Returns:
      `[G]`, whole numbers from 0 on.
    """
    gallery = np.asarray(gallery, np.float32)
    rows = gallery.reshape(len(gallery), -1)
    _, first, own = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    if kinds.of(gallery.shape[1:]) != kinds.IMAGE:
        return own.reshape(-1)
    standard, _ = _standardise(gallery)
    same = np.asarray(jnp.matmul(standard, standard.T, precision="highest")) >= 1 - 2 * _TIE
    same[np.arange(len(rows)), first[own.reshape(-1)]] = True
    return np.asarray(csgraph.connected_components(same, directed=False)[1])


def commonest(gallery: np.ndarray) -> float:
    """Computes the largest share of a gallery `[G, H, W, C]` that a constant answer finds."""
    return float(np.bincount(copies(gallery)).max() / len(gallery))


def _is_nearest(gallery: np.ndarray, reconstructions: np.ndarray) -> np.ndarray:
    """Tests if each reconstruction is nearest to the gallery's input in its place."""
    spread = gallery.std(axis=(0, 1, 2), dtype=np.float64)
    weight = np.where(spread > 0, spread, np.inf)
    known, own = (gallery / weight).reshape(len(gallery), -1), copies(gallery)
    found = np.zeros(len(reconstructions), bool)
    for place, each in enumerate(reconstructions):
        if np.isfinite(each).all():
            apart = known - (np.clip(each, 0, 1) / weight).reshape(-1)
            found[place] = own[(apart**2).sum(axis=1).argmin()] == own[place]
    return found


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
