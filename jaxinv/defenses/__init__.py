"""Defences as values, and the release: the only thing that crosses the wire."""

from jaxinv.defenses.defenses import *  # noqa: F403
