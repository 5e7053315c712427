"""Quality of reconstructions: one value per image; the caller reduces.

Images are float `[N, H, W, C]` in unit space [0, 1]; reconstructions are clipped to it before
they are compared. PSNR is in dB with peak 1.0. SSIM is that of Wang et al. 2004 (11x11 Gaussian
window, sigma 1.5, data range 1.0), averaged over channels. Functions take and return NumPy arrays;
JAX compiles one program per image shape and chunk size.

Series and rows of tables have a correlation in place of SSIM (`measures.closeness`). Their PSNR has
the range of a column as its peak, and says the same as their RMSE.
"""

from collections.abc import Sequence
from typing import NamedTuple

import dm_pix
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxinv import arguments, unit_space
from jaxinv.errors import UsageError, UserError
from jaxinv.inputs.columns import Columns
from jaxinv.machine import devices
from jaxinv.measures import closeness
from jaxinv.unit_space import Scaled

PSNR_CAP = 100.0  # dB. An exact match has infinite PSNR, of which no mean can be taken.
_WINDOW = 11  # pixels, the side of SSIM's Gaussian window
_SIGMA = 1.5  # pixels


class Quality(NamedTuple):
    """Quality of N reconstructions, as NumPy arrays."""

    psnr: np.ndarray  # [N] dB, at most PSNR_CAP, NaN where diverged
    ssim: np.ndarray  # [N], 1 for an exact match, NaN where diverged; or the correlation
    exact: np.ndarray  # [N] bool, rounded to 8 bits it equals the original
    diverged: np.ndarray  # [N] bool, some pixel is not finite


def evaluate(
    originals: ArrayLike | Scaled,
    reconstructions: ArrayLike,
    columns: Columns | None = None,
    *,
    chunk_size: int = 250,
) -> Quality:
    """Compares each reconstruction with its original.

    Args:
      originals: `[N, H, W, C]` in unit space.
      reconstructions: `[N, H, W, C]` floats, clipped to unit space here; may hold non-finite
        pixels. Those scaled otherwise, such as to [-1, 1], are not told from an attacker's errors.
      columns: of series and rows of tables, which have no SSIM.
      chunk_size: images compared at once, at most. The last is padded, so that any N runs the same
        compiled program.

    Returns:
      The `Quality` of the N images.

    Raises:
      UsageError: the shapes differ or are not `[N, H, W, C]`, the originals are not in unit space,
        the reconstructions are whole numbers, or the chunk is none.
      UserError: the images are smaller than SSIM's window.
    """
    arguments.check_whole("chunk_size", chunk_size, least=1)
    originals = unit_space.images(originals, name="originals")
    reconstructions = unit_space.reconstructions(reconstructions, name="reconstructions")
    _check(originals, reconstructions)
    if columns is not None:
        return _of_vectors(np.asarray(originals), reconstructions, columns)
    check_size(originals.shape[1:])
    return Quality(*devices.in_slices(_compare, originals, reconstructions, sizes=(chunk_size,)))


def _of_vectors(originals: np.ndarray, found: np.ndarray, columns: Columns) -> Quality:
    diverged = ~np.isfinite(found).all(axis=(1, 2, 3))
    known = np.where(diverged[:, None, None, None], 0, found)
    similarity = np.where(diverged, np.nan, closeness.correlation(originals, known, columns))
    exact = (known == originals).all(axis=(1, 2, 3)) & ~diverged
    return Quality(psnr(originals, found), similarity, exact, diverged)


def psnr(
    originals: ArrayLike | Scaled, reconstructions: ArrayLike, *, chunk_size: int = 250
) -> np.ndarray:
    """Computes the PSNR of inputs of any kind, `[N]` dB, NaN where diverged; see `evaluate`."""
    originals = unit_space.images(originals, name="originals")
    reconstructions = unit_space.reconstructions(reconstructions, name="reconstructions")
    _check(originals, reconstructions)
    if min(originals.shape[1:3]) >= _WINDOW:
        return evaluate(originals, reconstructions, chunk_size=chunk_size).psnr
    (found,) = devices.in_slices(_psnr, originals, reconstructions, sizes=(chunk_size,))
    return np.asarray(found)


def _psnr(originals: jax.Array, reconstructions: jax.Array) -> tuple[jax.Array]:
    diverged = ~jnp.isfinite(reconstructions).all(axis=(1, 2, 3))
    found = jnp.minimum(dm_pix.psnr(originals, jnp.clip(reconstructions, 0.0, 1.0)), PSNR_CAP)
    return (jnp.where(diverged, jnp.nan, found),)


def scores(originals: ArrayLike, tries: np.ndarray) -> np.ndarray:
    """Computes the mean PSNR of several tries at the same images, dB; a diverged image counts 0.

    Args:
      originals: `[N, H, W, C]` in unit space.
      tries: `[T, N, H, W, C]`, or with any axes in place of T.

    Returns:
      `[T]`, or the product of these axes.

    Raises:
      UsageError: the tries have not the shape of the originals, or are as `evaluate` refuses them.
    """
    shape = np.shape(originals)
    if np.ndim(tries) <= len(shape) or np.shape(tries)[-len(shape) :] != shape:
        raise UsageError(f"tries={np.shape(tries)}: expected (T, {str(shape)[1:]}.")
    flat = tries.reshape(-1, *shape)
    found = [np.nan_to_num(psnr(originals, each), nan=0.0).mean() for each in flat]
    return np.array(found, float)


def _compare(originals: jax.Array, reconstructions: jax.Array) -> tuple[jax.Array, ...]:
    """Computes the fields of `Quality`, in order, for one chunk `[chunk_size, H, W, C]`."""
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


def _gaussian_filter(x: jax.Array) -> jax.Array:
    """Filters `[N, H, W, C]` by SSIM's window, valid positions only.

    As two matrix products it is ten times faster on a CPU than the convolutions of dm_pix.
    """
    rows, columns = (_gaussian_matrix(size) for size in x.shape[1:3])
    return jnp.einsum("ph,nhwc,qw->npqc", rows, x, columns, precision="highest")


def _gaussian_matrix(size: int) -> np.ndarray:
    """Returns `[size - _WINDOW + 1, size]`: each row the normalised window, one pixel further."""
    window = np.exp(-0.5 * ((np.arange(_WINDOW) - _WINDOW // 2) / _SIGMA) ** 2)
    count = size - _WINDOW + 1
    matrix = np.zeros((count, size), np.float32)
    for row in range(count):
        matrix[row, row : row + _WINDOW] = window / window.sum()
    return matrix


def _check(originals: np.ndarray, reconstructions: np.ndarray) -> None:
    if originals.shape != reconstructions.shape:
        raise UsageError(
            f"reconstructions={reconstructions.shape}: expected the shape of the originals, "
            f"{originals.shape}."
        )


def check_size(image_shape: Sequence[int]) -> None:
    """Checks that images `(H, W, C)` are large enough to be compared.

    Raises:
      UserError: they are smaller than SSIM's window.
    """
    height, width = image_shape[:2]
    if min(height, width) < _WINDOW:
        raise UserError(
            f"SSIM needs images of at least {_WINDOW}x{_WINDOW} pixels, got {height}x{width}."
        )
