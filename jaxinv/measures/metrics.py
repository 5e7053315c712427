"""How close reconstructions are to the originals: one value per image, the caller reduces.

Images are float `[N, H, W, C]` in unit space [0, 1]; reconstructions are clipped to it before
they are compared. PSNR is in dB with peak 1.0. SSIM is that of Wang et al. 2004 (11x11 Gaussian
window, sigma 1.5, data range 1.0), averaged over channels. What goes in and comes out is NumPy;
in between JAX compiles one program per image shape and chunk size.
"""

from typing import NamedTuple

import dm_pix
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxinv.errors import UserError
from jaxinv.machine import devices

PSNR_CAP = 100.0  # dB. An exact match has infinite PSNR, which no mean survives.
_WINDOW = 11  # pixels, the side of SSIM's Gaussian window
_SIGMA = 1.5  # pixels
_RESAMPLES = 2000
_UNIT_SPACE_SLACK = 1e-4  # what normalising and back costs in float32, with room to spare
_TIE = 1e-6  # correlations that differ by less are equal: it is what float32 leaves of duplicates


class Quality(NamedTuple):
    """Quality of N reconstructions, as NumPy arrays."""

    psnr: np.ndarray  # [N] dB, at most PSNR_CAP, NaN where diverged
    ssim: np.ndarray  # [N], 1 for an exact match, NaN where diverged
    exact: np.ndarray  # [N] bool, rounded to 8 bits it equals the original
    diverged: np.ndarray  # [N] bool, some pixel is not finite


class Summary(NamedTuple):
    """Statistics over images, of the finite values alone. All NaN if there are none."""

    mean: float
    std: float  # the spread over images (population), not the error of the mean
    median: float
    low: float  # low and high: the 95% bootstrap percentile interval of the mean
    high: float


def evaluate(originals: ArrayLike, reconstructions: ArrayLike, *, chunk_size: int = 250) -> Quality:
    """Compares each reconstruction with its original.

    Args:
      originals: `[N, H, W, C]` in unit space.
      reconstructions: `[N, H, W, C]`, clipped to unit space here; may hold non-finite pixels.
      chunk_size: images compared at once. The last chunk is padded, so that any N runs the same
        compiled program.

    Returns:
      The `Quality` of the N images.

    Raises:
      UserError: the images are smaller than SSIM's window.
      ValueError: the shapes differ, are not `[N, H, W, C]`, or the originals are not in unit space.
    """
    originals = np.asarray(originals, np.float32)
    reconstructions = np.asarray(reconstructions, np.float32)
    _check(originals, reconstructions)
    return Quality(*devices.in_slices(_compare, originals, reconstructions, sizes=(chunk_size,)))


def scores(originals: ArrayLike, tries: np.ndarray) -> np.ndarray:
    """Mean PSNR of several tries at the same images, dB; what diverged counts as worthless.

    Args:
      originals: `[N, H, W, C]` in unit space.
      tries: `[T, N, H, W, C]`, or with any axes in place of T.

    Returns:
      `[T]`, or as many in a row.
    """
    flat = tries.reshape(-1, *np.shape(originals))
    found = [np.nan_to_num(evaluate(originals, images).psnr, nan=0.0).mean() for images in flat]
    return np.array(found, float)


def summarise(values: ArrayLike) -> Summary:
    """Mean, spread, median and an interval of the mean, over the finite ones of `values` `[N]`.

    The interval is reproducible: the resamples are drawn from a fixed seed.
    """
    finite = np.asarray(values, np.float64)
    finite = finite[np.isfinite(finite)]
    if not finite.size:
        return Summary(*[float("nan")] * 5)
    low, high = np.percentile(_resampled_means(finite), [2.5, 97.5])
    return Summary(
        mean=float(finite.mean()),
        std=float(finite.std()),
        median=float(np.median(finite)),
        low=float(low),
        high=float(high),
    )


def reidentified(
    reconstructions: ArrayLike, gallery: ArrayLike, *, chunk_size: int = 250
) -> np.ndarray:
    """Whether each reconstruction tells its original among many images: top-1 retrieval.

    Reconstruction i is of gallery[i]. Among all images of the gallery, the one that correlates most
    with it (Pearson, over all pixel values of an image) is taken for its original, whatever its
    brightness and contrast. Chance is 1/G. An image whose correlation is as high as the highest
    counts as found, so that duplicates in the gallery are one image.

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
      ValueError: the shapes are not those, or the gallery is smaller or not in unit space.
    """
    reconstructions = np.asarray(reconstructions, np.float32)
    gallery = np.asarray(gallery, np.float32)
    _check_gallery(reconstructions, gallery)
    places = np.arange(len(reconstructions))
    return devices.in_slices(
        _is_best,
        reconstructions,
        places,
        shared=_standardise(gallery),
        sizes=(chunk_size,),
    )


def _is_best(
    known: jax.Array, distinct: jax.Array, reconstructions: jax.Array, places: jax.Array
) -> jax.Array:
    """`[B]`: whether images `[B, H, W, C]` correlate most with those at their places `[B]`."""
    finite = jnp.isfinite(reconstructions).all(axis=(1, 2, 3))  # clipping would hide an inf
    standard, varied = _standardise(jnp.clip(reconstructions, 0.0, 1.0))
    correlations = jnp.matmul(standard, known.T, precision="highest")
    own = jnp.take_along_axis(correlations, places[:, None], axis=1)[:, 0]
    best = own >= correlations.max(axis=1) - _TIE
    return best & finite & varied & distinct[places]


@jax.jit
def _standardise(images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Images as rows `[N, H * W * C]` of mean 0 and length 1, and whether each varies at all `[N]`.

    The product of two such rows is their images' correlation. A constant image's row is zero.
    """
    rows = images.reshape(len(images), -1)
    varied = rows.max(axis=1) > rows.min(axis=1)
    centred = rows - rows.mean(axis=1, keepdims=True)
    # Divided by the largest first: squares of the smallest differences would be zero.
    largest = jnp.abs(centred).max(axis=1, keepdims=True)
    scaled = centred / jnp.where(largest > 0, largest, 1)
    length = jnp.linalg.norm(scaled, axis=1, keepdims=True)
    standard = scaled / jnp.where(length > 0, length, 1)
    return jnp.where(varied[:, None], standard, 0), varied


def _compare(originals: jax.Array, reconstructions: jax.Array) -> tuple[jax.Array, ...]:
    """The fields of `Quality`, in order, for one chunk `[chunk_size, H, W, C]`."""
    diverged = ~jnp.isfinite(reconstructions).all(axis=(1, 2, 3))  # clipping would hide an inf
    clipped = jnp.clip(reconstructions, 0.0, 1.0)
    psnr = jnp.minimum(dm_pix.psnr(originals, clipped), PSNR_CAP)
    ssim = dm_pix.ssim(originals, clipped, filter_fn=_gaussian_filter)
    same = jnp.round(originals * 255) == jnp.round(clipped * 255)
    return (
        jnp.where(diverged, jnp.nan, psnr),
        jnp.where(diverged, jnp.nan, ssim),
        same.all(axis=(1, 2, 3)),
        diverged,
    )


def _gaussian_filter(images: jax.Array) -> jax.Array:
    """SSIM's window over `[N, H, W, C]`, valid positions only.

    As two matrix products it is ten times faster on a CPU than the convolutions of dm_pix.
    """
    rows, columns = (_gaussian_matrix(size) for size in images.shape[1:3])
    return jnp.einsum("ph,nhwc,qw->npqc", rows, images, columns, precision="highest")


def _gaussian_matrix(size: int) -> np.ndarray:
    """`[size - _WINDOW + 1, size]`: each row the normalised window, one pixel further."""
    window = np.exp(-0.5 * ((np.arange(_WINDOW) - _WINDOW // 2) / _SIGMA) ** 2)
    count = size - _WINDOW + 1
    matrix = np.zeros((count, size), np.float32)
    for row in range(count):
        matrix[row, row : row + _WINDOW] = window / window.sum()
    return matrix


def _check(originals: np.ndarray, reconstructions: np.ndarray) -> None:
    if originals.ndim != 4 or originals.shape != reconstructions.shape:
        raise ValueError(
            "Expected two arrays of one shape [N, H, W, C], "
            f"got {originals.shape} and {reconstructions.shape}."
        )
    height, width = originals.shape[1:3]
    if min(height, width) < _WINDOW:
        raise UserError(
            f"SSIM needs images of at least {_WINDOW}x{_WINDOW} pixels, got {height}x{width}."
        )
    _check_unit_space(originals, "originals")


def _check_gallery(reconstructions: np.ndarray, gallery: np.ndarray) -> None:
    if gallery.ndim != 4 or gallery.shape[1:] != reconstructions.shape[1:]:
        raise ValueError(
            "Expected reconstructions [N, H, W, C] and a gallery [G, H, W, C] of one image shape, "
            f"got {reconstructions.shape} and {gallery.shape}."
        )
    if len(reconstructions) > len(gallery):
        raise ValueError(
            "Expected a gallery that begins with the original of each reconstruction, got "
            f"{len(reconstructions)} reconstructions and {len(gallery)} images."
        )
    _check_unit_space(gallery, "a gallery")


def _check_unit_space(images: np.ndarray, what: str) -> None:
    if not np.all(np.abs(images - 0.5) <= 0.5 + _UNIT_SPACE_SLACK):
        raise ValueError(f"Expected {what} in unit space [0, 1].")


def _resampled_means(values: np.ndarray) -> np.ndarray:
    """Means `[_RESAMPLES]` of bootstrap samples of `values` `[N]`."""
    rng = np.random.default_rng(0)
    block = 50  # bounds the memory: 10,000 values take 4 MB a block instead of 160 MB
    means = [
        values[rng.integers(len(values), size=(block, len(values)))].mean(axis=1)
        for _ in range(_RESAMPLES // block)
    ]
    return np.concatenate(means)
