"""Names of the two choices of a partition that cut nothing."""

CLOUD_ONLY = "cloud-only"
"""The image itself is sent."""

EDGE_ONLY = "edge-only"
"""Nothing is sent."""

SCREEN = "screen"
"""The effort of a few quick attackers, who prove nothing."""

FULL = "full"
"""The effort of every attack of every experiment that the threat models allow."""
