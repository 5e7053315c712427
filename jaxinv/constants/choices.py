"""Names of the two choices of a partition that cut nothing."""

CLOUD_ONLY = "cloud-only"
"""The image itself is sent."""

EDGE_ONLY = "edge-only"
"""Nothing is sent."""
