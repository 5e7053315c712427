"""Threat models, by the words for them. Standard library."""

THREATS = {"whitebox": "white-box", "blackbox": "black-box", "queryfree": "query-free"}
"""Threat models and how they are written, the best informed first."""


FLOOR = "mean"
"""The method that answers the mean of the surrogate images, whatever it sees."""


SHADOW = "shadow "
"""Name of the way of one of several shadows, before its number."""


def within(threat: str) -> tuple[str, ...]:
    """Returns a threat model and those who know less: whatever they can do, it can, too."""
    known = list(THREATS)
    return tuple(known[known.index(threat) :]) if threat in THREATS else (threat,)
