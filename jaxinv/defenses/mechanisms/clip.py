"""Clipping to a norm, with Gaussian noise: the Gaussian mechanism of differential privacy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxinv.defenses import sampler
from jaxinv.defenses.mechanism import LEAST_NOISE, Mechanism, Site
from jaxinv.defenses.mechanisms.noise import gaussian_log_likelihood, of_mean
from jaxinv.machine.numbers import length
from jaxinv.networks import Network, Params


@functools.cache
def clipped_gaussian(norm: float) -> Mechanism:
    """Returns the mechanism that clips an example to a length and adds Gaussian noise.

    Source: Dwork & Roth 2014, A. One example moves the released value by at most twice the norm.

    Args:
      norm: greatest length of an example. The level is the noise's standard deviation over it.
    """

    def clip(x: Array) -> Array:
        x = x.astype(jnp.result_type(x, jnp.float32))
        size = length(x)
        return x * jnp.where(size > norm, norm / jnp.where(size > norm, size, 1), 1)

    def apply(key: Array, x: Array, level: Array) -> Array:
        released = sampler.noisy(clip(x), sampler.normal(key, x.shape), level * norm)
        return jnp.where(level > 0, released, x)

    def residual(before: Array, clean: Array, observed: Array, level: Array) -> Array:
        del before
        clipped = jnp.where(level > 0, clip(clean), clean)
        return (clipped - observed) / jnp.maximum(level * norm, LEAST_NOISE)

    def log_likelihood(clean: Array, observed: Array, level: Array) -> Array:
        return gaussian_log_likelihood(clip(clean), observed, level * norm)

    return Mechanism(
        "clip",
        apply,
        unit=f"standard deviation of the noise over the clipping norm {norm:.4g}",
        source="the Gaussian mechanism, Dwork & Roth 2014",
        sweep=(0.0, 0.01, 0.02, 0.05, 0.1),
        residual=residual,
        noisy=True,
        log_likelihood=log_likelihood,
        combined=of_mean,
        # Clipping brings features nearer together, which takes information away.
        noise="gaussian",
        noise_scale=lambda level: level * norm,
        rounded=True,
    )


def median_norm(edge: Network, params: Params, images: np.ndarray, site: Site) -> float:
    """Computes the median length of an example at a site, to four digits: a norm to clip to.

    Args:
      edge: the part of the network on the device.
      params: its parameters.
      images: `[N, H, W, C]` in unit space, the deployer's own.
      site: "input" measures images as the network normalises them, "feature" features.
    """
    lengths = _lengths(edge, site, edge.select(params), images)
    return float(f"{float(jnp.median(lengths)):.4g}")


@functools.partial(jax.jit, static_argnums=(0, 1))
def _lengths(edge: Network, site: Site, params: Params, images: Array) -> Array:
    x = edge.normalize(images) if site == "input" else edge.apply(params, images)
    return length(x.reshape(len(images), -1), 1)
