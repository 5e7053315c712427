"""Fisher information of a map at unit noise, as spectra, so that one serves all levels of noise."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxinv.machine import devices
from jaxinv.measures.bounds import lipschitz
from jaxinv.measures.bounds.spectra import Spectrum, eigenvalues, lanczos
from jaxinv.networks import Network, Params

DITHER = 0.1
"""Standard deviation of the noise on images, in unit space, that makes their prior smooth."""

_DENSE = 1024  # pixel values up to which spectra are exact; beyond, Lanczos


@dataclasses.dataclass(frozen=True)
class Information:
    """Fisher information of a map with Jacobian J, at unit noise.

    Attributes:
      at: spectra of `J'J` at images, `[N, K]`.
      dithered: the same, averaged over dithered copies of each.
      most: spectrum `[1, K]` of a matrix that exceeds `J'J` everywhere, in every direction; None
        where the layers give none. See `lipschitz.most`.
      exact: True if the map is affine, so that all three are the same and free of sampling.
      rigorous: True if `most` was calculated, not sampled.
      dither: standard deviation of the dither.
      draws: dithered copies of each image.
    """

    at: Spectrum
    dithered: Spectrum
    most: Spectrum | None
    exact: bool
    rigorous: bool
    dither: float
    draws: int


def information(
    network: Network,
    params: Params,
    images: np.ndarray,
    key: Array,
    *,
    dither: float = DITHER,
    draws: int = 8,
) -> Information:
    """Measures the Fisher information of a map.

    Spectra are calculated up to 1,024 pixel values an image, and sampled beyond.

    Args:
      network: the map.
      params: its parameters.
      images: `[N, H, W, C]` in unit space.
      key: of dithers and directions.
      dither: standard deviation of the Gaussian dither.
      draws: dithered copies of each image.
    """
    with devices.exact():
        return _information(network, network.select(params), images, key, dither, draws)


def _information(
    network: Network, own: Params, images: np.ndarray, key: Array, dither: float, draws: int
) -> Information:
    key_dither, *keys = jax.random.split(key, 3)
    most, rigorous = lipschitz.most(network, own)
    if network.is_affine and most is not None:
        return Information(most, most, most, True, rigorous, dither, draws)
    shape = (len(images), draws, *network.input_shape)
    copies = images[:, None] + dither * np.asarray(
        jax.random.normal(key_dither, shape, jnp.float32)
    )
    if math.prod(network.input_shape) <= _DENSE:
        spectra = [eigenvalues(network, own, part) for part in (images[:, None], copies)]
    else:
        parts = zip(keys, (images[:, None], copies), strict=True)
        spectra = [lanczos(network, own, part, key) for key, part in parts]
    at, dithered = spectra
    return Information(at, dithered, most, False, rigorous, dither, draws)
