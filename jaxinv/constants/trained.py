"""Names of the defences that are trained in. Standard library."""

NAMES = (
    "nopeek",
    "bido",
    "adversarial",
    "cem",
    "vib",
    "cloak",
    "shaped",
    "sca",
    "disco",
    "bottleneck",
    "codebook",
)
"""All of them, in the order in which people see them."""

UNCHANGED = frozenset(["nopeek", "bido", "adversarial", "cem", "sca", "disco"])
"""Defences whose edge sends its features as they are."""

BITS = "bottleneck"
"""Defence whose level is the bits of a value."""

CODE = "codebook"
"""Defence whose level is the bits of a release."""
