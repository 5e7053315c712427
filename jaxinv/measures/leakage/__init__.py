"""Leakage that is predicted without an attack, from the release of a few images of one's own.

A release is replaced by a linear channel with Gaussian noise around an image, and the attacker by
one who knows the mean and the covariance of images. Everything follows from the Jacobian of the
release, the noise and the covariance, in seconds. It is no bound: behind the curvature of a network
and a prior that knows more than a covariance, attackers do worse, or better. JAX for Jacobians,
NumPy for the rest.
"""

from jaxinv.measures.leakage.channel import REFERENCE, Channel
from jaxinv.measures.leakage.prior import Prior
from jaxinv.measures.leakage.statistics import STATISTICS, Leakage, Own, measure
