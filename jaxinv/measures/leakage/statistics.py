"""Statistics of a release that foretell what attackers find; more of each is more leakage."""

from typing import NamedTuple

import jax
import numpy as np
from jax import Array

from jaxinv.defenses import Defense
from jaxinv.measures import costs
from jaxinv.measures.leakage.channel import Channel
from jaxinv.measures.leakage.prior import MOST, Prior
from jaxinv.networks import Network, Params

_SPREAD = 512  # images over which features vary, and from which classes are measured


class Statistic(NamedTuple):
    """A statistic, as tables name it, and what it is in a line."""

    name: str
    title: str
    text: str


STATISTICS = (
    Statistic("posterior_psnr", "dB", "PSNR in dB of the posterior's expected squared error"),
    Statistic("information_bits", "bits", "bits of information, half the log-determinant"),
    Statistic("directions", "dirs", "directions of the prior that the release determines"),
    Statistic("fisher_trace", "Fisher", "mean Fisher information of a direction, logarithm to 10"),
    Statistic("effective_rank", "rank", "effective rank of the whitened Jacobian"),
    Statistic("class_radius", "radius", "distance from the mean of the class, by the noise"),
    Statistic("sent_bits", "sent", "bits that cross the wire"),
)
"""All statistics; the fields of `Leakage`, in their order."""


class Leakage(NamedTuple):
    """Statistics of a release, means over images.

    Attributes:
      posterior_psnr: `-10 log10(tr((C^-1 + F)^-1) / D)` for the covariance C of images, the Fisher
        information F of the release and D values: what the best estimate would reach were the
        release linear and images Gaussian.
      information_bits: `log2 det(1 + C^1/2 F C^1/2) / 2`, the mutual information of that model.
      directions: `tr(C F (1 + C F)^-1)`, degrees of freedom of that estimate.
      fisher_trace: `log10(tr(F) / K)` over K directions, of images in unit space.
      effective_rank: exponential of the entropy of the singular values of `R^-1/2 J`, taken as
        shares (Roy & Vetterli 2007).
      class_radius: root of the mean squared distance of released features from their class's mean,
        each value in its noise's standard deviation; None without labels.
      sent_bits: size of a release.
    """

    posterior_psnr: float
    information_bits: float
    directions: float
    fisher_trace: float
    effective_rank: float
    class_radius: float | None
    sent_bits: float


class Own(NamedTuple):
    """Images of one's own that a release is judged by; none of them is attacked.

    Attributes:
      images: `[N, H, W, C]` in unit space.
      labels: `[N]`; None where they are not known.
      prior: of such images.
      jacobians: number of images, from the first, at which Jacobians are taken.
    """

    images: np.ndarray
    labels: np.ndarray | None
    prior: Prior
    jacobians: int

    @classmethod
    def of(
        cls, images: np.ndarray, labels: np.ndarray | None, *, jacobians: int, most: int = MOST
    ) -> "Own":
        """Estimates the prior of images; `most` as in `Prior.of`."""
        spread = images[:_SPREAD], None if labels is None else labels[:_SPREAD]
        return cls(*spread, Prior.of(images, most), jacobians)


def measure(edge: Network, params: Params, defense: Defense, own: Own, key: Array) -> Leakage:
    """Computes the statistics of a release.

    Args:
      edge: the part of the network on the device.
      params: its parameters.
      defense: of the device.
      own: images of one's own.
      key: of the defence's randomness.
    """
    channel = Channel(edge, params, defense, own.images)
    key_image, key_class = jax.random.split(key)
    found = []
    for number in range(min(own.jacobians, len(own.images))):
        draw = jax.random.fold_in(key_image, number)
        found.append(spectral(channel.information(number, draw, own.prior), own.prior))
    sent = costs.sent_bytes(edge.output_shape, defense.describe(), dense=edge.wire.bytes)
    radius = None if own.labels is None else _radius(channel, own, key_class)
    psnr, bits, directions, trace, rank = map(float, np.mean(found, axis=0))
    return Leakage(psnr, bits, directions, trace, rank, radius, 8.0 * sent)


def spectral(information: np.ndarray, prior: Prior) -> tuple[float, float, float, float, float]:
    """Computes the statistics that follow from the Fisher information, as `Leakage` has them.

    Args:
      information: `[K, K]`, about the prior's directions.
      prior: of images.
    """
    own = np.maximum(np.linalg.eigvalsh(information), 0)
    scaled = prior.deviations[:, None] * information * prior.deviations
    values, vectors = np.linalg.eigh((scaled + scaled.T) / 2)
    values = np.maximum(values, 0)
    left = (prior.deviations**2) @ (vectors**2 / (1 + values)).sum(axis=1)
    error = max(left / len(prior.directions), 1e-12)
    return (
        float(-10 * np.log10(error)),
        float(np.log2(1 + values).sum() / 2),
        float((values / (1 + values)).sum()),
        float(np.log10(max(own.mean(), 1e-12))),
        effective_rank(np.sqrt(own)),
    )


def effective_rank(singular_values: np.ndarray) -> float:
    """Returns the exponential of the entropy of singular values `[K]` as shares; 0 of none."""
    total = singular_values.sum()
    if not total > 0:
        return 0.0
    shares = singular_values[singular_values > 0] / total
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _radius(channel: Channel, own: Own, key: Array) -> float:
    """Returns `Leakage.class_radius`."""
    assert own.labels is not None
    numbers = range(min(own.jacobians, len(own.images)))
    noise = np.mean([channel.variance(number, key) for number in numbers], axis=0)
    released = channel.released(key) / np.sqrt(noise)
    squares = []
    for label in np.unique(own.labels):
        of_class = released[own.labels == label]
        squares.append(((of_class - of_class.mean(axis=0)) ** 2).sum(axis=1))
    return float(np.sqrt(np.concatenate(squares).mean()))
