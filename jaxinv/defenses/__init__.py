"""Defenses as values, and the release: everything that crosses the wire."""

from jaxinv.defenses.features import Joined, Rows
from jaxinv.defenses.likelihood import is_noisy, residual
from jaxinv.defenses.mechanism import NONE, SITES, Defense, Mechanism, Site, Step, Structure
from jaxinv.defenses.mechanisms import (
    DROPOUT,
    GAUSSIAN,
    LAPLACE,
    MECHANISMS,
    NOPEEK,
    PROJECT,
    PRUNE,
    QUANTIZE,
    clipped_gaussian,
    distance_correlation,
    median_norm,
)
from jaxinv.defenses.release import (
    Query,
    Release,
    defended_inputs,
    query_family,
    query_function,
    release_family,
    release_function,
    release_levels,
)

__all__ = [
    "DROPOUT",
    "GAUSSIAN",
    "LAPLACE",
    "MECHANISMS",
    "NONE",
    "NOPEEK",
    "PROJECT",
    "PRUNE",
    "QUANTIZE",
    "SITES",
    "Defense",
    "Joined",
    "Mechanism",
    "Query",
    "Release",
    "Rows",
    "Site",
    "Step",
    "Structure",
    "clipped_gaussian",
    "defended_inputs",
    "distance_correlation",
    "is_noisy",
    "median_norm",
    "query_family",
    "query_function",
    "release_family",
    "release_function",
    "release_levels",
    "residual",
]
