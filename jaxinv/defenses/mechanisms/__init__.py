"""The mechanisms that come with the package, one a file. Clipping is made for its norm."""

from jaxinv.defenses.mechanism import Mechanism
from jaxinv.defenses.mechanisms.clip import clipped_gaussian, median_norm
from jaxinv.defenses.mechanisms.dropout import DROPOUT
from jaxinv.defenses.mechanisms.gaussian import GAUSSIAN
from jaxinv.defenses.mechanisms.laplace import LAPLACE
from jaxinv.defenses.mechanisms.nopeek import NOPEEK, distance_correlation
from jaxinv.defenses.mechanisms.project import PROJECT
from jaxinv.defenses.mechanisms.prune import PRUNE
from jaxinv.defenses.mechanisms.quantize import QUANTIZE

MECHANISMS: dict[str, Mechanism] = {
    mechanism.name: mechanism
    for mechanism in (GAUSSIAN, LAPLACE, DROPOUT, QUANTIZE, PRUNE, PROJECT, NOPEEK)
}
"""Mechanisms by name. `clipped_gaussian` makes the mechanism `clip` for a norm."""

__all__ = [
    "DROPOUT",
    "GAUSSIAN",
    "LAPLACE",
    "MECHANISMS",
    "NOPEEK",
    "PROJECT",
    "PRUNE",
    "QUANTIZE",
    "clipped_gaussian",
    "distance_correlation",
    "median_norm",
]
