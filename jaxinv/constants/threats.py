"""Threat models, by the words for them. Standard library."""

THREATS = {"whitebox": "white-box", "blackbox": "black-box", "queryfree": "query-free"}
"""Threat models and how they are written, the best informed first."""
